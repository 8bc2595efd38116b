"""The comments of the WIKI task: every public form is read, and unusable data are refused with their line."""

from __future__ import annotations

import random
from pathlib import Path

import datasets
import huggingface_hub
import pandas as pd
import pytest

from bias_transfer.errors import UserError
from bias_transfer.models import hub
from bias_transfer.spec import parse
from bias_transfer.tasks import readers
from bias_transfer.tasks.wiki import data as wiki_data
from bias_transfer.tasks.wiki.data import SOURCE, CommentOptions

identify, load = SOURCE.identify, SOURCE.load
SHARED = Path(__file__).parents[4] / "shared" / "data"
SECRET = "a text that no message may show"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_folder(folder: Path, **changed: str) -> Path:
    folder.mkdir(exist_ok=True)
    for split in readers.SPLITS:
        rows = f"rev_id,comment,toxic\n{split}1,{SECRET} {split},0\n{split}2,another {split},1\n"
        (folder / f"{split}.csv").write_text(changed.get(split, rows))
    return folder


def rows_of(dataset: datasets.Dataset) -> list[tuple[str, str, int]]:
    return list(zip(dataset["id"], dataset["text"], dataset["label"], strict=True))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub cannot be reached; its cache is empty."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    hub.revision.cache_clear()
    yield tmp_path / "hub"
    hub.revision.cache_clear()


def test_a_folder(tmp_path):
    splits = load(str(write_folder(tmp_path)), CommentOptions())
    assert rows_of(splits.dev) == [("dev1", f"{SECRET} dev", 0), ("dev2", "another dev", 1)]
    assert splits.train.features == readers.to_dataset(pd.DataFrame({"id": [], "text": [], "label": []})).features
    assert (splits.pretraining, splits.heldout) == (
        (f"{SECRET} train", "another train"),
        (f"{SECRET} dev", "another dev"),
    )


def test_other_files_of_a_folder_are_not_read(tmp_path):
    folder = write_folder(tmp_path)
    before = identify(str(folder)), rows_of(load(str(folder), CommentOptions()).train)
    (folder / "extra.csv").write_bytes(b"\xff broken")
    assert (identify(str(folder)), rows_of(load(str(folder), CommentOptions()).train)) == before


def test_ids_that_are_not_unique_over_the_splits_are_replaced(tmp_path):
    rows = "id,text,label\n1,a,0\n2,b,1\n"
    other = "id,text,label\n1,c,0\n2,d,1\n"
    splits = load(str(write_folder(tmp_path, train=rows, dev=other)), CommentOptions())
    assert (splits.train["id"], splits.dev["id"]) == (["train:0", "train:1"], ["dev:0", "dev:1"])


@pytest.mark.parametrize("text", wiki_data.TEXT)
@pytest.mark.parametrize("label", wiki_data.LABEL)
def test_names_of_columns(tmp_path, text, label):
    rows = f"{label},other,{text}\nTRUE,x,NA\n0.0,y,b\n"
    splits = load(str(write_folder(tmp_path, test=rows)), CommentOptions())
    assert rows_of(splits.test) == [("test:0", "NA", 1), ("test:1", "b", 0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("comment\na\n", "no column for the label. It has: comment. Allowed: toxic, is_toxic, label."),
        ("toxic\n1\n", "no column for the text. It has: toxic. Allowed: comment, comment_text, text."),
        (f"comment,text,toxic\n{SECRET},b,0\n", "several columns could be the text: comment, text. Keep one"),
        (f"comment,toxic,label\n{SECRET},1,0\n", "several columns could be the label: toxic, label. Keep one"),
        (f"comment,toxic,toxic\n{SECRET},1,0\n", "has toxic more than once"),
        (
            f"comment,toxic\n{SECRET},0\nb,2\n",
            "line 3: unknown label in 'toxic'. Allowed: 0, 1, 0.0, 1.0, false",
        ),
        (f"comment,toxic\n{SECRET},\nb,1\n", "line 2: no label in 'toxic': 1 of 2 cells are empty"),
        (f"comment,toxic\n{SECRET},0\n  ,1\n,0\n", "lines 3, 4: no text in 'comment'"),
        (f"comment,toxic\n{SECRET},0\nb,0\n", "label 1 occurs 0 times"),
        (f"comment,toxic\n{SECRET}\n", "line 2: the number of fields is not that of the header (2)"),
        ("comment,toxic\n", "has no examples"),
        (f"comment,toxic\n{SECRET} \udcff,0\n", "line 2 is not UTF-8"),
    ],
)
def test_unusable_data_are_refused(tmp_path, rows, message):
    folder = write_folder(tmp_path)
    (folder / "dev.csv").write_bytes(rows.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        load(str(folder), CommentOptions())
    assert str(folder / "dev.csv") in str(error.value)
    assert message in str(error.value)
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value), "one paragraph"


def test_a_single_file_is_split(tmp_path):
    frame = pd.DataFrame({"id": [f"n{number}" for number in range(100)], "label": [0] * 80 + [1] * 20})
    frame["text"] = "a " + frame["id"]
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "two.parquet")
    one, two = (load(str(tmp_path / name), CommentOptions()) for name in ("one.csv", "two.parquet"))
    other = load(str(tmp_path / "one.csv"), CommentOptions(split_seed=1))
    for name, (clean, toxic) in {"train": (64, 16), "dev": (8, 2), "test": (8, 2)}.items():
        assert sorted(getattr(one, name)["label"]) == [0] * clean + [1] * toxic
        assert set(getattr(one, name)["id"]) == set(getattr(two, name)["id"])
        assert set(getattr(one, name)["id"]) != set(getattr(other, name)["id"])


def test_a_single_file_without_ids_is_split_by_its_texts(tmp_path):
    lines = [f"text {number},{number % 2}" for number in range(40)]
    for name, order in {"one": lines, "two": random.Random(0).sample(lines, 40)}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *order]))
    one, two = (load(str(tmp_path / f"{name}.csv"), CommentOptions()) for name in ("one", "two"))
    assert set(one.test["text"]) == set(two.test["text"])
    assert len({*one.train["id"], *one.dev["id"], *one.test["id"]}) == 40


def test_a_single_file_with_too_few_of_a_label_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "a,0\n" * 20 + "b,1\n" * 2)
    with pytest.raises(
        UserError, match=r"a\.csv: label 1 occurs 2 times \(toxic\); each label must occur at least 3 times"
    ):
        load(str(tmp_path / "a.csv"), CommentOptions())


def test_the_kaggle_form(tmp_path):
    others = ["severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    frame = pd.DataFrame(
        {"id": [f"{n:016x}" for n in range(30)], "comment_text": "two\nlines ", "toxic": [0, 0, 1] * 10}
    )
    frame["comment_text"] += frame["id"]
    frame.assign(**dict.fromkeys(others, 0)).to_csv(tmp_path / "train.csv", index=False)
    splits = load(str(tmp_path / "train.csv"), CommentOptions())
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (24, 3, 3)
    assert set(splits.train["id"]) < set(frame["id"])
    assert {text[:10] for text in splits.test["text"]} == {"two\nlines "}


def write_figshare(folder: Path, comments: list[str], votes: dict[str, list[int]]) -> Path:
    header = "rev_id\tcomment\tyear\tlogged_in\tns\tsample\tsplit"
    (folder / wiki_data.COMMENTS).write_text("\n".join([header, *comments]))
    rows = [f"{rev}\t{worker}\t{vote}\t{-vote}.0" for rev, own in votes.items() for worker, vote in enumerate(own)]
    (folder / wiki_data.ANNOTATIONS).write_text("\n".join(["rev_id\tworker_id\ttoxicity\ttoxicity_score", *rows]))
    return folder


def figshare_rows(*splits: str) -> list[str]:
    text = "NEWLINE_TOKENone``TAB_TOKENtwo"
    return [f"{row}.0\t{text} {row}\t2002\tTrue\tarticle\trandom\t{split}" for row, split in enumerate(splits)]


def test_the_figshare_pair(tmp_path):
    comments = figshare_rows("train", "train", "train", "dev", "dev", "test", "test")
    votes = {"0.0": [1, 1, 0], "1": [1, 0], "2.0": [0], "3.0": [1], "4.0": [0], "5.0": [1], "6.0": [0, 0], "9.0": [1]}
    splits = load(str(write_figshare(tmp_path, comments, votes)), CommentOptions())
    text = " one`` two"
    expected = [("0.0", f"{text} 0", 1), ("1.0", f"{text} 1", 0), ("2.0", f"{text} 2", 0)]
    assert rows_of(splits.train) == expected, "half is not above a half"
    assert (splits.dev["label"], splits.test["label"]) == ([1, 0], [1, 0])
    before = identify(str(tmp_path))
    write_figshare(tmp_path, comments, {**votes, "6.0": [0, 0, 0]})
    assert identify(str(tmp_path)) != before


@pytest.mark.parametrize(
    ("comments", "votes", "message"),
    [
        (
            figshare_rows("train", "dev"),
            {"0.0": [1]},
            "comments.tsv: line 3: no annotation in toxicity_annotations.tsv",
        ),
        (figshare_rows("train", "valid"), {"0.0": [1], "1.0": [0]}, "comments.tsv: line 3: unknown split"),
        (figshare_rows("train"), {"0.0": [1, 3]}, "annotations.tsv: line 3: unknown label in 'toxicity'"),
        (figshare_rows("train", "train"), {"0.0": [1], "1.0": [0]}, "split dev: label 0 occurs 0 times"),
    ],
)
def test_an_unsuitable_figshare_pair_is_refused(tmp_path, comments, votes, message):
    with pytest.raises(UserError) as error:
        load(str(write_figshare(tmp_path, comments, votes)), CommentOptions())
    assert message in str(error.value)


def test_half_of_the_figshare_pair_is_refused(tmp_path):
    (tmp_path / wiki_data.COMMENTS).touch()
    with pytest.raises(
        UserError, match=r"has no toxicity_annotations\.tsv\. Needed: toxicity_annotated_comments\.tsv and"
    ):
        identify(str(tmp_path))


def test_a_missing_path_is_reported_with_the_nearest_one(tmp_path):
    write_folder(tmp_path / "wiki")
    for name, near in {"wikki": "wiki", "wiki/trian.csv": "wiki/train.csv"}.items():
        with pytest.raises(UserError) as error:
            identify(str(tmp_path / name))
        assert "is neither a file nor a folder here" in str(error.value)
        assert f"Did you mean {str(tmp_path / near)!r}?" in str(error.value)
        assert "Allowed: synthetic; a .csv" in str(error.value)
    with pytest.raises(UserError, match="Did you mean 'synthetic'"):
        load("synthetics", CommentOptions())


@pytest.mark.parametrize("use", [identify, lambda data: load(data, CommentOptions())])
def test_a_hub_id_that_does_not_exist(offline, use):
    with pytest.raises(UserError) as error:
        use("nobody/no_such_data")
    message = "it is not in the local hub cache, and the hub could not be reached"
    assert message in str(error.value)


def write_snapshot(cache: Path, **splits: pd.DataFrame) -> None:
    folder = cache / "datasets--someone--wiki"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    for name, frame in splits.items():
        frame.to_parquet(folder / "snapshots" / COMMIT / f"{name}.parquet")


def test_a_cached_hub_data_set(offline):
    frame = pd.DataFrame({"id": ["a", "b"], "comment_text": ["one", "two"], "label": [0, 1]})
    train, test = (frame.assign(comment_text=frame["comment_text"] + split) for split in ("train", "test"))
    write_snapshot(offline, train=train, validation=frame, test=test)
    assert identify("someone/wiki") == identify(f"someone/wiki@{COMMIT}") == COMMIT
    splits = load("someone/wiki", CommentOptions())
    assert rows_of(splits.dev) == [("dev:0", "one", 0), ("dev:1", "two", 1)]


def test_a_cached_hub_data_set_of_one_split_is_split(offline):
    frame = pd.DataFrame({"text": [f"text {row}" for row in range(20)], "toxic": [False, True] * 10})
    write_snapshot(offline, train=frame)
    splits = load("someone/wiki", CommentOptions())
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (16, 2, 2)


def test_a_cached_hub_data_set_without_a_test_set_is_refused(offline):
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    write_snapshot(offline, train=frame, val=frame)
    with pytest.raises(UserError, match=r"has no file test; it has train\.parquet, val\.parquet\."):
        load("someone/wiki", CommentOptions())


def test_options_belong_to_their_source(tmp_path):
    with pytest.raises(
        UserError,
        match=r"unknown option 'data\.size'.*Allowed: data\.deduplicate, data\.group_by, data\.newline, data\.split_seed",
    ):
        parse(SOURCE.options("some/folder"), {"size": 500}, "data.")
    with pytest.raises(UserError, match=r"unknown option 'data\.split_seed'"):
        parse(SOURCE.options("synthetic"), {"split_seed": 1}, "data.")
    with pytest.raises(UserError, match=r"takes SyntheticOptions, not CommentOptions"):
        load("synthetic", CommentOptions())
    with pytest.raises(UserError, match=r"data\.split_seed has no effect: .* has its own splits"):
        load(str(write_folder(tmp_path)), CommentOptions(split_seed=1))


@pytest.mark.parametrize(
    ("name", "sizes", "toxic"), [("wiki", (5040, 800, 800), 484), ("wiki_rich", (11815, 800, 800), 1484)]
)
def test_real_comments(name, sizes, toxic):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no real comments at {folder}")
    splits = load(str(folder), CommentOptions())
    assert tuple(map(len, (splits.train, splits.dev, splits.test))) == sizes
    assert sum(splits.train["label"]) == toxic
    assert len(splits.pretraining) == sizes[0]
    assert len({*splits.train["id"], *splits.dev["id"], *splits.test["id"]}) == sum(sizes)
