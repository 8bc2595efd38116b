"""What is read of a folder, a file or the hub, and what is said about it: own splits, duplicates, and rows that leak."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest

from bias_transfer.errors import UserError
from bias_transfer.models import hub
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse, parse_trial
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.data import CommentOptions

REPORTED = Path(__file__).parents[3] / "shared" / "data" / "reported"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def comments(name: str, size: int, toxic: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"comment_text": [f"{name} {row}" for row in range(size)], "label": [int(row < toxic) for row in range(size)]}
    )


def wiki_toxic(folder: Path) -> Path:
    """The layout of OxAISH-AL-LLM/wiki_toxic: balanced_train.csv has the toxic comments of train.csv again, and as many
    others."""
    folder.mkdir(parents=True)
    train = comments("train", 250, 24)
    frames = {
        "train": train,
        "balanced_train": train[:48],
        "validation": comments("dev", 50, 5),
        "test": comments("t", 60, 6),
    }
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def load(data: str | Path, task: str = "wiki", **options) -> Splits:
    source = TASKS[task]
    return source.load(str(data), parse(source.data_options(str(data)), options, "data."))


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.dev), len(splits.test)


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """The hub cannot be reached, and its cache is this folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub.revision.cache_clear()
    yield tmp_path / "hub"
    hub.revision.cache_clear()


@pytest.mark.parametrize("on_the_hub", [False, True])
def test_a_second_training_set_is_not_read(on_the_hub, hub_cache, tmp_path):
    """load_dataset merged both without a word: 298 rows, of which 48 are toxic."""
    repository = hub_cache / "datasets--someone--wiki"
    folder = wiki_toxic(repository / "snapshots" / COMMIT if on_the_hub else tmp_path / "wiki")
    if on_the_hub:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    data = "someone/wiki" if on_the_hub else str(folder)
    splits = load(data)
    assert sizes(splits) == (250, 50, 60)
    assert sum(splits.train["label"]) == 24
    assert splits.notes[0] == f"{data}: read train.csv, validation.csv, test.csv. Left unread: balanced_train.csv."
    assert splits.facts["data.files"] == "train.csv, validation.csv, test.csv"
    assert splits.facts.get("data.files_left") == ("balanced_train.csv" if on_the_hub else None), (
        "ids do not cover a folder's"
    )
    assert splits.warnings == ()


def shards(folder: Path) -> Path:
    """The layout of LabHC/bias_in_bios, with train in two parts."""
    (folder / "data").mkdir(parents=True)
    train = comments("train", 40, 4)
    parts = {"train-00000-of-00002": train[:25], "train-00001-of-00002": train[25:]}
    parts |= {"dev-00000-of-00001-0a1b": comments("dev", 20, 2), "test-00000-of-00001-2c3d": comments("test", 20, 2)}
    for name, frame in parts.items():
        frame.to_parquet(folder / "data" / f"{name}.parquet")
    return folder


def test_shards_are_read_as_one_split(tmp_path):
    folder = shards(tmp_path / "hub")
    assert load(folder).train["text"] == [f"train {row}" for row in range(40)]
    second = folder / "data" / "train-00001-of-00002.parquet"
    pd.read_parquet(second).assign(label=7).to_parquet(second)
    with pytest.raises(UserError, match=r"train-00000-of-00002\.parquet and 1 more: rows 26, 27, .*: unknown label"):
        load(folder)
    pd.read_parquet(second).rename(columns={"label": "toxic"}).to_parquet(second)
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet: has other columns than .*train-00000"):
        load(folder)


def own_split(folder: Path, *marks: str) -> Path:
    frame = comments("text", 60 * len(marks), 0)
    frame = frame.assign(label=frame.index % 2, Split=[mark for mark in marks for _ in range(60)])
    frame.to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def test_a_files_own_split_column_is_used(tmp_path):
    splits = load(own_split(tmp_path, "train", "TEST"))
    assert sizes(splits) == (54, 6, 60)
    assert splits.test["text"] == [f"text {row}" for row in range(60, 120)]
    assert "split by its own column 'Split': 60 train, 60 test. It has no dev rows: a tenth of train" in splits.notes[0]
    assert load(tmp_path / "own.csv", split_seed=1).dev["text"] != splits.dev["text"]
    for name in ("dev", "validation", "valid", "val"):
        splits = load(own_split(tmp_path, "train", name, "test"))
        assert sizes(splits) == (60, 60, 60)
    with pytest.raises(UserError, match=r"data\.split_seed has no effect"):
        load(tmp_path / "own.csv", split_seed=1)
    assert sizes(load(own_split(tmp_path, "train"))) == (48, 6, 6), "it does not split anything"
    with pytest.raises(UserError, match=r"own.csv: its column 'Split' has no row of test"):
        load(own_split(tmp_path, "train", "dev"))
    with pytest.raises(
        UserError, match=r"lines 62, 63, .*: unknown split in 'Split'\. Allowed: train, dev, validation"
    ):
        load(own_split(tmp_path, "train", "fold 2"))


def test_a_split_column_that_contradicts_the_files_name_is_warned_of(tmp_path):
    folder = wiki_toxic(tmp_path / "wiki")
    pd.read_csv(folder / "train.csv").assign(split=["test"] * 30 + ["train"] * 220).to_csv(
        folder / "train.csv", index=False
    )
    (warning,) = load(folder).warnings
    assert "train.csv: 30 rows are of another split by their column 'split'" in warning


def test_duplicates_are_counted_and_dropped_on_request(tmp_path):
    """train: 250 rows, 2 of them again; test: 3 rows of train, and 1 of dev."""
    folder = wiki_toxic(tmp_path / "wiki")
    train, dev, test = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "validation", "test"))
    pd.concat([train, train[:2]]).to_csv(folder / "train.csv", index=False)
    pd.concat([test, train[-3:], dev[:1]]).to_csv(folder / "test.csv", index=False)
    splits = load(folder)
    assert sizes(splits) == (252, 50, 64)
    (warning,) = splits.warnings
    assert f"{folder} has rows that repeat an earlier text of their split (2 in train) and " in warning
    assert "(3 of test in train, 1 of test in dev)" in warning
    assert "data.deduplicate=true drops" in warning
    counts = {name: number for name, number in splits.facts.items() if number and name.startswith("duplicates.")}
    assert counts == {"duplicates.train": 2, "duplicates.test_in_train": 3, "duplicates.test_in_dev": 1}
    clean = load(folder, deduplicate=True)
    assert sizes(clean) == (247, 50, 64)
    assert clean.facts["duplicates.dropped"] == 5
    assert not {*clean.train["text"]} & {*clean.test["text"]}
    assert f"{folder}: data.deduplicate dropped 5 of 366 rows." in clean.notes
    assert "(1 of test in dev)" in clean.warnings[0], "dev and test stay as they are"


def test_a_single_file_is_deduplicated_before_it_is_split(tmp_path):
    frame = comments("text", 100, 50)
    pd.concat([frame] * 3).assign(id=range(300)).to_csv(tmp_path / "a.csv", index=False)
    assert "of test in train" in load(tmp_path / "a.csv", group_by="row").warnings[0]
    clean = load(tmp_path / "a.csv", deduplicate=True)
    assert (sizes(clean), clean.warnings) == ((80, 10, 10), ())


def test_a_test_set_that_is_trained_on_is_refused(tmp_path):
    folder = wiki_toxic(tmp_path / "wiki")
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    pd.concat([train, test[:30]]).to_csv(folder / "train.csv", index=False)
    assert "30 of test in train" in load(folder).warnings[0], "half is allowed"
    pd.concat([train, test[:31]]).to_csv(folder / "train.csv", index=False)
    with pytest.raises(
        UserError, match=r"31 of the 60 rows of test and 0 of the 50 rows of dev have a text .* in train"
    ):
        load(folder)
    assert sizes(load(folder, deduplicate=True)) == (250, 50, 60)


def test_options_that_say_the_default_are_not_set():
    assert CommentOptions(newline="space", deduplicate=False) == CommentOptions()


def test_line_breaks_are_spaces_by_default(tmp_path):
    text = "oneNEWLINE_TOKENtwoTAB_TOKENthree"
    rows = [f"{text} {row},{row % 2}" for row in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["comment,toxic", *rows]))
    assert load(tmp_path / "a.csv").train["text"][0].startswith("one two three ")
    assert load(tmp_path / "a.csv", newline="break").train["text"][0].startswith("one\ntwo\tthree ")


@pytest.mark.long
def test_what_is_known_of_the_data_is_part_of_the_result(few_phrases, checkpoint, tmp_path):
    folder = wiki_toxic(tmp_path / "wiki")
    train = pd.read_csv(folder / "train.csv")
    pd.concat([train, train[:2]]).to_csv(folder / "train.csv", index=False)
    trial = resolve(parse_trial({"data": str(folder), "model": checkpoint("roberta"), "max_tokens": 8, "epochs": 0.1}))
    result = run_trial(trial, Places(cache=tmp_path / "cache", device="cpu"))
    assert "(2 in train)" in result.warnings[0]
    assert (result.facts["data.files"], result.facts["duplicates.train"]) == ("train.csv, validation.csv, test.csv", 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("raw_quotes.tsv", (96, 12, 12)), ("own_split_column.csv", (54, 6, 60)), ("train_valid_test", (80, 20, 20))],
)
def test_reported_files_are_read_whole(name, expected):
    if not REPORTED.is_dir():
        pytest.skip(f"no reported files at {REPORTED}")
    assert sizes(load(REPORTED / name)) == expected


def test_the_reported_folder_with_the_same_rows_is_refused():
    if not REPORTED.is_dir():
        pytest.skip(f"no reported files at {REPORTED}")
    with pytest.raises(UserError, match=r"40 of the 40 rows of test and 40 of the 40 rows of dev"):
        load(REPORTED / "same_rows_in_all_splits")
