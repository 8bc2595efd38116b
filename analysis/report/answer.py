"""The first screen of a report, for a reader who has never heard of estimands: a headline, three answers, and what to do next.

Each sentence is licensed by a row of numbers, and where the numbers do not decide, the sentence says so.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.cells import outcome_named
from analysis.estimands.answer import Side, mitigations
from analysis.estimands.equivalence import leaves_out_zero
from analysis.estimands.interactions import NOT_PRETRAINED
from analysis.estimands.reliability import RELIABLE
from analysis.figures.style import arm_label
from analysis.findings import Findings
from analysis.report.wording import changes, plural

Row = Mapping[Any, Any]

MOST_SEEDS = 200
"""More seeds than this are not recommended: what would take them is out of reach."""

SIDES: dict[Side, str] = {"model": "the model", "data": "the data", "both": "model and data together"}


@dataclass(frozen=True)
class Answer:
    """The first screen for one study."""

    study: str
    headline: str
    harm: str
    """What is called harm."""
    lines: Mapping[str, str]
    """Question -> its answer."""
    next_step: str
    """What to do next, in a sentence."""
    command: str
    """The command that does it; empty for none."""


def answers(findings: Findings) -> list[Answer]:
    """The first screen of every study, by its primary outcome."""
    return [_answer(findings, study, outcome) for study, outcome in findings.primary.items()]


def text(findings: Findings) -> str:
    """The first screen of every study as plain text, without the picture."""
    parts = []
    for each in answers(findings):
        lines = [f"- {question} {reply}" for question, reply in each.lines.items()]
        parts.append(
            "\n".join([f"{each.study}: {each.headline}", *lines, f"Next: {each.next_step} {each.command}".rstrip()])
        )
    return "\n\n".join(parts) + "\n"


def _answer(findings: Findings, study: str, outcome: str) -> Answer:
    frame = findings.frames["answer"]
    rows = frame[(frame["study"] == study) & (frame["outcome"] == outcome)]
    lines = {
        "Does bias transfer?": transfer(findings, study, outcome),
        "Does it take pre-training?": pretraining(rows, outcome),
        "How sure is this?": certainty(findings, rows, study, outcome),
    }
    return Answer(study, headline(rows, outcome), harm(outcome), lines, *next_step(findings, rows))


HARMS = {
    "fpr": "Harm here is the share of harmless phrases about a group that the classifier flags (false positive rate).",
    "natural_fpr": "Harm here is the share of harmless texts about a group that the classifier flags (false positive rate).",
    "tpr_gap": "Harm here is how unequally she/her and he/him biographies of an occupation are recognised (TPR gap, its size).",
}
"""Outcome -> what is called harm; for another, its meaning in the table of outcomes."""


def harm(outcome: str) -> str:
    """What the first screen calls harm."""
    return HARMS.get(outcome, f"Harm here is measured so. {outcome_named(outcome).meaning}")


def headline(rows: pd.DataFrame, outcome: str) -> str:
    """The answer in a sentence or two: what changing each side did to the harm, or that it cannot be told."""
    arms = {side: of_side for side in SIDES if len(of_side := mitigations(rows, side))}
    if not arms:
        return f"This experiment compares no mitigations: {NO_MITIGATION}."
    if all((of_side["effect"] == "unclear").all() for of_side in arms.values()):
        return _unclear(rows, outcome)
    alone = [f"No arm that changes {SIDES[side]} alone was compared." for side in ALONE if side not in arms]
    return " ".join([*(_side(of_side, side, outcome) for side, of_side in arms.items()), *alone])


ALONE: tuple[Side, ...] = ("model", "data")
NO_MITIGATION = "no arm that is meant to reduce harm can be compared with the untouched model"


def _side(arms: pd.DataFrame, side: Side, outcome: str) -> str:
    """What changing one side did. arms: its mitigations, the largest reduction of harm first."""
    subject = f"Changing {SIDES[side]}"
    reduced, effects = arms[arms["effect"] == "reduced"], set(arms["effect"])
    if len(reduced):
        return f"{subject} reduced the harm: {_changed(reduced, outcome)}."
    if effects == {"none"}:
        return f"{subject} did not change the harm, within {_within(arms.iloc[0].to_dict(), outcome)}."
    if effects == {"raised"}:
        return f"{subject} raised the harm: {_changed(arms, outcome)}."
    return f"Whether changing {SIDES[side]} reduces the harm is not clear: {_changed(arms, outcome)}."


def _changed(arms: pd.DataFrame, outcome: str) -> str:
    """The first arm with its change."""
    row = arms.iloc[0].to_dict()
    return f"{_named(row)} changed it by {amount(row, outcome)}"


def _named(row: Row) -> str:
    return arm_label(str(row["arm"]))


def amount(row: Row, outcome: str) -> str:
    """The change of harm of an arm, with its interval."""
    middle, low, high = changes(outcome_named(outcome), row["harm"], row["harm_low"], row["harm_high"])
    return middle if math.isnan(row["harm_low"]) else f"{middle} (95 % interval {low} to {high})"


def _within(row: Row, outcome: str) -> str:
    low, high = changes(outcome_named(outcome), -row["margin"], row["margin"])
    return f"{low} to {high}"


def _unclear(rows: pd.DataFrame, outcome: str) -> str:
    """The headline where no mitigation has an effect that is clear: how many seeds would do, or what was too small to see."""
    wanted, have = seeds_wanted(rows), int(rows["seeds"].max())
    if wanted is None:
        counted = plural(have, "seed")
        return f"Not enough seeds to tell: with {counted} per arm there is no interval. Start with {FEWEST} per arm."
    low, high = changes(outcome_named(outcome), -rows["target"].iloc[0], rows["target"].iloc[0])
    size = f"a change of harm by {low} or {high}"
    if wanted <= have:
        return f"No arm changed the harm clearly: {plural(have, 'seed')} per arm would show {size}, and smaller ones rarely."
    if wanted > MOST_SEEDS:
        return f"Not enough seeds to tell: {size} would take more than {MOST_SEEDS} per arm, and each arm has {have}."
    return f"Not enough seeds to tell: {wanted} per arm would show {size}, and each arm has {have}."


def seeds_wanted(rows: pd.DataFrame) -> int | None:
    """The seeds per arm that the arms that are not clear need, the most of them; None where it is not known."""
    needed = rows.loc[rows["mitigation"] & (rows["effect"] == "unclear"), "seeds_needed"].dropna()
    return None if needed.empty else int(min(needed.max(), MOST_SEEDS + 1))


def transfer(findings: Findings, study: str, outcome: str) -> str:
    """Whether what the model associates with a group goes with the harm to it."""
    verdict, rows = findings.verdicts.get((study, outcome)), findings.coefficients
    chosen = (rows["study"] == study) & (rows["outcome"] == outcome) & (rows["estimand"] == "B") & (rows["term"] == "x")
    if verdict is not None and verdict.licensed:
        return "No, within the margin that was stated beforehand."
    if not chosen.any() or math.isnan(rows.loc[chosen, "low"].iloc[0]):
        return f"Unknown: {rows.loc[chosen, 'reason'].iloc[0] if chosen.any() else 'it was not measured'}."
    row = rows[chosen].iloc[0].to_dict()
    middle, low, high = changes(outcome_named(outcome), *(0.1 * row[name] for name in ("coefficient", "low", "high")))
    named = outcome_named(outcome)
    after = f"{middle} in {named.name}" if named.zero else f"{middle} harm"
    size = (
        f"a group about which the model is more biased by 0.1 SD before fine-tuning meets {after} after it (95 % "
        f"interval {low} to {high}; {plural(row['n_groups'], 'group')}, at equal bias of the data)"
    )
    if leaves_out_zero(rows[chosen]):
        return f"Yes, as an association: {size}. What caused it, this comparison cannot say."
    return f"Not shown, and not ruled out: {size}."


def pretraining(rows: pd.DataFrame, outcome: str) -> str:
    """Whether the harm is there without pre-training too."""
    fresh = rows[(rows["side"] == "model") & rows["arm"].str.startswith(f"{NOT_PRETRAINED}=1 ")]
    if fresh.empty:
        return f"Unknown: no arm without pre-training was run (upstream: {{name: {NOT_PRETRAINED}, dose: 1}})."
    row = fresh.iloc[0].to_dict()
    if row["effect"] == "reduced":
        return f"At least in part: without pre-training, the harm is lower, by {amount(row, outcome)}."
    if row["effect"] == "raised":
        return f"No: without pre-training, the harm is higher, by {amount(row, outcome)}."
    if row["effect"] == "none":
        return f"No: without pre-training, the harm is the same, within {_within(row, outcome)}."
    corrected = "" if math.isnan(row["harm_low"]) or row["harm_low"] <= 0 <= row["harm_high"] else CORRECTED
    return f"Not clear: without pre-training, the harm changes by {amount(row, outcome)}{corrected}."


CORRECTED = ", which is not significant once the number of arms is taken into account"


def certainty(findings: Findings, rows: pd.DataFrame, study: str, outcome: str) -> str:
    """What the answers rest on: seeds, models, groups, reliability, and the positive control."""
    seeds = sorted({int(seeds) for seeds in rows["seeds"] if seeds}) or [0]
    counted = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else plural(seeds[0], "seed")
    models, groups = (int(rows[name].max()) if len(rows) else 0 for name in ("models", "n_groups"))
    scope = f"{models} pre-trained models" if models > 1 else "one checkpoint, so that nothing follows for other models"
    alpha = float(findings.frames["reliability"].set_index("study")["reliability"].get(study, math.nan))
    known = "unknown" if math.isnan(alpha) else f"{'good' if alpha >= RELIABLE else 'too low'} (alpha {alpha:.2f})"
    control = findings.controls.get((study, outcome))
    return (
        f"{counted} per arm and {plural(groups, 'group')}, on {scope}. The reliability of the bias that was measured before "
        f"fine-tuning is {known}. {CONTROLS[control.passed if control else None]}"
    )


CONTROLS = {
    True: "A positive control passed: bias that was put into the model was found after fine-tuning.",
    False: "The positive control failed: bias that was put into the model was not found after fine-tuning.",
    None: "There is no positive control, which would show that bias is found where it was put into the model.",
}
"""Whether the positive control passed -> what that means."""


def next_step(findings: Findings, rows: pd.DataFrame) -> tuple[str, str]:
    """(what to do next, the command that does it)."""
    again, missing = sweep_command(findings), len(findings.runs.missing)
    if missing:
        return f"Run the {plural(missing, 'trial')} still missing.", again
    wanted, have = seeds_wanted(rows), int(rows["seeds"].max()) if len(rows) else 0
    unclear = bool((rows["mitigation"] & (rows["effect"] == "unclear")).any())
    if unclear and (wanted is None or have < wanted <= MOST_SEEDS):
        more = max(wanted or FEWEST, have + 1)
        axis = shlex.quote(f"seed=[{', '.join(map(str, range(more)))}]")
        return f"Run {more} seeds per arm; trials that are finished are not run again.", f"{again} --set {axis}"
    if all(control.passed is None for control in findings.controls.values()):
        return "Run a positive control with the same data, model and settings.", _control(findings)
    return "Export the model of the arm that you choose; `bias-transfer trial --help` lists the fields.", EXPORT


FEWEST = 5
"""Seeds to begin with where nothing is known of their spread."""

EXPORT = "bias-transfer export --help"


def sweep_command(findings: Findings) -> str:
    """What starts the sweep again. The store's text is split and quoted again, so that a shell takes it for words alone."""
    sweep = findings.runs.sweep
    try:
        words = shlex.split(sweep.command)
    except ValueError:
        words = []
    known = words[:2] == ["bias-transfer", "sweep"]
    return shlex.join(words if known else ["bias-transfer", "sweep", f"{sweep.experiment}.yaml"])


def _control(findings: Findings) -> str:
    trial = findings.runs.trials[0]
    words = [word for name in ("task", "data", "model") for word in ("--set", f"{name}={getattr(trial, name)}")]
    return shlex.join(["bias-transfer", "sweep", "tune_configs/positive_control.yaml", *words])


def worded(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Arm -> its numbers in words, by what they are. rows: those of one study."""
    return {str(row["arm"]): _worded(row) for row in rows.to_dict("records")}


def _worded(row: Row) -> dict[str, str]:
    middle, low, high = changes(outcome_named(str(row["outcome"])), row["harm"], row["harm_low"], row["harm_high"])
    return {
        "change of harm": middle,
        "95 % interval": "none" if math.isnan(row["harm_low"]) else f"{low} to {high}",
        "change of utility": f"{100 * row['utility_change']:+.2g} points",
        "n": f"{plural(row['seeds'], 'seed')}, {plural(row['n_groups'], 'group')}",
        "verdict": EFFECTS[row["effect"]],
    }


EFFECTS = {
    "reduced": "less harm",
    "raised": "more harm",
    "none": "no change, within the margin",
    "unclear": "not clear",
}
"""Effect of an arm -> how it is called."""
