"""Hostile group names: whoever writes a task file chooses them, and tables, pages and figures must show them as plain text."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import analysis.__main__ as command
from analysis.report import write
from bias_transfer.console import application
from bias_transfer.spec import Measure, Trial, TrialResult
from bias_transfer.tracking import recorder, store, sweeps

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
NAMES = (
    "<script>alert(1)</script>", '"><img src=http://127.0.0.1:9/a onerror=alert(1)>', "{{ 7 * 7 }}",
    "![b](http://127.0.0.1:9/b.png)", "[c](javascript:alert(1))", '=HYPERLINK("http://127.0.0.1:9")', "+1+1", "-2+3",
    "@SUM(1+1)", r"$\frac{$", "[/]", "[red]", "../../outside", "a|b", "%s {0}", "'; DROP TABLE runs; --", "&amp; &lt;",
    "</td></table><h1>d", "<!-- e",
)  # fmt: skip
UNMENTIONED = 5
"""The fine-tuning set never mentions the first groups, so the report names them in a sentence."""


def measures(trial):
    draw = np.random.default_rng([trial.seed, trial.upstream == "perturb"])
    moved = 0.1 * draw.normal(size=len(NAMES)) if trial.upstream == "perturb" else np.zeros(len(NAMES))
    for g, name in enumerate(NAMES):
        x, k = math.sin(g) / 10 + moved[g], g + 1
        rate = round(757 * math.exp(-1.5 + 2 * x + 0.02 * k + 0.02 * draw.normal())) / 757
        yield Measure("upstream", "negative_sentiment", name, "<b>The {group} person is {mask}.", x, 30)
        yield Measure("dataset", "toxic_share", name, "", *((k / 40, 40) if g >= UNMENTIONED else (math.nan, 0)))
        yield Measure("downstream", "fpr", name, "", rate, 757)
    yield Measure("utility", "accuracy", "", "", 0.875, 800)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The result of the command, and its output folder."""
    base = tmp_path_factory.mktemp("hostile")
    uri = f"sqlite:///{base}/mlflow.db"
    client = store.connect(uri, create=True)
    trials = [
        Trial(upstream=arm, upstream_dose=dose, seed=seed, data_digest="d", model_digest="m", data="<i>data</i>")
        for arm, dose in (("none", None), ("perturb", 0.5))
        for seed in range(2)
    ]
    parent = sweeps.open_sweep(client, "hostile", trials, PRIMARY)
    for trial in trials:
        run = recorder.start(client, "hostile", trial, parent)
        recorder.record(client, run, TrialResult(trial, tuple(measures(trial)), (), {}, {"digest.train": "abc"}))
    sweeps.close_sweep(client, parent, True)
    folder = base / "results" / "hostile"
    return CliRunner().invoke(
        application(command.main), ["hostile", "--tracking-uri", uri, "--out", str(folder)]
    ), folder


def test_files_are_written_to_the_folder_and_nowhere_else(written):
    result, folder = written
    assert result.exit_code == 0, result.output
    assert [path.name for path in folder.parent.iterdir()] == ["hostile"]
    assert not (folder.parents[1] / "outside").exists()


def test_no_cell_is_a_formula(written):
    cells = [
        (path.name, cell)
        for path in written[1].glob("*.csv")
        for row in csv.reader(path.read_text(encoding="utf-8").splitlines())
        for cell in row
    ]
    assert not [(name, cell) for name, cell in cells if cell.startswith(write.NEUTRALISED) and not is_number(cell)]
    shown = {cell for name, cell in cells if name == "measures.csv"}
    assert {name for name in NAMES if not name.startswith(write.NEUTRALISED)} <= shown
    assert {f"'{name}" for name in NAMES if name.startswith(write.NEUTRALISED)} <= shown


def is_number(cell):
    try:
        return bool(repr(float(cell)))
    except ValueError:
        return False


class Tags(HTMLParser):
    """The tags of a page, the addresses that it fetches or links to, its event handlers, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.handlers, self.words = set(), [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def harmless(page, *local):
    """The active tags, event handlers and outside addresses of a page; all empty if it is harmless."""
    found = Tags(page)
    outside = [one for one in found.addresses if not one.startswith("#") and not one.endswith(local or ("#",))]
    return {*found.tags} & {"script", "i", "h6"}, found.handlers, outside


SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)


def test_the_html_report_shows_names_as_text(written):
    page = (written[1] / "report.html").read_text(encoding="utf-8")
    scripts = SCRIPT.findall(page)
    assert harmless(SCRIPT.sub("", page)) == (set(), [], [])
    words = " ".join(Tags(page).words)
    assert all(name in words for name in NAMES[:UNMENTIONED])
    # What runs is the project's own, and what holds names is data that nothing runs.
    code = [text for attributes, text in scripts if not attributes]
    data = [json.loads(text) for attributes, text in scripts if attributes.startswith(' type="application/json"')]
    assert len(code) == 3
    assert len(code) + len(data) == len(scripts)
    assert not any(name in text for text in code for name in NAMES)
    assert any(NAMES[0] in json.dumps(chart, ensure_ascii=False) for chart in data) or '"' in NAMES[0]


def test_the_markdown_report_shows_names_as_text_even_where_html_is_allowed(written):
    text = (written[1] / "report.md").read_text(encoding="utf-8")
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert harmless(page, ".png") == (set(), [], [])
    assert not [address for address in Tags(page).addresses if "127.0.0.1" in address]
    assert all(name in " ".join(Tags(page).words) for name in NAMES[:UNMENTIONED])


def test_unescaped_names_would_be_detected():
    """The negative control of the two tests above."""
    assert harmless(f"<p>{NAMES[0]}{NAMES[1]}</p>") == ({"script"}, ["onerror"], ["http://127.0.0.1:9/a"])
    assert Tags(MarkdownIt("commonmark").render("![b](http://127.0.0.1:9/b.png)")).addresses == [
        "http://127.0.0.1:9/b.png"
    ]
