"""Texts stay where the data are, secrets stay with who gave them, and names stay within their folders (docs/security.md)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import analysis.__main__ as analysis_command
from bias_transfer.commands import trial as commands_trial
from bias_transfer.console import application, redacted
from bias_transfer.errors import UserError
from bias_transfer.models import hub
from bias_transfer.sweep import __main__ as sweep_command
from bias_transfer.tasks.bios import data as bios_data
from bias_transfer.tasks.bios import synthetic as bios_synthetic
from bias_transfer.tasks.custom import data as custom_data
from bias_transfer.tasks.custom import schema
from bias_transfer.tasks.wiki import data as wiki_data
from bias_transfer.tasks.wiki import synthetic
from bias_transfer.tracking import store, sweeps

CANARY, NAME = "zqcanary", "Zqpersona"
"""In every text of the data; in every person's name."""

CONFIG = """
defaults:
  model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 3000}
  epochs: 0.5
  max_tokens: 32
grid:
  - {task: wiki, data: comments.csv, downstream: [none, {name: scrub, dose: 1}]}
  - {task: wiki, data: comments.csv, learning_rate: 1e30}
  - {task: bios, data: biographies.csv, downstream: {name: scrub, dose: 1}}
"""
"""One of its trials fails: its loss diverges."""


def write_data(folder: Path) -> None:
    wiki = synthetic.generate(synthetic.SyntheticOptions(size=300, pretraining_sentences=300))
    rows = [row for part in (wiki.train, wiki.dev, wiki.test) for row in part]
    pd.DataFrame(
        [{"comment": f"{CANARY}{n} {row['text']}", "toxic": row["label"]} for n, row in enumerate(rows)]
    ).to_csv(folder / "comments.csv", index=False)
    bios = bios_synthetic.generate(bios_synthetic.SyntheticBiosOptions(size=600, pretraining_sentences=300))
    rows = [row for part in (bios.train, bios.dev, bios.test) for row in part]
    pd.DataFrame(
        [
            {
                "hard_text": f"{row['text']} {NAME} {CANARY}{n}",
                "profession": row["label"],
                "gender": int(row["pronoun"] == "she"),
                "names": NAME,
            }
            for n, row in enumerate(rows)
        ]
    ).to_csv(folder / "biographies.csv", index=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Iterator[tuple[Path, Path, list[str]]]:
    """Folder of a sweep over such data and of its analysis, folder of its Ray, and what both printed."""
    folder = tmp_path_factory.mktemp("swept")
    write_data(folder)
    (folder / "small.yaml").write_text(CONFIG)
    ray = Path(tempfile.mkdtemp(prefix="bt-"))  # short: a socket's path has at most 107 characters
    own = {"BIAS_TRANSFER_CACHE": str(folder / "cache"), "RAY_TMPDIR": str(ray), "RAY_worker_niceness": "0"}
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}, **own}
    printed = []
    for words in (["bias_transfer.sweep", "small.yaml"], ["analysis", "small", "--allow-missing"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
        )
        printed += [done.stdout, done.stderr]
    yield folder, ray, printed
    shutil.rmtree(ray, ignore_errors=True)


def quoting(folder: Path) -> list[str]:
    """Files under the folder that hold a canary, compressed tables read out."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += pd.read_parquet(path).to_csv().encode()
            if any(word.lower().encode() in content.lower() for word in (CANARY, NAME)):
                found.append(path.name)
    return sorted(found)


@pytest.mark.long
def test_no_text_reaches_mlflow_the_logs_or_the_report(swept: tuple[Path, Path, list[str]]):
    folder, ray, printed = swept
    found = sweeps.read("small", uri=f"sqlite:///{folder / 'mlflow.db'}")
    assert len(found.runs) == 3, printed
    assert "TrainingDiverged" in str(found.failed)
    assert (folder / "results" / "small" / "report.html").is_file(), printed
    assert not [text for text in printed if CANARY in text or NAME in text]
    assert [*ray.rglob("*.log")]
    assert quoting(ray) == []
    shutil.rmtree(folder / "cache" / "tiny")  # a tokenizer's words: what is shared between trials stays on the machine
    assert quoting(folder) == ["biographies.csv", "comments.csv"]


ROWS = {
    "a row too long": f"comment,toxic\n{CANARY} one,1\n{CANARY} two,0,{CANARY}\n",
    "a text for a label": f"comment,toxic\nfine,{CANARY} one\n",
    "no text": f"comment,toxic\n{CANARY},1\n,0\n",
    "no header": f"{CANARY} one,1\n{CANARY} two,0\n",
    "an open quotation": f'comment,toxic\n{CANARY},1\n"{CANARY} two,0\n',
    "another character set": f"comment,toxic\n{CANARY} \udce9,1\n",
    "columns twice": f"comment,comment,toxic\n{CANARY},{CANARY},1\n",
    "one class": "comment,toxic\n" + f"{CANARY},1\n" * 9,
    "a pronoun that is none": f"bio,profession,gender\nfine,nurse,{CANARY} one\n",
}
OWN = """
name: own
text: comment
label: toxic
classes: [0, 1]
harmful: 1
group: gender
groups: [a, b]
templates: {"The {group} is {mask}.": "It is {mask}."}
"""


@pytest.mark.parametrize("fault", ROWS)
def test_messages_name_lines_and_never_quote(tmp_path: Path, fault: str):
    (tmp_path / "data.csv").write_text(ROWS[fault], errors="surrogateescape")
    sources = (wiki_data.SOURCE, bios_data.SOURCE, custom_data.source(schema.parse_file(OWN)))
    for source in sources:
        with pytest.raises(UserError) as told:
            source.load(str(tmp_path / "data.csv"), source.file_options())
        assert CANARY not in str(told.value)
    trial = CliRunner().invoke(application(commands_trial.main), [f"data={tmp_path / 'data.csv'}"])
    assert trial.exit_code == 2
    assert CANARY not in trial.output


SECRET = "zqsecret"
ADDRESSES = [
    f"http://me:{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9/?token={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:9/runs",
    f"postgresql://127.0.0.1:9/runs?password={SECRET}",
    f"mysql+nothing://me:{SECRET}@127.0.0.1/runs",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_in_an_address_is_never_shown(tmp_path: Path, monkeypatch, address: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "small.yaml").write_text("defaults: {seed: 0}")
    assert SECRET not in redacted(address)
    for command, words in ((sweep_command.main, ["small.yaml"]), (analysis_command.main, ["small"])):
        told = CliRunner().invoke(application(command), [*words, "--tracking-uri", address])
        assert told.exit_code == 2, told.output
        assert "is unreachable" in told.stderr
        assert SECRET not in told.output
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


ASKED = list[str | None]()


class Empty(BaseHTTPRequestHandler):
    """A server that notes who asks, and has nothing."""

    def do_POST(self) -> None:
        ASKED.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        """Nothing."""


def test_a_password_is_sent_and_is_in_no_error_of_the_store(monkeypatch):
    """Errors are recorded as a failed trial's reason, and printed."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://me:{SECRET}%40@127.0.0.1:{server.server_port}"
        client = store.connect(address)
        server.shutdown()
    with pytest.raises(Exception, match="127.0.0.1.*api") as told:  # it is gone
        client.get_run("nowhere")
    assert SECRET not in str(told.value) + client.tracking_uri
    sent = "Basic " + base64.b64encode(f"me:{SECRET}@".encode()).decode()
    assert {*ASKED} == {sent}


OUTSIDE = (
    "../outside",
    "../../outside",
    "a/..",
    "a/b@..",
    "a/../../outside",
    "a/b@../../outside",
    "~/outside",
    "a\x00b",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_does_not_lead_out_of_the_hubs_cache(tmp_path: Path, monkeypatch, name: str):
    """The hub's cache has a model a/b, from whose folders `..` would lead to others."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for kind in ("models", "datasets"):
        (tmp_path / "hub" / f"{kind}--a--b" / "snapshots" / "c0ffee").mkdir(parents=True)
        (tmp_path / "hub" / f"{kind}--a--b" / "refs").mkdir()
        (tmp_path / "hub" / f"{kind}--a--b" / "refs" / "main").write_text("c0ffee")
    assert hub.identify("a/b") == wiki_data.SOURCE.identify("a/b") == "c0ffee"
    for identify in (hub.identify, wiki_data.SOURCE.identify):
        with pytest.raises(UserError, match="Allowed"):
            identify(name)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..", ""])
def test_names_that_become_folders_stay_in_them(tmp_path: Path, monkeypatch, name: str):
    """An experiment's name comes from the store, a custom task's from its file."""
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(application(analysis_command.main), [name])
    assert told.exit_code == 2
    assert "--out FOLDER" in told.stderr
    with pytest.raises(UserError, match="name"):
        schema.parse_file(OWN.replace("name: own", f"name: {name!r}"))
    assert not [*tmp_path.iterdir()]
