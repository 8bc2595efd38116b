"""What other machines reach: BIAS_TRANSFER_STORAGE, a folder that all see or a URI such as s3://bucket/prefix."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from pyarrow import ArrowException
from pyarrow.fs import FileSystem, LocalFileSystem

from bias_transfer.storage import cache
from bias_transfer.errors import UserError
from bias_transfer.errors import first_line

WHOLE_WRITES = ("s3", "gcs", "abfs")
"""Storages in which a file that is being written is not there yet; elsewhere it is written aside and renamed."""


def default() -> str | None:
    """BIAS_TRANSFER_STORAGE if it is set, a folder as its whole path: other processes are given it."""
    own = os.environ.get("BIAS_TRANSFER_STORAGE")
    return str(Path(own).absolute()) if own and "://" not in own else own or None


def named(given: str | None) -> str:
    """The storage that is given, else the default, else the cache's folder, which other machines do not reach."""
    return given or default() or str(cache.default_folder())


def locate(storage: str, *parts: str) -> tuple[FileSystem, str]:
    """The file system, and the path of the parts in it. Raises UserError for a URI of no known kind."""
    try:
        filesystem, path = FileSystem.from_uri(storage if "://" in storage else str(Path(storage).absolute()))
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"BIAS_TRANSFER_STORAGE: {shown(storage)!r} cannot be used: {first_line(error).replace(storage, shown(storage))}. "
            "Allowed: a folder, or a URI such as s3://bucket/prefix."
        ) from None
    return filesystem, "/".join([path.rstrip("/"), *parts])


def shown(storage: str) -> str:
    """For messages: without a user, password or settings that a URI may hold."""
    parts = urlsplit(storage)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if "://" in storage else storage


def write(filesystem: FileSystem, path: str, content: bytes) -> None:
    """The file, and its folder, whole or not at all, in the place of an older one; on a disk of this machine it outlives a
    power cut. Raises OSError or ArrowException."""
    if filesystem.type_name in WHOLE_WRITES:
        _put(filesystem, path, content)
        return
    folder, _, name = path.rpartition("/")
    filesystem.create_dir(folder, recursive=True)
    aside = f"{folder}/.{name}.{uuid4().hex}"
    try:
        _put(filesystem, aside, content)
        filesystem.move(aside, path)
        if isinstance(filesystem, LocalFileSystem):
            _flush(folder)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(aside)
        raise


def _put(filesystem: FileSystem, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path, compression=None) as file:
        file.write(content)
    if isinstance(filesystem, LocalFileSystem):
        _flush(path)


def _flush(path: str) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read(filesystem: FileSystem, path: str) -> bytes:
    """Raises OSError or ArrowException."""
    with filesystem.open_input_file(path) as file:
        return bytes(file.read())
