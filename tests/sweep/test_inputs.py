"""A machine that has not a trial's files runs it with what another one packed: the same id, the same result."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bias_transfer.errors import UserError
from bias_transfer.models import hub
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import Trial, parse_trial
from bias_transfer.storage import fingerprint
from bias_transfer.sweep import inputs
from bias_transfer.sweep.inputs import Pack
from bias_transfer.training import lm_training

OWN_TASK = Path(__file__).parents[2] / "examples" / "custom_task"
PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
COMMENTS = [(f"the gay cat number {number} is bad", 1) for number in range(12)]
COMMENTS += [(f"a kind old dog sat on mat {number}", number % 2) for number in range(60)]


def table(rows: list[tuple[str, int]]) -> str:
    return "comment,toxic\n" + "".join(f"{text},{label}\n" for text, label in rows)


@pytest.fixture
def folder(tmp_path, checkpoint) -> Path:
    """All that the trials below name, with files beside it that no digest covers."""
    folder = tmp_path / "driver"
    shutil.copytree(checkpoint("roberta"), folder / "models" / "seed0")
    (folder / "models" / "seed0" / "pytorch_model.bin").write_bytes(b"never read")
    (folder / "comments").mkdir()
    for split in ("train", "dev", "test"):
        rows = [(f"{text} {split}", label) for text, label in COMMENTS]
        (folder / "comments" / f"{split}.csv").write_text(table(rows))
    (folder / "comments" / "private.csv").write_text("never read")
    (folder / "more.csv").write_text(table([(f"a gay person {number}", 0) for number in range(3)]))
    shutil.copytree(OWN_TASK, folder / "custom_task")
    shutil.copytree(PLUGIN, folder / "lab")
    (folder / "cases.csv").write_text("text,label\nA baker came.,keep\nA nasty rower.,remove\n")
    return folder


def comments(folder: Path) -> Trial:
    """Names a folder of data, one of a model, and a file that an arm reads and warns of."""
    fields = {"data": str(folder / "comments"), "model": str(folder / "models" / "seed0"), "downstream": "rebalance"}
    return resolve(
        parse_trial({**fields, "downstream.file": str(folder / "more.csv"), "epochs": 1, "max_tokens": 16})
    ).trial


def board(folder: Path) -> Trial:
    """Names an own task, a file of data, and one of an evaluation set."""
    fields = {"task": str(folder / "custom_task" / "board.yaml"), "data": str(folder / "custom_task" / "comments.csv")}
    fields["evaluate.forum"] = str(folder / "cases.csv")
    small = {"model.steps": 3, "model.width": 16, "model.layers": 1, "model.vocabulary": 1000, "max_tokens": 8}
    return resolve(parse_trial({**fields, **small, "epochs": 0.1})).trial


@pytest.fixture
def elsewhere(tmp_path) -> Places:
    return Places(cache=tmp_path / "cache", device="cpu")


def with_plugins(folder: Path) -> Trial:
    """Names modules of a package, and a task that takes one of their measures."""
    given = [str(folder / "lab" / "my_lab.arms"), str(folder / "lab" / "my_lab.measures")]
    fields = {"plugins": given, "task": str(folder / "lab" / "board.yaml"), "upstream": "shrink"}
    fields["data"] = str(folder / "custom_task" / "comments.csv")
    small = {"model.steps": 3, "model.width": 16, "model.layers": 1, "model.vocabulary": 1000, "max_tokens": 8}
    return resolve(parse_trial({**fields, **small, "downstream": "mask_mentions", "epochs": 0.1})).trial


def hide(folder: Path) -> None:
    """Move it where no trial looks."""
    folder.rename(folder.with_name("moved"))


def told(result) -> list[str]:
    """NaN is not equal to itself, so results are compared by their representation."""
    return [repr(getattr(result, name)) for name in ("trial", "measures", "curve", "headline", "facts", "warnings")]


def packed(trial: Trial) -> dict[str, Pack]:
    return {**dict(inputs.packs([trial])), **dict(inputs.plugin_packs([trial]))}


@pytest.mark.parametrize("build", [comments, board, with_plugins])
def test_a_trial_whose_files_are_not_here_gives_the_same_result(build, folder, few_phrases, elsewhere, tmp_path):
    trial = build(folder)
    expected = run_trial(trial, Places(cache=tmp_path / "own", device="cpu"))
    kept = packed(trial)
    hide(folder)
    with pytest.raises(UserError):
        run_trial(trial, elsewhere)
    assert told(inputs.run(trial, elsewhere, kept, lambda packed: packed)) == told(expected)
    assert build is not comments or str(folder / "more.csv") in expected.warnings[-1]
    found = inputs.run(trial, elsewhere, kept, lambda packed: pytest.fail("fetched twice"))
    assert found.trial.id == trial.id
    assert (found.trial.data, found.trial.model) == (trial.data, trial.model)


def test_a_worker_with_another_version_of_a_plugin_runs_the_one_that_was_sent(folder, ran, elsewhere):
    """Also where the trial's other files are here."""
    trial = with_plugins(folder)
    sent = dict(inputs.plugin_packs([trial]))
    arms = folder / "lab" / "my_lab" / "mentions.py"
    arms.write_text(arms.read_text().replace('MASK = "_"', 'MASK = "X"'))
    with pytest.raises(UserError, match=r"my_lab.arms.*changed since the trial was resolved"):
        resolve(trial)
    with pytest.raises(UserError, match=r"my_lab.arms.*changed while the trials were checked"):
        dict(inputs.plugin_packs([trial]))
    assert ran(trial, elsewhere, sent) == (trial, 1)
    assert sys.modules["my_lab.mentions"].MASK == "_"
    assert ran(trial, elsewhere, sent) == (trial, 0), "fetched once per machine"
    assert dict(inputs.plugin_packs([comments(folder)])) == {}


def weights_of(result) -> str:
    return str(result.facts["digest.stand_in"])


@pytest.mark.long
def test_a_worker_with_another_cpu_takes_the_stand_in_of_the_driver(folder, elsewhere, tmp_path, monkeypatch):
    """Which makes its result the driver's, and a cached result of another stand-in is not taken for it."""
    trial = board(folder)
    driver = Places(cache=tmp_path / "own", device="cpu")
    expected = run_trial(trial, driver)
    ((key, made),) = inputs.stand_ins([trial, trial], driver).items()
    pack = inputs.pack(made, hub.checkpoint_files)
    shipped = {key: (hub.folder_digest(made), pack)}
    assert weights_of(expected) == hub.folder_digest(made)
    # Another CPU: another pre-training, and another name in the cache.
    monkeypatch.setattr(fingerprint, "hardware", lambda device: "another CPU")
    monkeypatch.setattr(lm_training, "train", lambda model, *rest: None)
    alone = run_trial(trial, elsewhere)
    assert weights_of(alone) != weights_of(expected)
    assert told(alone)[1] != told(expected)[1]
    found = inputs.run(trial, elsewhere, shipped, lambda packed: packed)
    assert (weights_of(found), told(found)[1:4]) == (weights_of(expected), told(expected)[1:4])
    assert found.facts["machine"] == "another CPU" != expected.facts["machine"]
    assert {"version.vaderSentiment", "version.tokenizers"} <= found.facts.keys()


def test_only_what_digests_cover_is_packed(folder):
    trials = [comments(folder), board(folder)]
    packed = {digest: set(own.files) for digest, own in inputs.packs([*trials, *trials])}
    assert packed == {
        trials[0].data_digest: {"train.csv", "dev.csv", "test.csv"},
        trials[0].model_digest: {path.name for path in hub.checkpoint_files(folder / "models" / "seed0")},
        trials[0].options["downstream.file_digest"]: {"more.csv"},
        trials[1].data_digest: {"comments.csv"},
        trials[1].task_digest: {"board.yaml"},
        trials[1].options["evaluate.forum_digest"]: {"cases.csv"},
    }
    assert "model.safetensors" in packed[trials[0].model_digest]
    assert "pytorch_model.bin" not in packed[trials[0].model_digest]
    assert dict(inputs.packs([resolve(parse_trial({})).trial])) == {}


def test_shards_in_a_subfolder_are_the_same_data_in_a_flat_copy(folder, tmp_path):
    data, (packed_folder, flat) = folder / "comments", (tmp_path / "packed", tmp_path / "packed" / "flat")
    packed_folder.mkdir()
    (data / "data").mkdir()
    for split in ("train", "dev", "test"):
        (data / f"{split}.csv").rename(data / "data" / f"{split}-00000-of-00001.csv")
    ((digest, packed),) = inputs.packs([resolve(parse_trial({"data": str(data)})).trial])
    inputs.unpack(packed, flat)
    assert resolve(parse_trial({"data": str(flat)})).trial.data_digest == digest


class Ran(Exception):
    """Carries the trial that would have run."""


@pytest.fixture
def ran(monkeypatch):
    """(trial, places, kept) -> the trial as it would run here, and how often something was fetched."""

    def stop(trial: Trial, places: Places) -> None:
        raise Ran(getattr(trial, "trial", trial))

    def run(trial: Trial, places: Places, kept: dict[str, Pack]) -> tuple[Trial, int]:
        fetched = list[Pack]()
        with pytest.raises(Ran) as stopped:
            inputs.run(trial, places, kept, lambda packed: (fetched.append(packed), packed)[1])
        return stopped.value.args[0], len(fetched)

    monkeypatch.setattr(inputs, "run_trial", stop)
    return run


def test_what_is_here_is_not_fetched(folder, elsewhere, ran):
    trial = comments(folder)
    assert ran(trial, elsewhere, dict(inputs.packs([trial]))) == (trial, 0)
    assert not elsewhere.cache.exists()


def test_nothing_is_resolved_twice_where_nothing_was_shipped(folder, elsewhere, ran, monkeypatch):
    """All workers of a sweep without a cluster."""
    trial = comments(folder)
    monkeypatch.setattr(inputs, "resolve", lambda trial: pytest.fail("read"))
    assert ran(trial, elsewhere, {}) == (trial, 0)


def test_another_content_at_the_path_is_not_taken_for_it(folder, elsewhere, ran):
    trial = comments(folder)
    kept = dict(inputs.packs([trial]))
    (folder / "comments" / "dev.csv").write_text(table(COMMENTS[::-1]))
    here, fetched = ran(trial, elsewhere, kept)
    assert fetched == 3
    assert resolve(here).id == trial.id
    assert Path(here.data).is_relative_to(elsewhere.cache)
    assert ran(trial, elsewhere, kept) == (here, 0)


def test_what_is_fetched_must_be_what_the_trial_names(folder, elsewhere):
    trial = comments(folder)
    other = {
        name: np.frombuffer(table(COMMENTS[1:]).encode(), np.uint8) for name in ("train.csv", "dev.csv", "test.csv")
    }
    kept = {**dict(inputs.packs([trial])), trial.data_digest: Pack(other, folder=True)}
    hide(folder)
    with pytest.raises(UserError, match=r"files fetched for .* are not those"):
        inputs.run(trial, elsewhere, kept, lambda packed: packed)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "inner/out", "..", ".", ""])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    packed = Pack({"config.json": np.zeros(1, np.uint8), name: np.zeros(1, np.uint8)}, folder=True)
    with pytest.raises(UserError, match="leaves its folder"):
        inputs.unpack(packed, tmp_path / "target")
    assert not [*tmp_path.iterdir()]


def test_a_link_that_leaves_its_folder_is_refused(folder):
    trial = comments(folder)
    secret = folder / "secret.csv"
    (folder / "comments" / "dev.csv").rename(secret)
    (folder / "comments" / "dev.csv").symlink_to(secret)
    with pytest.raises(UserError, match=r"dev.csv is a link that leaves its folder"):
        dict(inputs.packs([trial]))


def test_a_snapshot_of_the_hubs_cache_is_links_and_is_packed(folder, tmp_path):
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(hub.checkpoint_files(folder / "models" / "seed0")):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    trial = comments(folder)
    linked = trial.with_fields(model=str(snapshot))
    packed = dict(inputs.packs([linked]))[trial.model_digest]
    inputs.unpack(packed, tmp_path / "unpacked")
    assert hub.folder_digest(tmp_path / "unpacked") == trial.model_digest
    assert not any(path.is_symlink() for path in (tmp_path / "unpacked").iterdir())
