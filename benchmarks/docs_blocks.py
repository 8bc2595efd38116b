"""Blocks of the pages in docs/ that programs write, between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
FAULT_TOLERANCE = DOCS / "fault_tolerance.md"
PERFORMANCE = DOCS / "performance.md"


def part(name: str, page: Path = FAULT_TOLERANCE) -> str:
    """The text of a block; empty if the page does not have the block."""
    text = page.read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]


def put(name: str, text: str, page: Path = FAULT_TOLERANCE) -> None:
    """Replace the text of a block. Raises ValueError unless the page has exactly one block of this name."""
    old = page.read_text(encoding="utf-8")
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    new, count = re.subn(
        rf"{re.escape(marks[0])}\n.*?{re.escape(marks[1])}",
        lambda _: f"{marks[0]}\n{text.strip()}\n{marks[1]}",
        old,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page.name} has no block {name!r}, or several")
    page.write_text(new, encoding="utf-8")
