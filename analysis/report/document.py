"""A document as plain values, and its two forms: a self-contained HTML file that also prints well, and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences with an optional title."""

    items: Sequence[str]
    title: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """A table; its caption says what it shows and in which units."""

    frame: pd.DataFrame
    caption: str


@dataclass(frozen=True)
class Picture:
    """A figure, by the stem of its files next to the document (`STEM.svg`, `STEM.png`)."""

    stem: str
    title: str
    caption: str


@dataclass(frozen=True)
class Chart:
    """An interactive chart. In Markdown it is left out."""

    name: str
    """Letters, digits and hyphens, unique in the document."""
    specification: str
    """Vega-Lite's JSON."""
    title: str
    caption: str


@dataclass(frozen=True)
class Headline:
    """The answer of the whole document in a sentence or two."""

    text: str


@dataclass(frozen=True)
class Answers:
    """Questions with their answers."""

    answers: Mapping[str, str]


@dataclass(frozen=True)
class Command:
    """What to do next, and the command that does it, or none."""

    text: str
    command: str


Block = Text | Items | Grid | Picture | Chart | Headline | Answers | Command


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and its content."""

    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True, eq=False)
class Document:
    """A title, a lead paragraph, what stands on the first screen, and sections, which are folded in HTML."""

    title: str
    lead: str
    sections: Sequence[Section]
    front: Sequence[Block] = ()

    @property
    def chapters(self) -> list[list[Section]]:
        """The sections of level 2, each with those of a deeper level that follow it."""
        chapters: list[list[Section]] = []
        for section in self.sections:
            if section.level == 2:
                chapters.append([])
            chapters[-1].append(section)
        return chapters

    @property
    def blocks(self) -> list[Block]:
        """All blocks, in their order."""
        return [*self.front, *(block for section in self.sections for block in section.blocks)]


def cell(value: Any) -> str:
    """The text of a table's cell: four significant digits for floats, "missing" for NaN."""
    if isinstance(value, float):
        return "missing" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def numeric(frame: pd.DataFrame) -> list[bool]:
    """Whether each column holds numbers."""
    return [frame[name].dtype.kind in "iuf" for name in frame.columns]


def rows(frame: pd.DataFrame) -> list[list[str]]:
    """The texts of a table's cells, by row."""
    return [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]


def markdown(document: Document) -> str:
    """The document as Markdown: pictures are linked, tables use pipes, and tags and links within texts are escaped."""
    parts = [f"# {plain(document.title)}", *map(_block, document.front), plain(document.lead)]
    for section in document.sections:
        parts.append(f"{'#' * section.level} {plain(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Markdown that shows the text literally: a group may be called `<script>`, or `![](https://...)`."""
    return re.sub(r"<(?=[A-Za-z/!?])|(?<=\])[(\[]", r"\\\g<0>", text)


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return plain(block.text)
    if isinstance(block, Chart):
        return ""
    if isinstance(block, Headline):
        return f"**{plain(block.text)}**"
    if isinstance(block, Answers):
        return "\n".join(f"- **{plain(question)}** {plain(answer)}" for question, answer in block.answers.items())
    if isinstance(block, Command):
        return f"**Next:** {plain(block.text)}" + (f"\n\n    {block.command}" if block.command else "")
    if isinstance(block, Items):
        title = [f"**{plain(block.title)}**", ""] if block.title else []
        return "\n".join([*title, *(f"- {plain(item)}" for item in block.items)])
    if isinstance(block, Picture):
        name = plain(block.title)
        return f"![{name}]({block.stem}.png)\n\n*{name}. {plain(block.caption)}*"
    head = "| " + " | ".join(map(str, block.frame.columns)) + " |"
    rule = "| " + " | ".join("--:" if number else "---" for number in numeric(block.frame)) + " |"
    body = ["| " + " | ".join(plain(text).replace("|", "\\|") for text in row) + " |" for row in rows(block.frame)]
    return "\n".join([head, rule, *body, "", f"*{plain(block.caption)}*"])


def html(document: Document, drawings: Mapping[str, str], script: Callable[[], str] = str) -> str:
    """The document as one HTML file that fetches nothing. drawings: stem of a picture -> its SVG; script: what defines
    `vegaEmbed`, which is inlined once if the document has a chart."""
    environment = Environment(
        loader=PackageLoader("analysis.report", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(rows=rows, numeric=numeric, svg=lambda stem: Markup(inline(drawings[stem], stem)))  # noqa: S704
    kinds: tuple[type[Any], ...] = (Text, Items, Grid, Picture, Chart, Headline, Answers, Command)
    tests: dict[str, Any] = {kind.__name__.lower(): partial(_is_a, kind) for kind in kinds}
    environment.tests.update(tests)
    charts = [block for block in document.blocks if isinstance(block, Chart)]
    vega = Markup(script()) if charts else ""  # noqa: S704
    return environment.get_template(TEMPLATE).render(document=document, vega=vega)


def _is_a(kind: type[Any], block: Block) -> bool:
    return isinstance(block, kind)


def inline(svg: str, stem: str) -> str:
    """An SVG to embed in a page: without its prolog, and with ids that start with its stem, since a page shares its ids."""
    embedded = svg[svg.index("<svg") :]
    for name in ('id="', 'href="#', "url(#"):
        embedded = embedded.replace(name, f"{name}{stem}-")
    return embedded.replace("<svg ", '<svg role="img" ', 1)


def drawings(folder: Path, document: Document) -> dict[str, str]:
    """Stem -> SVG of every picture in the document."""
    pictures = [block for block in document.blocks if isinstance(block, Picture)]
    return {picture.stem: (folder / f"{picture.stem}.svg").read_text(encoding="utf-8") for picture in pictures}
