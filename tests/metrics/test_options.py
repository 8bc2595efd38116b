"""Options of the extra measures: off they leave no trace in a trial's id, on they name the content of files."""

from __future__ import annotations

import pytest

from bias_transfer.metrics.options import ExtraOptions
from bias_transfer.metrics.pairs_file import content_digest
from bias_transfer.errors import UserError
from bias_transfer.spec import parse
from bias_transfer.spec import parse_trial
from bias_transfer.pipeline import resolve

PAIRS = "sent_more,sent_less,stereo_antistereo,bias_type\nthe cat is bad.,the dog is bad.,stereo,animal\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(PAIRS, encoding="utf-8")
    return path


def identity(**options):
    return resolve(parse_trial({f"metric.{name}": value for name, value in options.items()})).id


def test_an_extra_that_is_off_leaves_the_id(file):
    """Set to None they are not among a trial's options, so its id is what it was before there were extras."""
    plain = resolve(parse_trial({}))
    assert [key for key in plain.options if key.startswith("metric.")] == ["metric.scorer"]
    assert identity(disco=False, probe=False) == plain.id
    ids = {plain.id, identity(disco=True), identity(probe=True), identity(seat="first"), identity(seat="mean")}
    assert len({*ids, identity(crows_pairs=str(file))}) == 6


def test_the_id_has_the_content_of_the_pairs_not_their_place(file, tmp_path):
    before = identity(crows_pairs=str(file))
    moved = tmp_path / "elsewhere.csv"
    moved.write_text(PAIRS, encoding="utf-8")
    assert identity(crows_pairs=str(moved)) == before
    file.write_text(PAIRS.replace("cat", "fox"), encoding="utf-8")
    assert identity(crows_pairs=str(file)) != before


def test_resolving_fills_in_the_digest_and_nothing_else(file):
    options = ExtraOptions(crows_pairs=str(file), seat="mean")
    resolved = options.resolved()
    assert resolved.crows_pairs_digest == content_digest(str(file))
    assert resolved.model_copy(update={"crows_pairs_digest": None}) == options
    assert resolved.resolved() == resolved
    assert ExtraOptions(crows_pairs_digest="old").resolved() == ExtraOptions()


def test_a_file_of_another_form_is_told_when_the_trial_is_resolved(file):
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="sent_more, sent_less, stereo_antistereo, bias_type must each be one column"):
        identity(crows_pairs=str(file))
    with pytest.raises(UserError, match="no such file"):
        identity(crows_pairs=str(file) + "x")


def test_what_an_option_may_be_is_told():
    with pytest.raises(UserError, match="metric.seat: Input should be 'first' or 'mean' .got 'cls'."):
        parse(ExtraOptions, {"seat": "cls"}, "metric.")
    with pytest.raises(UserError, match="Did you mean 'metric.crows_pairs'"):
        parse(ExtraOptions, {"crow_pairs": "x"}, "metric.")
