"""Shared storage: BIAS_TRANSFER_STORAGE, a folder that all machines see or a URI such as s3://bucket/prefix."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pyarrow import ArrowException
from pyarrow.fs import FileSystem, LocalFileSystem

from bias_transfer.console import redacted
from bias_transfer.errors import UserError, first_line
from bias_transfer.storage import atomic, cache

WHOLE_WRITES = ("s3", "gcs", "abfs")
"""Object stores: a file appears there when its upload is complete, so that it needs no renaming."""


def default() -> str | None:
    """BIAS_TRANSFER_STORAGE if it is set; a folder as an absolute path, since it is handed to processes elsewhere."""
    setting = os.environ.get("BIAS_TRANSFER_STORAGE")
    return str(Path(setting).absolute()) if setting and "://" not in setting else setting or None


def named(storage: str | None) -> str:
    """The given storage, else the default one, else the cache's folder, which other machines do not reach."""
    return storage or default() or str(cache.default_folder())


def locate(storage: str, *parts: str) -> tuple[FileSystem, str]:
    """The file system of a storage, and the path of `parts` in it. Raises UserError for a URI that pyarrow does not support."""
    try:
        filesystem, path = FileSystem.from_uri(storage if "://" in storage else str(Path(storage).absolute()))
    except (ArrowException, OSError, ValueError) as error:
        shown = redacted(storage)
        raise UserError(
            f"BIAS_TRANSFER_STORAGE: {shown!r} cannot be used: {first_line(error).replace(storage, shown)}. "
            "Allowed: a folder, or a URI such as s3://bucket/prefix."
        ) from None
    return filesystem, "/".join([path.rstrip("/"), *parts])


def write(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write a file, and its folder, whole or not at all; an older file is replaced. On a disk of this machine the file also
    outlives a power cut. Raises OSError or ArrowException."""
    if filesystem.type_name in WHOLE_WRITES:
        _put(filesystem, path, content)
    elif isinstance(filesystem, LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(Path(path), durable=True) as new:
            new.write_bytes(content)
    else:
        _write_and_move(filesystem, path, content)


def _write_and_move(filesystem: FileSystem, path: str, content: bytes) -> None:
    """For remote file systems with folders, such as HDFS."""
    folder, _, name = path.rpartition("/")
    filesystem.create_dir(folder, recursive=True)
    # A random name, since workers on several machines may write the same file at once.
    new = f"{folder}/.{name}.{uuid4().hex}"
    try:
        _put(filesystem, new, content)
        filesystem.move(new, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(new)
        raise


def _put(filesystem: FileSystem, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path, compression=None) as file:
        file.write(content)


def read(filesystem: FileSystem, path: str) -> bytes:
    """The content of a file. Raises OSError or ArrowException."""
    with filesystem.open_input_file(path) as file:
        return bytes(file.read())
