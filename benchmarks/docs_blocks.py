"""A page of docs/ of which a program writes parts, between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
RELIABILITY = DOCS / "reliability.md"
PERFORMANCE = DOCS / "performance.md"


def part(name: str, page: Path = RELIABILITY) -> str:
    """What stands between the marks; nothing where they are missing."""
    text = page.read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]


def put(name: str, text: str, page: Path = RELIABILITY) -> None:
    """Replace what stands between the marks. Raises ValueError where they are missing."""
    old = page.read_text(encoding="utf-8")
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    new, found = re.subn(
        rf"{re.escape(marks[0])}\n.*?{re.escape(marks[1])}",
        lambda _: f"{marks[0]}\n{text.strip()}\n{marks[1]}",
        old,
        flags=re.DOTALL,
    )
    if found != 1:
        raise ValueError(f"{page.name} has no part {name!r}, or several")
    page.write_text(new, encoding="utf-8")
