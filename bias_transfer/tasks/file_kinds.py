"""What kind of table a file is, by its name; and its content, decompressed and decoded, or refused for what it is."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow

from bias_transfer.errors import UserError

FIRST = (".csv", ".tsv", ".parquet")
"""Kinds that a folder's files are looked for in first."""

KINDS = (*FIRST, ".txt", ".jsonl", ".ndjson", ".json", ".arrow")
"""Suffixes of tables, in any case."""


def _zstd(content: bytes) -> bytes:
    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".zst": _zstd}
"""What may follow such a suffix, as in .csv.gz."""

ALLOWED = "a .csv, .tsv, .txt (tabs), .jsonl, .json, .parquet or .arrow file, or .gz or .zst of one"
"""The kinds, for messages."""

EXCEL = "is an Excel workbook or another spreadsheet, which has no single table. Save the sheet as CSV UTF-8."
PICKLE = (
    "is a pickle, which can run any code when it is opened, so it is never read. The BIOS.pkl that De-Arteaga et al.'s scripts "
    'write becomes a .jsonl file by the five lines of Python in docs/usage.md, "BIOS.pkl"; any other table by '
    "pandas.read_pickle(FILE).to_json(NEW.jsonl, orient='records', lines=True)."
)
ZIP = "is a zip archive. Unpack it, and name the table in it."
NO_TABLE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), EXCEL),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz"), ZIP),
    ".feather": "is a Feather file. Rename it to .arrow.",
    ".bz2": "is compressed with bzip2. Unpack it, or compress it as .gz or .zst.",
    ".xz": "is compressed with xz. Unpack it, or compress it as .gz or .zst.",
}
"""Suffixes of files that are often given -> what such a file is, and what to do."""

MAGIC = {
    b"PK\x03\x04": "is an Excel workbook or a zip archive by its content. Save the sheet as CSV UTF-8.",
    b"\xd0\xcf\x11\xe0": f"{EXCEL}",
    b"\x1f\x8b": "is compressed with gzip by its content: add .gz to its name.",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd by its content: add .zst to its name.",
    b"PAR1": "is a Parquet file by its content: name it .parquet.",
    b"ARROW1": "is an Arrow file by its content: name it .arrow.",
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"version https://git-lfs": "is a git-lfs pointer and not the file itself. Fetch it: git lfs pull.",
    b"<!DOCTYPE": "is a web page and not the file itself. Download it again.",
    b"<html": "is a web page and not the file itself. Download it again.",
}
"""How a file begins -> what it is, whatever its name says."""

WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding. Those of UTF-32 come first, since one of them begins with one of UTF-16."""


def kind_of(path: Path) -> str:
    """The suffix in lower case, with that of the compression, as in .csv.gz; empty for a file that is no table."""
    packed = path.suffix.lower() if path.suffix.lower() in DECOMPRESS else ""
    inner = (Path(path.stem) if packed else path).suffix.lower()
    return inner + packed if inner in KINDS else ""


def inner_kind(kind: str) -> str:
    """The kind without its compression."""
    return f".{kind.split('.')[1]}" if kind else ""


def stem(path: Path) -> str:
    """The name without the suffixes that `kind_of` gives."""
    return path.name.removesuffix(path.name[-len(kind) :]) if (kind := kind_of(path)) else path.name


def read_bytes(path: Path) -> bytes:
    """The content, decompressed. Raises UserError for a file that cannot be read or decompressed, or is something else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from None
    suffix = path.suffix.lower()
    if suffix not in DECOMPRESS:
        return content
    refuse_others(path, content, but=suffix)
    try:
        return DECOMPRESS[suffix](content)
    except (OSError, EOFError, zlib.error, pyarrow.ArrowException, ValueError) as error:
        raise UserError(
            f"{path}: cannot be decompressed ({type(error).__name__}): it is damaged or not complete. Download it again."
        ) from None


COMPRESSED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


def refuse_others(path: Path, content: bytes, but: str = "") -> None:
    """Raises UserError for content that begins as in `MAGIC`, except for that of the compression `but`."""
    for magic, problem in MAGIC.items():
        if content.startswith(magic) and magic != COMPRESSED.get(but):
            raise UserError(f"{path} {problem}")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises UserError for any other encoding, naming the line: which one it is would be a guess, and a wrong guess changes texts.
    """
    content = read_bytes(path)
    refuse_others(path, content)
    encoding = next((name for mark, name in WIDE.items() if content.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in content.partition(b"\n")[0]:
        raise UserError(
            f"{path}: line 1 has null bytes, as in UTF-16 without a byte order mark. Save the file as UTF-8: "
            f"iconv -f UTF-16LE -t UTF-8 {path.name} > NEW"
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not {_named(encoding)}. {_remedy(path, content, error)}") from None


def _named(encoding: str) -> str:
    return encoding.removesuffix("-sig").upper()


def _remedy(path: Path, content: bytes, error: UnicodeDecodeError) -> str:
    byte = content[error.start]
    return (
        f"Its byte 0x{byte:02x} is one of Latin-1 or Windows-1252, most likely. Save the file as UTF-8: "
        f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > NEW"
    )
