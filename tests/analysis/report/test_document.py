"""A report's two forms say the same, and the HTML needs nothing beside itself."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis.report.document import (
    Document,
    Grid,
    Items,
    Picture,
    Section,
    Text,
    cell,
    drawings,
    html,
    inline,
    markdown,
)

SVG = (
    '<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg"><defs><g id="a"/></defs><use xlink:href="#a"/>'
    '<path clip-path="url(#a)"/></svg>'
)


def document() -> Document:
    frame = pd.DataFrame({"arm": ["none", "a|b <i>"], "n": [3, 0], "value": [0.123456, math.nan]})
    return Document(
        "A & B", "The lead.",
        (
            Section("Findings", (Items(("One <script>.", "Two."), "Said"), Text("A paragraph."))),
            Section("Tables", (Grid(frame, "Means."), Picture("one", "First", "n = 3"), Picture("two", "Second", "n = 4"))),
        ),
    )  # fmt: skip


class Reader(HTMLParser):
    """Checks that tags close in order, and collects text, ids and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.words, self.ids, self.addresses = list[str](), list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture
def page() -> Reader:
    reader = Reader()
    reader.feed(html(document(), {"one": SVG, "two": SVG}))
    return reader


def test_html_is_well_formed_escaped_and_needs_nothing_else(page: Reader) -> None:
    assert not page.open
    text = " ".join(" ".join(page.words).split())
    for said in (
        "A & B",
        "Said",
        "One <script>.",
        "A paragraph.",
        "a|b <i>",
        "0.1235",
        "missing",
        "Means.",
        "First. n = 3",
    ):
        assert said in text
    assert all(address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_without_own_ids_two_drawings_would_share_them() -> None:
    """The control of the test above."""
    assert SVG.count('id="a"') == inline(SVG, "one").count('id="one-a"') == 1
    assert inline(SVG, "one").startswith("<svg")
    assert not re.search(r'(id="|#)a\b', inline(SVG, "one"))


def test_markdown_says_the_same() -> None:
    text = markdown(document())
    assert text.startswith(
        "# A & B\n\nThe lead.\n\n## Findings\n\n**Said**\n\n- One \\<script>.\n- Two.\n\nA paragraph."
    )
    assert "| arm | n | value |\n| --- | --: | --: |\n| none | 3 | 0.1235 |\n| a\\|b \\<i> | 0 | missing |" in text
    assert "![First](one.png)\n\n*First. n = 3*" in text


def test_cells_and_drawings(tmp_path: Path) -> None:
    assert [cell(value) for value in (3, 0.00012345, 1e9, math.nan, "x")] == ["3", "0.0001234", "1e+09", "missing", "x"]
    for stem in ("one", "two"):
        (tmp_path / f"{stem}.svg").write_text(stem)
    assert drawings(tmp_path, document()) == {"one": "one", "two": "two"}
