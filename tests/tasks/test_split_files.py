"""The files of train, dev and test are those with exactly these names, and their content identifies a folder."""

from __future__ import annotations

import pytest

from bias_transfer.errors import UserError
from bias_transfer.tasks import split_files
from bias_transfer.tasks.readers import SPLITS


def choose(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    chosen = split_files.choose(folder)
    return {
        split: [file.relative_to(folder).as_posix() for file in files] for split, files in chosen.files.items()
    }, chosen.left


@pytest.mark.parametrize("dev", split_files.NAMES["dev"])
def test_names_are_matched_whole(tmp_path, dev):
    """The layout of OxAISH-AL-LLM/wiki_toxic: its second training set is not read."""
    files, left = choose(
        tmp_path, "train.csv", f"{dev}.csv", "test.csv", "balanced_train.csv", "README.md", "more/train.csv"
    )
    assert files == {"train": ["train.csv"], "dev": [f"{dev}.csv"], "test": ["test.csv"]}
    assert left == ("balanced_train.csv", "more/train.csv")


def test_shards_in_a_subfolder(tmp_path):
    """The layout of LabHC/bias_in_bios and of most data sets on the hub."""
    names = ["train-00000-of-00002-0ab1.parquet", "train-00001-of-00002-7c3d.parquet", "dev-00000-of-00001-9e.parquet"]
    names = [
        f"data/{name}" for name in (*names, "test-00000-of-00001-11.parquet", "balanced_train-00000-of-00001.parquet")
    ]
    files, left = choose(tmp_path, *names)
    assert files == {"train": names[:2], "dev": names[2:3], "test": names[3:4]}
    assert left == (names[4],)
    (tmp_path / names[0]).unlink()
    with pytest.raises(UserError, match="has 1 of the 2 files of train, a split in shards"):
        split_files.choose(tmp_path)
    with pytest.raises(UserError, match="has 2 for dev: "):
        choose(tmp_path, names[0], "data/validation.csv")


def test_the_digest_depends_on_content_and_not_on_location(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for split in SPLITS:
            (tmp_path / name / f"{split}.csv").write_text(f"text,label\n{split},0\n")
    one, two = tmp_path / "one", tmp_path / "two"
    assert split_files.content_digest(one) == split_files.content_digest(two)
    assert split_files.content_digest(one / "dev.csv") == split_files.content_digest(two / "dev.csv")
    (two / "notes.csv").write_text("not read")
    assert split_files.content_digest(one) == split_files.content_digest(two)
    (two / "dev.csv").write_text("text,label\ndev,1\n")
    assert split_files.content_digest(one) != split_files.content_digest(two)
    assert split_files.content_digest(one / "dev.csv") != split_files.content_digest(two / "dev.csv")


def test_swapped_files_change_the_digest(tmp_path):
    for name, (first, second) in {"one": "ab", "two": "ba"}.items():
        (tmp_path / name).mkdir()
        for split, text in zip(SPLITS, (first, second, "c"), strict=True):
            (tmp_path / name / f"{split}.csv").write_text(text)
    assert split_files.content_digest(tmp_path / "one") != split_files.content_digest(tmp_path / "two")


def test_a_folder_needs_one_file_per_split(tmp_path):
    (tmp_path / "dev.csv").touch()
    (tmp_path / "my_train.csv").touch()
    with pytest.raises(UserError, match="has none for train, none for test. .* Other files there: my_train.csv"):
        split_files.choose(tmp_path).complete()
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"has 2 for train: train.csv, train.tsv\. It needs exactly one"):
        split_files.choose(tmp_path)
