"""Names on the hub: pinned to a commit, asked of the hub or found in its local cache."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from bias_transfer.errors import UserError
from bias_transfer.errors import unknown

HUB_ID = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)?(@\w[\w.-]*)?")
"""NAME or OWNER/NAME, with @REVISION if one wants a certain one; never a way out of a folder."""

Kind = Literal["model", "dataset"]


class NotReachedError(UserError):
    """Neither the hub nor its local cache could be asked: what is there is not known."""


@lru_cache(maxsize=64)
def revision(name: str, kind: Kind) -> str:
    """The commit behind a name, asked once a process; from the local cache where the hub cannot be reached.

    Raises UserError for what neither has, with the nearest match in the cache.
    """
    repository, _, wanted = name.partition("@")
    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        return str(ask(repository, revision=wanted or None, timeout=5).sha)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        found, why, kind_of_error = None, f"the hub shows no such {kind} ({type(error).__name__})", UserError
    except Exception as error:  # whatever the transport in use raises: offline mode, no route, a proxy's refusal
        found, why = _cached(repository, wanted or "main", kind), f"the hub was not reached ({type(error).__name__})"
        kind_of_error = NotReachedError
    if found is None:
        raise kind_of_error(
            f"{unknown(NAMES[kind], name, [*EMBEDDED[kind], *_cached_names(kind)])} It is neither a file nor a folder here "
            f"nor in the local hub cache, and {why}.{did_you_mean(name)}"
        )
    return found


EMBEDDED: dict[Kind, list[str]] = {"model": ["tiny"], "dataset": ["synthetic"]}
NAMES: dict[Kind, str] = {"model": "model", "dataset": "data"}


def _cached(name: str, wanted: str, kind: Kind) -> str | None:
    folder = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"
    reference = folder / "refs" / wanted
    commit = reference.read_text().strip() if reference.is_file() else wanted
    return commit if (folder / "snapshots" / commit).is_dir() else None


def _cached_names(kind: Kind) -> list[str]:
    prefix = f"{kind}s--"
    return [
        path.name.removeprefix(prefix).replace("--", "/") for path in Path(constants.HF_HUB_CACHE).glob(f"{prefix}*")
    ]


def did_you_mean(path: str) -> str:
    """' Did you mean ...?' with the existing path that is nearest in spelling, or nothing."""
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
