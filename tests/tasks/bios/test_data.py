"""Biographies from files: the hub's schema is read, a single file is split, and unusable data are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bias_transfer.errors import UserError
from bias_transfer.metrics.tpr_gap import true_positives
from bias_transfer.spec import parse
from bias_transfer.tasks import readers
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.bios import data
from bias_transfer.tasks.bios.data import SOURCE, BiographyOptions
from bias_transfer.tasks.bios.occupations import OCCUPATIONS

identify, load = SOURCE.identify, SOURCE.load
SHARED = Path(__file__).parents[4] / "shared" / "data"
SAMPLE, REPORTED = SHARED / "bios" / "sample.parquet", SHARED / "reported"
SECRET = "a text that no message may show"


def frame(repeats: int = 1, **columns: object) -> pd.DataFrame:
    """`repeats` biographies of each occupation, with alternating pronouns."""
    rows = [
        (f"text {number}", number % 28, number % 2 if number < 28 * repeats - 3 else 0)
        for number in range(28 * repeats)
    ]
    return pd.DataFrame(rows, columns=["hard_text", "profession", "gender"]).assign(**columns)


def numbered(own: pd.DataFrame, split: str) -> pd.DataFrame:
    """With texts that no other split has; an empty one stays."""
    return own.assign(hard_text=[f"{text} {split}" if text.strip() else text for text in own["hard_text"]])


def write_folder(folder: Path, own: pd.DataFrame, **changed: pd.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    for split in readers.SPLITS:
        changed.get(split, own).pipe(numbered, split).to_csv(folder / f"{split}.csv", index=False)
    return folder


def test_a_folder_in_the_hubs_schema(tmp_path):
    splits = load(str(write_folder(tmp_path, frame())), BiographyOptions())
    assert splits.dev["label"] == list(range(28))
    assert splits.dev["pronoun"][:3] == ["he", "she", "he"]
    assert splits.dev.column_names == ["id", "text", "label", "pronoun"]
    assert len({*splits.train["id"], *splits.dev["id"], *splits.test["id"]}) == 84


def test_names_of_occupations_and_persons(tmp_path):
    own = frame(name="Ana Day").assign(profession=list(OCCUPATIONS), gender=["he", "She"] * 14)
    splits = load(str(write_folder(tmp_path, own)), BiographyOptions())
    assert splits.train["label"] == list(range(28))
    assert splits.train["pronoun"] == ["he", "she"] * 14
    assert set(splits.test["name"]) == {"Ana Day"}
    write_folder(tmp_path, own, dev=own.drop(columns="name"))
    with pytest.raises(UserError, match="dev without the column name, which another split has"):
        load(str(tmp_path), BiographyOptions())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gender": 2}, "unknown label in 'gender'. Allowed: 0, 1, he, she, m, f, male, female"),
        ({"profession": 28}, "unknown label in 'profession'. Allowed: 0, 1, 2"),
        ({"profession": 3}, "27 of 28 labels occur too rarely or never: accountant, architect, attorney, comedian"),
        ({"pronoun": "she"}, "several columns could be the pronoun: gender, pronoun"),
        ({"hard_text": " "}, "no text in 'hard_text'"),
        ({"name": "a", "names": "b"}, "several columns could be the name"),
    ],
)
def test_unusable_data_are_refused(tmp_path, changed, message):
    good = frame(hard_text=SECRET)
    with pytest.raises(UserError) as error:
        load(str(write_folder(tmp_path, good, test=good.assign(**changed))), BiographyOptions())
    assert message in str(error.value)
    assert "test.csv" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_data_set_without_pronouns_is_refused(tmp_path):
    with pytest.raises(UserError, match="no column for the pronoun. It has: hard_text, profession. Allowed: gender"):
        load(str(write_folder(tmp_path, frame().drop(columns="gender"))), BiographyOptions())


def test_a_single_file_is_split_by_occupation_and_pronoun(tmp_path):
    """20 biographies of each occupation: 6 she/her and 14 he/him."""
    rows = [(f"text {label} {number}", label, int(number < 6)) for label in range(28) for number in range(20)]
    own = pd.DataFrame(rows, columns=["text", "label", "gender"])
    own.to_csv(tmp_path / "one.csv", index=False)
    own.sample(frac=1, random_state=0).to_parquet(tmp_path / "two.parquet")
    one, two = (load(str(tmp_path / name), BiographyOptions()) for name in ("one.csv", "two.parquet"))
    for name, size, she in (("train", 16, {4, 5}), ("dev", 2, {0, 1}), ("test", 2, {0, 1})):
        part = getattr(one, name)
        assert set(Counter(part["label"]).values()) == {size}
        counts = Counter(label for label, said in zip(part["label"], part["pronoun"], strict=True) if said == "she")
        assert {counts[label] for label in range(28)} <= she
        assert set(part["text"]) == set(getattr(two, name)["text"])
    other = load(str(tmp_path / "one.csv"), BiographyOptions(split_seed=1))
    assert set(other.test["text"]) != set(one.test["text"])


def test_sources(tmp_path):
    assert identify("synthetic") == "synthetic"
    folder = write_folder(tmp_path / "bios", frame())
    before = identify(str(folder))
    write_folder(folder, frame(), dev=frame(gender=1))
    assert identify(str(folder)) != before
    with pytest.raises(UserError, match=r"Did you mean '.*bios'\? Allowed: synthetic; a \.csv"):
        load(str(tmp_path / "bioss"), BiographyOptions())
    with pytest.raises(UserError, match=r"unknown option 'data\.sizes'. Did you mean 'data\.size'"):
        parse(SOURCE.options("synthetic"), {"sizes": 500}, "data.")
    with pytest.raises(UserError, match="takes SyntheticBiosOptions, not BiographyOptions"):
        load("synthetic", BiographyOptions())


def test_the_public_sample():
    if not SAMPLE.is_file():
        pytest.skip(f"no biographies at {SAMPLE}")
    splits = load(str(SAMPLE), BiographyOptions())
    for part, count in ((splits.train, 8), (splits.dev, 1), (splits.test, 1)):
        assert Counter(part["label"]) == dict.fromkeys(range(28), count)
        assert {"she", "he"} == set(part["pronoun"])
    assert len(splits.pretraining) == 224
    assert data.CODES["nurse"] == 13
    assert {name: value for name, value in splits.facts.items() if name.startswith("texts.")} == {
        "texts.pronoun.informative": 275, "texts.pronoun.contradicting": 0,
        "texts.occupation.informative": 73, "texts.occupation.contradicting": 17,
    }  # fmt: skip


def biographies(size: int = 8) -> pd.DataFrame:
    """`size` biographies of each occupation, half of either pronoun; each shows the pronoun and names the occupation."""
    rows = [
        (f"{'She' if she else 'He'} is number {row}. People like the {name.replace('_', ' ')} work.", label, she)
        for label, name in enumerate(OCCUPATIONS)
        for row, she in enumerate([0, 1] * (size // 2))
    ]
    return pd.DataFrame(rows, columns=["hard_text", "profession", "gender"])


def gaps(splits: Splits) -> list[float]:
    """The TPR gaps, on all of train, of a classifier that recalls the biographies that begin with "She", and no other."""
    labels, pronouns = np.array(splits.train["label"][:]), np.array(splits.train["pronoun"][:])
    recalled = np.array([text.startswith("She") for text in splits.train["text"]])
    logits = np.eye(28)[np.where(recalled, labels, (labels + 1) % 28)]
    rows = true_positives(logits, labels, pronouns == "she", OCCUPATIONS, "")
    return [row.value for row in rows if row.metric == "tpr_gap"]


@pytest.fixture(params=["own", "reported"])
def flipped(request, tmp_path):
    """A file with 0 for she and 1 for he."""
    if request.param == "own":
        biographies(20).assign(gender=lambda own: 1 - own["gender"]).to_csv(tmp_path / "a.csv", index=False)
        return str(tmp_path / "a.csv")
    if not REPORTED.is_dir():
        pytest.skip(f"no reported files at {REPORTED}")
    return str(REPORTED / "bios_gender_flipped.csv")


def test_flipped_codes_of_the_pronoun_are_refused(flipped):
    """They were read, and every TPR gap had the wrong sign."""
    with pytest.raises(
        UserError, match=r"the column of the pronoun contradicts the texts: (\d+) of \1 .*\(100%; up to 20%"
    ):
        load(flipped, BiographyOptions())
    right = load(flipped, BiographyOptions(genders="swapped"))
    assert right.facts["texts.pronoun.contradicting"] == 0
    assert {gap for gap in gaps(right) if gap == gap} == {1.0}
    wrong = load(flipped, BiographyOptions(trust_columns=True))
    assert {gap for gap in gaps(wrong) if gap == gap} == {-1.0}
    assert "It is taken as it is, since data.trust_columns is set." in wrong.warnings[0]
    assert wrong.facts["texts.pronoun.contradicting"] == wrong.facts["texts.pronoun.informative"] >= 224


def test_codes_are_checked_split_by_split(tmp_path):
    own = biographies()
    write_folder(tmp_path, own, test=own.assign(gender=1 - own["gender"]))
    with pytest.raises(UserError, match=r"test.csv, split test: the column of the pronoun contradicts the texts"):
        load(str(tmp_path), BiographyOptions())


def test_occupations_in_another_order_are_refused(tmp_path):
    biographies().assign(profession=lambda own: (own["profession"] + 5) % 28).to_csv(tmp_path / "a.csv", index=False)
    files = [tmp_path / "a.csv", *([REPORTED / "bios_occupations_renumbered.csv"] if REPORTED.is_dir() else [])]
    for file in files:
        with pytest.raises(
            UserError, match=r"occupation contradicts the texts: 2[12]\d of 224 .* up to 50%.*write them by name"
        ):
            load(str(file), BiographyOptions())
        assert len(load(str(file), BiographyOptions(trust_columns=True)).train) == 168


def test_two_interchanged_occupations_are_warned_of(tmp_path):
    """Too few texts to refuse the column, which may be right: texts of paralegals may mostly name attorneys."""
    own = biographies(40).replace({"profession": {13: 19, 19: 13}})
    own.to_csv(tmp_path / "a.csv", index=False)
    (warning,) = load(str(tmp_path / "a.csv"), BiographyOptions()).warnings
    assert "most texts that name an occupation disagree: physician (40 of 40), nurse (40 of 40). Check that" in warning


def test_texts_that_say_nothing_are_no_evidence(tmp_path):
    """Scrubbed texts, and occupations that no text names."""
    own = biographies()
    scrubbed = own.assign(gender=1 - own["gender"], hard_text=[f"_ is number {row}." for row in range(len(own))])
    scrubbed.to_csv(tmp_path / "a.csv", index=False)
    facts = load(str(tmp_path / "a.csv"), BiographyOptions()).facts
    assert {name: value for name, value in facts.items() if name.startswith("texts.")} == {
        "texts.pronoun.informative": 0, "texts.pronoun.contradicting": 0,
        "texts.occupation.informative": 0, "texts.occupation.contradicting": 0,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"unknown label in 'gender'\. Allowed: 0, 1\."):
        load(str(write_folder(tmp_path / "words", own.assign(gender="she"))), BiographyOptions(genders="swapped"))
