"""What a start of a sweep has to do."""

from __future__ import annotations

import pytest

from bias_transfer import pipeline
from bias_transfer.errors import UserError
from bias_transfer.resolved import resolve
from bias_transfer.spec import AnalysisPlan, Trial, parse_trial
from bias_transfer.sweep.plan import (
    Plan,
    Request,
    check_all,
    check_conditions,
    check_margins,
    check_primary,
    in_turn,
    precision_warning,
)
from bias_transfer.tracking.runs import Conditions
from bias_transfer.training import finetune


def test_each_trial_has_the_state_that_the_store_and_the_outbox_give_it():
    trials = tuple(Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(5))
    done, pending, failed, again, out = (trial.id for trial in trials)
    labels = {trial.id: trial.label for trial in trials}
    errors = {failed: "no", again: "no"}
    plan = Plan("one", trials, labels, (trials[3],), {done: "run"}, errors, frozenset([pending, done]))
    assert plan.states() == {done: "done", pending: "pending", failed: "failed", again: "to do", out: "left out"}


def test_trials_in_a_precision_that_this_machine_is_slow_in_are_counted(monkeypatch):
    monkeypatch.setattr(finetune, "slow_precision", lambda trial: "slow" if trial.precision == "bf16" else None)
    trials = [Trial(seed=0), Trial(seed=1, precision="bf16")]
    assert precision_warning(trials) == "Warning, for 1 of 2 trials: slow"
    assert precision_warning(trials[:1]) is None


def test_what_was_read_is_told_once_before_a_sweep(tmp_path, checkpoint):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.csv").write_text(
            "text,label\n" + "".join(f"{split} {row},{row % 2}\n" for row in (1, 2, 3, 3))
        )
    (tmp_path / "balanced_train.csv").touch()
    trials = [
        parse_trial({"data": str(tmp_path), "model": checkpoint("roberta"), "seed": seed, "max_tokens": 8})
        for seed in (0, 1)
    ]
    read, sizes, *others = check_all([resolve(trial) for trial in trials])
    (warning,) = (text for text in others if "repeat" in text)
    assert read == f"{tmp_path}: read train.csv, dev.csv, test.csv. Left unread: balanced_train.csv."
    assert sizes == f"{tmp_path}: 4 train, 4 dev and 4 test examples."
    assert warning.startswith(
        f"Warning: {tmp_path} has rows that repeat an earlier text of their split (1 in train, 1 in dev"
    )


def test_the_prompt_of_every_seed_is_checked(monkeypatch, checkpoint):
    """Its examples are drawn by the seed; what is trained reads the same data with every seed."""
    checked = list[tuple[str, int]]()
    monkeypatch.setattr(pipeline, "check", lambda entry, places: checked.append((entry.trial.tuning, entry.trial.seed)))
    fields = [{"tuning": tuning, "seed": seed} for tuning in ("frozen", "prompt") for seed in (3, 4)]
    check_all([resolve(parse_trial({"model": checkpoint("llama"), "data.size": 200, **each})) for each in fields])
    assert checked == [("frozen", 3), ("prompt", 3), ("prompt", 4)]


def test_trials_that_share_their_upstream_stage_take_turns():
    arms = [{"upstream": up, "downstream": down} for up in ("none", "permute") for down in ("none", "scrub")]
    grid = [resolve(parse_trial({**arm, "data.size": size, "seed": 3})) for size in (300, 200) for arm in arms]
    order = in_turn(grid)
    assert [(trial.upstream, trial.downstream) for trial in order[:4]] == [
        ("none", "none"), ("permute", "none"), ("none", "scrub"), ("permute", "scrub"),
    ]  # fmt: skip
    assert {trial.options["data.size"] for trial in order[:4]} == {300}
    assert sorted(trial.id for trial in order) == sorted(entry.id for entry in grid)


def test_a_margin_of_an_outcome_that_is_not_analysed_is_refused():
    """As a typing error would be: the margin would never be used."""

    def asked(outcome, **more):
        return Request("one", (resolve(Trial()),), AnalysisPlan(margins={"wiki": {outcome: {"slope_sd": 0.2}}}, **more))

    check_margins(asked("fpr"))
    check_margins(asked("logit_gap"))
    check_margins(asked("natural_fpr", primary={"wiki": "natural_fpr"}))
    with pytest.raises(UserError, match="analysis.margins.wiki 'fprr'. Did you mean 'fpr'"):
        check_margins(asked("fprr"))
    with pytest.raises(UserError, match="Allowed: fpr, logit_gap"):
        check_margins(asked("natural_fpr"))


def test_a_misspelt_primary_outcome_is_found_before_the_first_trial(tmp_path):
    def asked(task, outcome, **fields):
        check_primary(
            Request("one", (resolve(parse_trial({"task": task, **fields})),), AnalysisPlan(primary={task: outcome}))
        )

    for task, outcome in (("wiki", "fpr"), ("wiki", "natural_logit_gap"), ("bios", "log_tpr_ratio")):
        asked(task, outcome)
    with pytest.raises(UserError, match="analysis.primary.wiki 'natural_fprr'. Did you mean 'natural_fpr'"):
        asked("wiki", "natural_fprr")
    with pytest.raises(UserError, match="analysis.primary.bios 'accuracy'.* Allowed: .*tpr_gap"):
        asked("bios", "accuracy")  # a utility has no value per group
    asked("bios", "separation_gap", **{"metric.separation": True})
    with pytest.raises(UserError, match="separation_gap is measured with metric.separation: true alone"):
        asked("bios", "separation_gap")
    (tmp_path / "a.csv").write_text("text,label,who\nx,0,pilots\n")
    forum = {"evaluate.forum": str(tmp_path / "a.csv"), "evaluate.forum.groups": "who"}
    asked("wiki", "forum_fpr", **forum)
    with pytest.raises(UserError, match="Did you mean 'forum_fpr'"):
        asked("wiki", "forum_fp", **forum)


def test_a_margin_may_be_that_of_an_evaluation_set(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,who\nx,0,pilots\n")
    trial = parse_trial({"evaluate.forum": str(tmp_path / "a.csv"), "evaluate.forum.groups": "who"})
    plan = AnalysisPlan(margins={"wiki": {"forum_fpr": {"arm_sd": 0.2}}})
    check_margins(Request("one", (resolve(trial),), plan))
    with pytest.raises(UserError, match="unknown outcome in analysis.margins.wiki 'forum_fpr'"):
        check_margins(Request("one", (resolve(Trial()),), plan))


def test_names_leave_out_options_that_have_their_default():
    """And show those that do not, even if their value is false: arms that differ would else share a name."""
    fields = {"upstream": "sent_debias", "upstream.components": 2}
    grid = [resolve(parse_trial({**fields, **more})) for more in ({}, {"upstream.kept": False}, {"seed": 1})]
    request = Request("one", tuple(grid), AnalysisPlan())
    arms = [request.labels[entry.id].arm for entry in grid]
    assert arms[0] == arms[2] == "sent_debias=1(components=2) + none"
    assert arms[1] == "sent_debias=1(components=2,kept=false) + none"
    assert request.labels[grid[0].id].name == "sent_debias=1(components=2) + none s0 wiki tiny"
    assert "corpus=both" in grid[0].trial.arm


HERE, VERSIONS = "cpu x86_64 GenuineIntel 6/207 0123", "numpy 2.4.6, torch 2.13.0"


def test_finished_trials_of_this_machine_and_of_unknown_ones_are_no_obstacle():
    check_conditions({}, {HERE}, VERSIONS)
    check_conditions({"a": Conditions(HERE, VERSIONS), "b": Conditions("", "")}, {HERE, "another"}, VERSIONS)


@pytest.mark.parametrize(
    ("ran", "words"),
    [
        (Conditions("cpu x86_64 AuthenticAMD 25/17 4567", VERSIONS), ["1 on another machine", "AuthenticAMD", HERE]),
        (Conditions(HERE, "numpy 2.4.6, torch 2.12.0"), ["1 with other versions", "(torch 2.12.0; now: torch 2.13.0)"]),
    ],
)
def test_finished_trials_of_another_machine_or_version_are_said(ran, words):
    with pytest.raises(UserError) as raised:
        check_conditions({"a": ran, "b": Conditions(HERE, VERSIONS)}, {HERE}, VERSIONS)
    assert all(word in str(raised.value) for word in [*words, "of the 2 finished trials", "--accept-machine"])
