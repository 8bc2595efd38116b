"""Hub ids and checkpoint folders: identified by content, so that a trial's model cannot change under the same id.

A hub id is pinned to the commit behind it, which the hub is asked for, or its local cache where the hub cannot be reached.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from huggingface_hub import CachedRepoInfo, CacheNotFound, HfApi, constants, scan_cache_dir
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import file_digest
from bias_transfer.models import checkpoint_faults, gguf

HUB_ID = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)?(@\w[\w.-]*)?")
"""NAME or OWNER/NAME, and optionally @REVISION. No id contains `..`, which could lead out of the cache's folder."""

Kind = Literal["model", "dataset"]

BUILT_IN: dict[Kind, list[str]] = {"model": ["tiny", "smollm2"], "dataset": ["synthetic"]}
"""Names that stand for no hub repository, and are allowed in its place."""

FIELD: dict[Kind, str] = {"model": "model", "dataset": "data"}
"""Kind of repository -> the trial's field that names it, for messages."""


class NotReachedError(UserError):
    """The hub could not be reached and its local cache lacks the repository: whether it exists is unknown."""


@lru_cache(maxsize=64)
def revision(name: str, kind: Kind) -> str:
    """The commit (40 hexadecimal digits) behind a hub id, looked up once per process.

    Where the hub cannot be reached, the local cache answers. Raises UserError for a repository or revision that the hub does
    not have, and NotReachedError if the hub cannot be reached and the cache lacks it; both name the nearest match.
    """
    repository, _, requested = name.partition("@")
    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        return str(ask(repository, revision=requested or None, timeout=5).sha)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(_missing(name, kind, f"the hub has no such {kind} ({type(error).__name__})")) from error
    except Exception as error:  # whatever the transport in use raises: offline mode, no route, a proxy's refusal
        commit = _cached_commit(repository, requested or "main", kind)
        if commit is None:
            why = f"the hub could not be reached ({type(error).__name__})"
            raise NotReachedError(_missing(name, kind, why)) from error
        return commit


def _missing(name: str, kind: Kind, why: str) -> str:
    allowed = [*BUILT_IN[kind], *(repository.repo_id for repository in _cached(kind))]
    return (
        f"{unknown(FIELD[kind], name, allowed)} There is no such file or folder, it is not in the local hub cache, and "
        f"{why}.{did_you_mean(name)}"
    )


def cached(repository: str) -> tuple[str, Path] | None:
    """Commit and folder of a model's main branch in the local hub cache; None where it is not there. The hub is not asked."""
    revisions = [each for known in _cached("model") if known.repo_id == repository for each in known.revisions]
    return next(((each.commit_hash, each.snapshot_path) for each in revisions if "main" in each.refs), None)


def _cached_commit(repository: str, requested: str, kind: Kind) -> str | None:
    """The cached commit that a branch, tag or commit names."""
    revisions = [each for cached in _cached(kind) if cached.repo_id == repository for each in cached.revisions]
    return next((each.commit_hash for each in revisions if requested in {*each.refs, each.commit_hash}), None)


def _cached(kind: Kind) -> Iterable[CachedRepoInfo]:
    """Repositories of that kind in the local hub cache. A damaged one is left out."""
    try:
        # The folder is passed on, since the function's own default is the folder at the time of its import.
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):  # no folder; one that cannot be read; a file
        return []
    return [repository for repository in repositories if repository.repo_type == kind]


def did_you_mean(path: str) -> str:
    """' Did you mean ...?' with the existing path that is nearest in spelling; empty if none is near."""
    near = _nearest(Path(path))
    return f" Did you mean {str(near)!r}?" if near else ""


def _nearest(path: Path) -> Path | None:
    if path.exists() or path == path.parent:
        return path
    parent = _nearest(path.parent)
    if parent is None or not parent.is_dir():
        return None
    close = difflib.get_close_matches(path.name, sorted(entry.name for entry in parent.iterdir()), n=1, cutoff=0.6)
    return parent / close[0] if close else None


def identify(model: str) -> str:
    """Digest of a checkpoint folder's content or of a GGUF file, or the commit behind a hub id.

    Raises UserError, with the nearest match, for a name that is neither.
    """
    if file := gguf.file_of(model):
        return file_digest(file)
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(checkpoint_faults.no_checkpoint(path))
        return folder_digest(path)
    if path.exists() or model[:1] in ("", ".", "/") or not HUB_ID.fullmatch(model):
        problem = "is a file." if path.exists() else f"does not exist.{did_you_mean(model)}"
        raise UserError(
            f"model {model!r} {problem} Allowed: tiny, smollm2, a checkpoint folder, a .gguf file, or a hub id."
        )
    return revision(model, "model")


def located(model: str, content: str) -> tuple[str, str | None]:
    """The arguments that transformers loads a model by, which is in no GGUF file: (folder or hub id, commit or None). content:
    what `identify` gave."""
    return (model, None) if Path(model).is_dir() else (model.partition("@")[0], content)


CHECKPOINT_SUFFIXES = (
    ".json", ".safetensors", ".txt", ".model", ".bpe", ".codes", ".spm", ".tiktoken", ".tokenizer"
)  # fmt: skip
"""Of weights, configurations, and every file that a tokenizer of transformers reads (`vocab_files_names`), such as BERTweet's
bpe.codes."""


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that make the model: weights, configuration and tokenizer."""
    return sorted(path for path in folder.iterdir() if path.suffix in CHECKPOINT_SUFFIXES)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of `checkpoint_files`; the folder's own path is not part of it."""
    parts = [[path.name, file_digest(path)] for path in checkpoint_files(folder)]
    # Not `hashing.digest`, whose JSON has no spaces: this digest is part of trials' ids.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
