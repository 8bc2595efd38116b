"""Every form of file gives the same examples under the same ids; what is no table is refused for what it is."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import datasets
import pandas as pd
import pyarrow
import pytest

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest, file_digest
from bias_transfer.spec import parse
from bias_transfer.sweep import inputs
from bias_transfer.tasks import readers, split_files
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.registry import TASKS

TEXTS = ['a "b", c', "d;e\tf", "two\nlines", "caf\u00e9 \u2028 \u4f60\u597d", "NA", "1.0"]
ROWS = 40


def frame(split: str = "") -> pd.DataFrame:
    texts = [f"{TEXTS[row % len(TEXTS)]} {split}{row}" for row in range(ROWS)]
    return pd.DataFrame({"id": [f"n{split}{row}" for row in range(ROWS)], "text": texts, "label": [0, 1] * (ROWS // 2)})


def objects(frame: pd.DataFrame) -> list[str]:
    return [json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records")]


FORMS = {
    "csv": lambda frame: frame.to_csv(index=False).encode(),
    "tsv": lambda frame: frame.to_csv(index=False, sep="\t").encode(),
    "txt": lambda frame: frame.to_csv(index=False, sep="\t").encode(),
    "jsonl": lambda frame: "\n".join(objects(frame)).encode(),
    "ndjson": lambda frame: "\r\n".join([*objects(frame), ""]).encode(),
    "json": lambda frame: f"[{', '.join(objects(frame))}]".encode(),
    "parquet": lambda frame: frame.to_parquet(),
}
"""Kind -> the file's bytes."""

VARIANTS = {
    "semicolons.csv": lambda frame: frame.to_csv(index=False, sep=";").encode(),
    "tabs.csv": lambda frame: frame.to_csv(index=False, sep="\t").encode(),
    "commas.tsv": lambda frame: frame.to_csv(index=False).encode(),
    "bom.csv": lambda frame: frame.to_csv(index=False).encode("utf-8-sig"),
    "utf16.csv": lambda frame: frame.to_csv(index=False).encode("utf-16"),
    "ends.csv": lambda frame: frame.assign(**{"": ""}).to_csv(index=False).encode(),
    "windows.csv": lambda frame: frame.to_csv(index=False, lineterminator="\r\n").encode(),
    "lines.json": lambda frame: "\n".join(objects(frame)).encode(),
    "blank first.csv": lambda frame: b"\n" + frame.to_csv(index=False).encode(),
    "ends without a name.csv": lambda frame: frame.assign(x="", y="").to_csv(index=False).replace(",x,y", "").encode(),
}

COMPRESSED = {"gz": gzip.compress, "zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True)}


def load(data: Path | str, task: str = "wiki", **options) -> Splits:
    source = TASKS[task]
    return source.load(str(data), parse(source.data_options(str(data)), options, "data."))


def rows_of(splits: Splits) -> dict[str, set[tuple[str, str, int]]]:
    sets = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    return {name: set(zip(own["id"], own["text"], own["label"], strict=True)) for name, own in sets.items()}


def written(folder: Path, name: str, content: bytes | str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return rows_of(load(written(tmp_path_factory.mktemp("csv"), "a.csv", FORMS["csv"](frame()))))


@pytest.mark.parametrize("kind", FORMS)
def test_kinds_and_their_compressions(kind, expected, tmp_path):
    content = FORMS[kind](frame())
    for name in (f"a.{kind}", f"A.{kind.upper()}"):
        assert rows_of(load(written(tmp_path, name, content))) == expected
    for suffix, compress in COMPRESSED.items():
        assert rows_of(load(written(tmp_path, f"a.{kind}.{suffix}", compress(content)))) == expected
        written(tmp_path, f"cut.{kind}.{suffix}", compress(content)[:-30])
        with pytest.raises(UserError, match="cannot be decompressed"):
            load(tmp_path / f"cut.{kind}.{suffix}")


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name, expected, tmp_path):
    assert rows_of(load(written(tmp_path, name, VARIANTS[name](frame())))) == expected


def test_a_data_set_without_splits_that_was_saved(expected, tmp_path):
    datasets.Dataset.from_pandas(frame()).save_to_disk(tmp_path / "train", num_shards=3)
    assert rows_of(load(tmp_path / "train")) == expected
    assert rows_of(load(copied(tmp_path / "train", tmp_path / "copy"))) == expected
    (tmp_path / "train" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(UserError, match="has 2 of the 3 files"):
        load(tmp_path / "train")


def copied(folder: Path, target: Path) -> Path:
    """As the folder is sent to another machine. The content, and so the id of a trial, stays the same."""
    inputs.unpack(inputs.pack(folder, split_files.files_of), target)
    assert split_files.content_digest(target) == split_files.content_digest(folder)
    return target


@pytest.mark.parametrize("dev", split_files.NAMES["dev"])
def test_folders_in_every_form_have_the_same_examples(dev, tmp_path):
    sets = {"train": frame("train"), dev: frame("dev"), "test": frame("test")}
    parquet, lines, saved = tmp_path / "parquet", tmp_path / "lines", tmp_path / "saved"
    for name, own in sets.items():
        written(parquet, f"data/{name}-00000-of-00001.parquet", FORMS["parquet"](own))
        written(lines, f"{name.title()}.JSONL.GZ", gzip.compress(FORMS["jsonl"](own)))
    datasets.DatasetDict({name: datasets.Dataset.from_pandas(own) for name, own in sets.items()}).save_to_disk(saved)
    expected = {"train": len(sets["train"]), "dev": ROWS, "test": ROWS}
    for folder in (parquet, lines, saved, copied(saved, tmp_path / "copy")):
        assert rows_of(load(folder)) == rows_of(load(parquet))
        assert {name: len(rows) for name, rows in rows_of(load(folder)).items()} == expected


def test_a_file_in_an_older_form_is_preferred(tmp_path):
    """Such a folder was read before the other forms were."""
    for name in ("train", "dev", "test"):
        written(tmp_path, f"{name}.csv", FORMS["csv"](frame(name)))
    before = split_files.content_digest(tmp_path)
    for name in ("train.jsonl", "Train.csv", "test.csv.gz", "dataset_infos.json"):
        written(tmp_path, name, "not read")
    assert load(tmp_path).notes[0].endswith("read train.csv, dev.csv, test.csv. Left unread: Train.csv.")
    files = {f"{name}.csv": file_digest(tmp_path / f"{name}.csv") for name in ("train", "dev", "test")}
    assert split_files.content_digest(tmp_path) == before == digest(files)
    assert split_files.content_digest(tmp_path / "dev.csv") == digest({".csv": files["dev.csv"]})


def test_a_folder_without_dev_has_a_tenth_of_train_held_out(tmp_path):
    for name in ("train", "test"):
        written(tmp_path, f"{name}.csv", FORMS["csv"](frame(name)))
    assert {name: len(rows) for name, rows in rows_of(load(tmp_path)).items()} == {"train": 36, "dev": 4, "test": 40}


def test_a_long_text_is_read_from_every_kind(tmp_path):
    own = frame().assign(text=[f"{'long ' * 28_000}{row:02}" for row in range(ROWS)])
    for kind, content in FORMS.items():
        assert {len(text) for text in load(written(tmp_path, f"a.{kind}", content(own))).test["text"]} == {140_002}


def test_tokens_are_joined_and_bytes_are_refused(tmp_path):
    own = frame().assign(text=[["a", "cat", str(row)] for row in range(ROWS)])
    for name, content in (("a.jsonl", FORMS["jsonl"](own)), ("a.parquet", own.to_parquet())):
        assert "a cat 0" in {*load(written(tmp_path, name, content)).train["text"]}
    with pytest.raises(UserError, match="column 'text' holds bytes and not text: decode them"):
        load(written(tmp_path, "b.parquet", frame().assign(text=[b"a"] * ROWS).to_parquet()))
    nested = frame().assign(text=[{"en": "a"}] * ROWS, more=[{"any": 1}] * ROWS)
    with pytest.raises(UserError, match="column 'text' holds nested values"):
        load(written(tmp_path, "c.jsonl", FORMS["jsonl"](nested)))
    load(written(tmp_path, "d.jsonl", FORMS["jsonl"](nested.assign(text=frame()["text"]))))


CSV = FORMS["csv"](frame())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK\x03\x04", "a.xlsx is an Excel workbook"),
        ("a.csv", b"PK\x03\x04 x", "a.csv is an Excel workbook or a zip archive by its content"),
        ("a.csv", gzip.compress(CSV), "is compressed with gzip by its content: add .gz to its name"),
        ("a.csv", frame().to_parquet(), "is a Parquet file by its content"),
        ("a.parquet", CSV, "not a readable Parquet file"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        ("a.csv.gz", b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        ("BIOS.pkl", pickle.dumps([{"raw": "a"}]), "BIOS.pkl is a pickle, .* De-Arteaga et al.* docs/usage.md"),
        ("a.csv", pickle.dumps([{"raw": "a"}]), "a.csv is a pickle"),
        ("a.csv", CSV.replace("caf\u00e9".encode(), b"caf\xe9", 1), "line 6 is not UTF-8. .*0xe9 .*iconv -f WINDOWS-1252"),
        ("a.csv", CSV.decode().encode("utf-16-le"), "line 1 has null bytes, as in UTF-16"),
        ("a.csv", b"text,label\nwow,,0\nno,1\n", "line 2: the number of fields"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n["b", 1]\n', "line 2 is no object"),
        ("a.jsonl", b'{"text": "a", "text": "b", "label": 1}\n', "line 1: an object has one key twice"),
        ("a.jsonl", b'{"text": "a\\ud83d", "label": 1}\n', "'text' holds half of a surrogate pair"),
        ("a.json", b'{"data": [{"text": "a", "label": 1}]}', "is one object with lists"),
        ("a.json", b"[" * 100_000, "is nested too deeply"),
        ("a.json", b'[{"text": "a"},\n x]', "line 2 is not JSON"),
        ("a.json", b"[]", "has no examples"),
        ("a.jsonl", b"", "has no examples"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_for_what_it_is(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as error:
        load(written(tmp_path, name, content))
    assert "\n" not in str(error.value), "one paragraph"


LABELS = [
    ("1", "0"), ("1.0", "0.0"), ("1.00", "0"), ("true", "False"), ("Yes", "no"), ("Y", "N"), ("toxic", "non-toxic"),
    ("Toxic", "not toxic"), ("toxic", "non_toxic"),
]  # fmt: skip


@pytest.mark.parametrize(("toxic", "other"), LABELS)
def test_labels_as_people_write_them(toxic, other, tmp_path, expected):
    own = frame().assign(label=[other, toxic] * (ROWS // 2))
    assert rows_of(load(written(tmp_path, "a.csv", FORMS["csv"](own)))) == expected


def test_numbers_need_a_threshold(tmp_path, expected):
    path = written(tmp_path, "a.csv", FORMS["csv"](frame().assign(label=[0.3, 0.5] * (ROWS // 2))))
    with pytest.raises(UserError, match="labels in 'label' are numbers with fractions. .* data.threshold=0.5"):
        load(path)
    assert rows_of(load(path, threshold=0.5)) == expected
    with pytest.raises(UserError, match="label 1 occurs 0 times"):
        load(path, threshold=0.6)
    with pytest.raises(UserError, match="line 2: no number in 'label'"):
        load(written(tmp_path, "b.csv", "text,label\na,yes\nb,0.1\n"), threshold=0.6)


def test_labels_that_are_not_known_or_empty(tmp_path):
    own = frame().assign(label=["hate", "none"] * (ROWS // 2))
    with pytest.raises(UserError, match=r"lines 2, .* unknown label in 'label'.*other values \(hate, none\)"):
        load(written(tmp_path, "a.csv", FORMS["csv"](own)))
    own = frame().astype({"label": "str"})
    own.loc[[3, 5], "label"] = ["", " "]
    for name, place in (("b.csv", "lines 6, 8"), ("b.jsonl", "lines 4, 6"), ("b.parquet", "rows 4, 6")):
        with pytest.raises(UserError, match=f"{place}: no label in 'label': 2 of 40 cells are empty"):
            load(written(tmp_path, name, FORMS[Path(name).suffix[1:]](own)))


@pytest.mark.parametrize(
    ("she", "he"), [("F", "M"), ("Female", "male"), ("woman", "Man"), ("1.0", "0.0"), ("she/her", "he/him")]
)
def test_genders_and_occupations_as_people_write_them(she, he, tmp_path):
    names = ["Software Engineer", "yoga-teacher", "NURSE", "dj"]
    rows = [(f"a text {row}", names[row % 4], (she, he)[row // 4 % 2]) for row in range(80)]
    path = tmp_path / "a.csv"
    pd.DataFrame(rows, columns=["Hard_Text", "Profession", "Gender"]).to_csv(path, index=False)
    with pytest.raises(UserError, match="24 of 28 labels occur too rarely or never: accountant, .* data.subset=true"):
        load(path, "bios")
    splits = load(path, "bios", subset=True)
    assert {*splits.test["label"]} == {13, 6, 24, 27} or len({*splits.test["label"]}) == 4
    assert {*splits.train["pronoun"]} == {"she", "he"}


def test_a_missing_column_names_the_nearest_and_custom_tasks(tmp_path):
    path = written(tmp_path, "a.csv", FORMS["csv"](frame().rename(columns={"label": "labels"})))
    with pytest.raises(UserError, match=r"The nearest is 'labels': .* rename it to 'label'\. .*docs/custom_task.md"):
        load(path)
    with pytest.raises(UserError, match=r"no column for the text. .*'biography': .* 'bio'\. .*docs/custom_task.md"):
        load(written(tmp_path, "b.csv", "biography,profession,gender\na,1,1\n"), "bios")


def test_a_column_in_another_case_brings_the_ids_and_splits_along(tmp_path, expected):
    own = frame().rename(columns={"id": "ID", "text": "Text", "label": "LABEL"})
    assert rows_of(load(written(tmp_path, "a.csv", FORMS["csv"](own)))) == expected
    own = frame().rename(columns={"id": "ID"})
    assert rows_of(load(written(tmp_path, "b.csv", FORMS["csv"](own)))) != expected, "it is read as it always was"


def many_ids(folder: Path) -> Path:
    """60 texts under three ids each; of one text in six, one row has the other label."""
    rows = [
        (f"{text}-{copy}", f"text {text}", int((text + (text % 6 == 0) * (copy == 2)) % 2))
        for text in range(60)
        for copy in range(3)
    ]
    pd.DataFrame(rows, columns=["id", "text", "label"]).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def test_a_text_under_many_ids_stays_in_one_split(tmp_path):
    from bias_transfer.resolved import resolve
    from bias_transfer.spec import parse_trial

    path = many_ids(tmp_path)
    splits = load(path)
    texts = [{*own["text"]} for own in (splits.train, splits.dev, splits.test)]
    assert [len(own) for own in texts] == [48, 6, 6]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert "rows with the same text stay in one split: 180 rows, 60 different ones" in splits.notes[1]
    assert splits.facts["duplicates.contradicting"] == 30
    assert "30 rows have a text that also has another label" in splits.warnings[0]
    assert load(path, group_by="row").facts["duplicates.test_in_train"] > 0
    # What was done is in the id, which no trial on other files notices.
    trial = parse_trial({"data": str(path)})
    assert resolve(trial).trial.options["data.group_by"] == "text"
    assert resolve(trial).id != resolve(trial.with_fields(**{"data.group_by": "row"})).id
    assert "data.group_by" not in resolve(parse_trial({"data": str(written(tmp_path, "b.csv", CSV))})).trial.options


def test_rows_are_grouped_by_a_column(tmp_path):
    own = frame().assign(author=[f"author {row // 4}" for row in range(ROWS)])
    splits = load(written(tmp_path, "a.csv", FORMS["csv"](own)), group_by="author")
    authors = dict(zip(own["id"], own["author"], strict=True))
    named = [{authors[name] for name in each["id"]} for each in (splits.train, splits.dev, splits.test)]
    assert sum(map(len, named)) == len(set.union(*named)) == ROWS // 4
    with pytest.raises(UserError, match="no column for the data.group_by"):
        load(tmp_path / "a.csv", group_by="editor")
    for name in readers.SPLITS:
        written(tmp_path, f"own/{name}.csv", FORMS["csv"](frame(name)))
    with pytest.raises(UserError, match="data.group_by has no effect"):
        load(tmp_path / "own", group_by="text")
