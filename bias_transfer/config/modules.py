"""Find, digest and load the Python modules that `plugins` names, each with the modules of its own package that it imports.

Sources are found and read without importing anything. What is loaded is compiled from the very bytes that were digested, so
that no cached bytecode, and no file that was edited in between, can run under the digest of another.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from bias_transfer.errors import UserError, first_line
from bias_transfer.hashing import digest
from bias_transfer.spec import module_of

OWN = ("bias_transfer", "analysis")
"""Packages of the project: a plugin imports them freely, and is none of their modules."""

INIT = "__init__"

ALLOWED = (
    "Allowed: a module that Python finds (installed, on PYTHONPATH, or in the current folder), or FOLDER/MODULE for one in "
    "another folder."
)


@dataclass(frozen=True)
class Source:
    """The source of one module."""

    name: str
    """Dotted."""
    content: bytes
    package: bool
    """Whether it is the `__init__` of a package."""
    path: Path
    """Where it was read."""

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return sha256(self.content).hexdigest()

    @property
    def flat(self) -> str:
        """A file name that holds the module's name: `my_lab.arms.py`, `my_lab.__init__.py`."""
        return f"{self.name}.{INIT}.py" if self.package else f"{self.name}.py"


@dataclass(frozen=True)
class Plugin:
    """A module that `plugins` names, with the modules of its own package that it imports."""

    name: str
    """Dotted."""
    sources: Mapping[str, Source]
    """By the modules' names, sorted: the plugin itself, what it imports of its own top-level package, directly or through
    another of these modules, and the `__init__` of the packages that they are in."""

    @property
    def digest(self) -> str:
        """It depends on the modules' names and bytes, and not on where they are stored."""
        return digest({name: source.digest for name, source in self.sources.items()})

    @property
    def described(self) -> str:
        """Module, file and digest in one line, with the modules that it takes with it."""
        others = ", ".join(name for name in self.sources if name != self.name)
        return f"{self.name}: {self.sources[self.name].path}{f' (with {others})' if others else ''}, digest {self.digest[:12]}"


Look = Callable[[str], Source | None]
"""Dotted name -> the source; None for what is no module with a file, as a name within a module."""


def find_all(given: Sequence[str] | None) -> tuple[Plugin, ...]:
    """The plugins, each an entry of `Trial.plugins`. Raises UserError for one that is not found, is no valid Python, or imports
    a module next to it that is not in its package."""
    if not given:
        return ()
    importlib.invalidate_caches()
    return tuple(_find(entry) for entry in given)


def from_flat(folder: Path, given: Sequence[str]) -> tuple[Plugin, ...]:
    """The same from a folder with the sources under their `Source.flat` names, as they are sent to other machines."""
    sources = dict[str, Source]()
    for path in folder.glob("*.py"):
        name = path.name.removesuffix(".py")
        package = name.endswith(f".{INIT}")
        name = name.removesuffix(f".{INIT}")
        sources[name] = Source(name, path.read_bytes(), package, path)
    return tuple(_closure(module_of(entry), sources.get, entry) for entry in given)


def digest_of(plugins: Sequence[Plugin]) -> str | None:
    """Of the names and content of all; None for no plugin."""
    return digest({plugin.name: plugin.digest for plugin in plugins}) if plugins else None


def sources_of(plugins: Sequence[Plugin]) -> dict[str, Source]:
    """All modules by name. Raises UserError for two modules of the same name with different content."""
    sources = dict[str, Source]()
    for plugin in plugins:
        for name, source in plugin.sources.items():
            if sources.setdefault(name, source).content != source.content:
                raise UserError(
                    f"plugins: {source.path} and {sources[name].path} are both the module {name}. Rename one of the packages."
                )
    return sources


def _find(entry: str) -> Plugin:
    name, folder = module_of(entry), entry.rpartition("/")[0] if "/" in entry else None
    top = name.partition(".")[0]
    if top in OWN or top in sys.stdlib_module_names:
        owner = "this project" if top in OWN else "Python's standard library"
        raise UserError(f"plugin {entry}: {top} belongs to {owner}, and is no plugin. {ALLOWED}")
    look = functools.partial(_on_disk, folder)
    if look(name) is None:
        raise UserError(f"plugin {entry}: there is no module {name}.{_nearest(name, folder)} {ALLOWED}")
    plugin = _closure(name, look, entry)
    for source in plugin.sources.values():
        _check_neighbours(source, top, entry)
    return plugin


@dataclass(frozen=True)
class _Place:
    """Where a module is stored."""

    path: Path | None
    """Its file; None for a package without an `__init__`."""
    folders: tuple[Path, ...] | None
    """Where the modules of a package are stored; None for a module that is no package."""


def _on_disk(folder: str | None, name: str) -> Source | None:
    """Raises UserError for a module without source, as compiled code is."""
    top, *rest = name.split(".")
    place = _top_level(folder, top)
    for part in rest:
        place = _within(place, part)
    if place is None or place.path is None:
        return None
    if place.path.suffix != ".py":
        raise UserError(
            f"plugin: the module {name} ({place.path}) is no Python source, so what it does cannot be known"
        )
    stat = place.path.stat()
    content = _read(place.path, stat.st_mtime_ns, stat.st_size)
    return Source(name, content, place.folders is not None, place.path)


@functools.lru_cache(maxsize=256)  # a grid of hundreds of trials asks for the same files
def _read(path: Path, modified: int, size: int) -> bytes:
    return path.read_bytes()


def _top_level(folder: str | None, top: str) -> _Place | None:
    """Where Python would find the module, or where it is in the folder that is named. Nothing is imported."""
    if folder is not None:
        return _within(_Place(None, (Path(folder).absolute(),)), top)
    for finder in sys.meta_path:
        if spec := finder.find_spec(top, None):
            break
    else:
        # Last, so that a file that happens to be in the current folder never hides an installed package.
        return _within(_Place(None, (Path.cwd(),)), top)
    folders = spec.submodule_search_locations
    return _Place(
        Path(spec.origin) if spec.has_location and spec.origin else None,
        None if folders is None else tuple(map(Path, folders)),
    )


def _within(place: _Place | None, part: str) -> _Place | None:
    """A module of a package: itself a package, a file, compiled code, or a package without an `__init__`."""
    for folder in (place.folders or ()) if place else ():
        if (path := folder / part / f"{INIT}.py").is_file():
            return _Place(path, (folder / part,))
        files = [folder / f"{part}{suffix}" for suffix in importlib.machinery.all_suffixes()]
        if existing := [file for file in files if file.is_file()]:
            return _Place(existing[0], None)
    folders = tuple(folder / part for folder in (place.folders or ())) if place else ()
    namespace = tuple(folder for folder in folders if folder.is_dir())
    return _Place(None, namespace) if namespace else None


def _nearest(name: str, folder: str | None) -> str:
    """The module of the same package with the most similar name, if there is one."""
    parent = name.rpartition(".")[0]
    top, *rest = parent.split(".")
    place = _top_level(folder, top) if parent else _Place(None, (Path(folder or "."),))
    for part in rest:
        place = _within(place, part)
    folders = (place.folders or ()) if place else ()
    names = {path.stem for each in folders if each.is_dir() for path in each.glob("*.py")}
    near = difflib.get_close_matches(name.rpartition(".")[2], names - {INIT}, n=1, cutoff=0.5)
    return f" Did you mean {'.'.join([*([parent] if parent else []), near[0]])!r}?" if near else ""


def _closure(name: str, look: Look, entry: str) -> Plugin:
    """The plugin of that name with what it imports of its own top-level package."""
    top, found, todo = name.partition(".")[0], dict[str, Source](), [name]
    seen = set[str]()
    while todo:
        each = todo.pop()
        if each in seen:
            continue
        seen.add(each)
        parent = each.rpartition(".")[0]
        todo += [parent] if parent else []
        if (source := look(each)) is not None:
            found[each] = source
            todo += [other for other in _imports(source, entry) if other.partition(".")[0] == top]
    if name not in found:
        raise UserError(f"plugin {entry}: there is no module {name}. {ALLOWED}")
    return Plugin(name, dict(sorted(found.items())))


def _imports(source: Source, entry: str) -> tuple[str, ...]:
    return imported(source.name, source.content, source.package, str(source.path), entry)


@functools.lru_cache(maxsize=256)
def imported(name: str, content: bytes, package: bool, path: str, entry: str) -> tuple[str, ...]:
    """Dotted names that a module's import statements name, wherever they stand in it. Raises UserError for invalid Python."""
    return tuple(
        found
        for node in ast.walk(parse(content, path, entry))
        for found in _named(node, name if package else _up(name))
    )


def parse(content: bytes, path: str, entry: str) -> ast.Module:
    """The syntax tree. Raises UserError for invalid Python."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise UserError(f"plugin {entry}: {path} is not valid Python: {line}{first_line(error)}") from None


def _up(name: str) -> str:
    return name.rpartition(".")[0]


def _named(node: ast.AST, package: str) -> Iterator[str]:
    """What one statement imports. package: the one that a relative import starts from."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        for _ in range(node.level - 1):
            package = _up(package)
        base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
        # `from my_lab import tools` may name a module or a value: `look` finds out.
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*"))


def _check_neighbours(source: Source, top: str, entry: str) -> None:
    """Raises UserError for an import of a module that is stored next to the plugin, outside its package: nobody would notice an
    edit of it, and no other machine would have it."""
    parts = source.name.split(".")
    root = source.path.parents[len(parts) if source.package else len(parts) - 1]
    if any(root.is_relative_to(place) for place in _installed()):
        return
    for other in {name.partition(".")[0] for name in _imports(source, entry)} - {top, *OWN}:
        if (root / f"{other}.py").is_file() or (root / other / f"{INIT}.py").is_file():
            raise UserError(
                f"plugin {entry}: {source.path} imports {other}, which is stored next to it and is not in its package, so its "
                f"content would enter no id. Move both into one package (a folder), and name the plugin PACKAGE.MODULE."
            )


def _installed() -> set[Path]:
    paths = sysconfig.get_paths()
    return {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


class _Loader(importlib.abc.SourceLoader):
    """Loads one module from a `Source`."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def get_filename(self, fullname: str) -> str:
        return str(self.source.path)

    def get_data(self, path: str | bytes) -> bytes:
        return self.source.content


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `sources`, and nothing else."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As the import system asks."""
        source = self.sources.get(fullname)
        if source is None:
            return self._namespace(fullname)
        spec = importlib.machinery.ModuleSpec(
            fullname, _Loader(source), origin=str(source.path), is_package=source.package
        )
        spec.has_location = True
        if source.package and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(source.path.parent))
        return spec

    def _namespace(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """A package without an `__init__`, whose parts are elsewhere on this machine or nowhere."""
        if not any(other.startswith(f"{name}.") for other in self.sources):
            return None
        empty = Source(name, b"", True, Path(os.devnull))
        return importlib.machinery.ModuleSpec(name, _Loader(empty), is_package=True)


def load(plugins: Sequence[Plugin]) -> tuple[ModuleType, ...]:
    """The plugins' modules, executed from their sources. A module of the same name with other content, however it was imported
    before, makes room for them. Raises UserError if one cannot be imported.
    """
    sources = sources_of(plugins)
    if not all(_is_loaded(source) for source in sources.values()):
        _forget(sources)
        _execute(plugins, sources)
    return tuple(sys.modules[plugin.name] for plugin in plugins)


def _is_loaded(source: Source) -> bool:
    loader = _loader(source.name)
    return isinstance(loader, _Loader) and loader.source == source


def _loader(name: str) -> object:
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None)


def _forget(sources: Mapping[str, Source]) -> None:
    for name in sources:
        sys.modules.pop(name, None)


def _execute(plugins: Sequence[Plugin], sources: Mapping[str, Source]) -> None:
    # The finder is here while modules are loaded, and not after: all of them are loaded now, also those that only a function
    # imports, since another version of the package may be what Python finds later.
    finder, before = _Finder(sources), set(sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        for plugin in plugins:
            for name in (plugin.name, *plugin.sources):
                _import(name, plugin)
            _check_loaded(plugin, set(sys.modules) - before - sources.keys())
    except UserError:
        _forget(sources)
        raise
    finally:
        sys.meta_path.remove(finder)


def _import(name: str, plugin: Plugin) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"plugin {plugin.name} cannot be imported: {type(error).__name__}: {first_line(error)} "
            f"({_place(error, plugin)})"
        ) from error


def _check_loaded(plugin: Plugin, others: set[str]) -> None:
    """Raises UserError for a module of the plugin's package that no import statement names, as `importlib` loads them."""
    top = plugin.name.partition(".")[0]
    for name in sorted(others):
        if name.partition(".")[0] == top and not isinstance(_loader(name), _Loader):
            raise UserError(
                f"plugin {plugin.name} loads {name} otherwise than by an import statement, so its content would enter no id. "
                f"Write it as an import statement."
            )


def _place(error: BaseException, plugin: Plugin) -> str:
    """FILE:LINE of the plugin's own line that failed."""
    own, place, frame = {str(source.path) for source in plugin.sources.values()}, "", error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        place = f"{file}:{frame.tb_lineno}" if file in own else place
        frame = frame.tb_next
    return place or str(plugin.sources[plugin.name].path)
