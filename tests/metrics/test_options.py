"""Options of the optional measures: off, they do not change a trial's id; on, the id depends on the content of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bias_transfer.errors import UserError
from bias_transfer.metrics.crows_pairs import content_digest
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse, parse_trial

BOARD = str(Path(__file__).parents[2] / "examples" / "custom_task" / "board.yaml")
PAIRS = "sent_more,sent_less,stereo_antistereo,bias_type\nthe cat is bad.,the dog is bad.,stereo,animal\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(PAIRS, encoding="utf-8")
    return path


def identity(**options):
    return resolve(parse_trial({f"metric.{name}": value for name, value in options.items()})).trial.id


def test_an_optional_measure_that_is_off_does_not_change_the_id(file):
    """Options that are None are not among a trial's options, so that its id is that of a trial without them."""
    plain = resolve(parse_trial({}))
    assert [key for key in plain.trial.options if key.startswith("metric.")] == ["metric.scorer"]
    assert identity(disco=False, probe=False) == plain.trial.id
    ids = {plain.trial.id, identity(disco=True), identity(probe=True), identity(seat="first"), identity(seat="mean")}
    assert len({*ids, identity(crows_pairs=str(file))}) == 6


def test_the_id_depends_on_the_content_of_the_pairs_and_not_on_their_location(file, tmp_path):
    before = identity(crows_pairs=str(file))
    moved = tmp_path / "elsewhere.csv"
    moved.write_text(PAIRS, encoding="utf-8")
    assert identity(crows_pairs=str(moved)) == before
    file.write_text(PAIRS.replace("cat", "fox"), encoding="utf-8")
    assert identity(crows_pairs=str(file)) != before


def test_resolving_fills_in_the_digest_and_nothing_else(file):
    options = MetricOptions(crows_pairs=str(file), seat="mean")
    resolved = options.resolved()
    assert resolved.crows_pairs_digest == content_digest(str(file))
    assert resolved.model_copy(update={"crows_pairs_digest": None}) == options
    assert resolved.resolved() == resolved
    assert MetricOptions(crows_pairs_digest="old").resolved() == MetricOptions()


def test_a_file_in_another_form_is_refused_when_the_trial_is_resolved(file):
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="sent_more, sent_less, stereo_antistereo, bias_type must each be one column"):
        identity(crows_pairs=str(file))
    with pytest.raises(UserError, match="no such file"):
        identity(crows_pairs=str(file) + "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "FILE"}, "metric.pairs needs metric.pairs_more and metric.pairs_less"),
        ({"pairs": "FILE", "pairs_more": "sent_more"}, "metric.pairs needs metric.pairs_more and metric.pairs_less"),
        ({"pairs_type": "bias_type"}, "metric.pairs_type has no effect without metric.pairs. Add it"),
        ({"aul": True}, "metric.aul has no effect without metric.crows_pairs or metric.pairs"),
        ({"stereoset_replica": True}, "metric.stereoset_replica has no effect without metric.stereoset"),
        ({"cbs_attributes": "FILE"}, "metric.cbs_attributes has no effect without metric.cbs"),
        ({"stereoset": "FILE"}, "not in the form of StereoSet's dev.json"),
        ({"hurtful": "missing.txt"}, "metric.hurtful: missing.txt: no such file"),
        ({"cbs": True, "cbs_attributes": "missing.txt"}, "metric.cbs_attributes: missing.txt: no such file"),
    ],
    ids=str,
)
def test_options_that_lack_another_or_a_file_are_refused_when_the_trial_is_resolved(options, message, file):
    with pytest.raises(UserError, match=message):
        identity(**{name: str(file) if value == "FILE" else value for name, value in options.items()})


def test_the_id_depends_on_the_mapping_of_columns(file):
    mapped = {"pairs": str(file), "pairs_more": "sent_more", "pairs_less": "sent_less"}
    swapped = {**mapped, "pairs_more": "sent_less", "pairs_less": "sent_more"}
    ids = {identity(**mapped), identity(**swapped), identity(**mapped, pairs_type="bias_type"), identity()}
    assert len(ids) == 4
    off = {"aul": False, "cbs": False, "stereoset_replica": False}
    assert identity(**off) == identity()


def test_an_unsuitable_option_is_reported_with_the_allowed_values():
    with pytest.raises(UserError, match="metric.seat: Input should be 'first', 'mean' or 'last' .got 'cls'."):
        parse(MetricOptions, {"seat": "cls"}, "metric.")
    with pytest.raises(UserError, match="Did you mean 'metric.crows_pairs'"):
        parse(MetricOptions, {"crow_pairs": "x"}, "metric.")


@pytest.mark.parametrize("fields", [{"task": "bios"}, {"task": BOARD, "data": BOARD}], ids=["bios", "custom"])
def test_phrases_are_chosen_on_wiki_alone(fields):
    with pytest.raises(
        UserError, match=r"metric.phrases_per_term: it chooses among the identity phrases of the task wiki"
    ):
        resolve(parse_trial({**fields, "metric.phrases_per_term": 40}))
    options = resolve(parse_trial({"metric.phrases_per_term": 40})).trial.options
    assert options == {"metric.phrases_per_term": 40, **resolve(parse_trial({})).trial.options}
