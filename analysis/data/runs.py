"""Load the measures of sweeps: `load` returns the trials of one or more sweeps with everything they measured, as one table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.data.declared import MODEL_SEED, arm_of, as_read, merged
from bias_transfer.errors import UserError
from bias_transfer.spec import AnalysisPlan, Label, Trial, module_of

if TYPE_CHECKING:
    from bias_transfer.tracking.runs import Recorded
    from bias_transfer.tracking.sweeps import Sweep

FIELDS = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose", "arm", "seed")
"""Fields of a trial that the table repeats for each of its measures."""

ARM_FIELDS = frozenset({"upstream", "upstream_dose", "downstream", "downstream_dose", "seed"})
"""Fields in which trials of one study may differ. They may also differ in the arms' own options and in `REPLICATES`."""

REPLICATES = (MODEL_SEED,)
"""Options that, like the seed, distinguish repetitions within a study: the pre-training seed of `tiny`, or the place of a
checkpoint among those that the plan declares (`declared.as_read`)."""

DRAW, NO_DRAW = "upstream.draw", -1
"""The option that names the draw of a random arm apart from the fine-tuning seed, and the table's value where it is unset."""

REPEATS = ("replicate", "draw", "seed")
"""Columns that name a trial within its arm: the model (pre-training seed), the arm's draw, and the fine-tuning seed."""

UNTOUCHED = "none + none"
"""The arm without any intervention, with which the others are compared."""

LISTED = 10
"""The number of missing trials that an error message lists."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The trials of one or more sweeps, and everything they measured."""

    sweeps: tuple[Sweep, ...]
    table: pd.DataFrame
    """One row per trial and measure: study, trial (its id), `FIELDS`, replicate, draw, stage, metric, group, template, value,
    n. Strings are categories. The trials of a study differ only in arm and `REPEATS`; they share task, data, model and training
    settings. Arms are paired by (replicate, seed); where there are several replicates, `seed` is the rank of that pair. Arms
    that differ in their draw alone are one arm."""
    missing: tuple[Trial, ...]
    """Trials that have not finished in any of the sweeps."""
    declared: AnalysisPlan = field(default_factory=AnalysisPlan)
    """Pre-training seeds and twins, as the plans of the sweeps declare them; nothing else of the plans."""

    @property
    def sweep(self) -> Sweep:
        """The first sweep (the only one, if one experiment was loaded)."""
        return self.sweeps[0]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, each once, finished or not."""
        return _trials(self.sweeps)

    @property
    def labels(self) -> dict[str, Label]:
        """Trial id -> how it is shown."""
        return _labels(self.sweeps, self.declared)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the evaluation sets that any trial predicted."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.evaluation_sets))

    @property
    def primary(self) -> dict[str, dict[str, str]]:
        """Task -> stage -> primary metric, over all sweeps."""
        return {task: stages for sweep in self.sweeps for task, stages in sweep.primary.items()}


def load(
    experiment: str | Sequence[str],
    sweep: str | None = None,
    uri: str | None = None,
    allow_missing: bool = False,
    cache: Path | None = None,
    declared: AnalysisPlan = AnalysisPlan(),  # noqa: B008 - frozen
) -> Runs:
    """Load all measures of an experiment's latest sweep, of several experiments' latest sweeps, or of a named sweep.

    A trial counts once, no matter how many runs, sweeps and experiments contain it. Finished runs do not change, so they are
    fetched once and then read from `cache` (default: the project's cache). declared: pre-training seeds and twins, in addition
    to those of the sweeps' own plans.

    Raises UserError for an unknown experiment or sweep, if no trial has finished, if the sweeps have different primary
    metrics or declare models differently, and, unless `allow_missing`, if any trial has not finished.
    """
    from analysis.data import fetch  # late, because it loads MLflow, which tables made by hand do not need

    names = [experiment] if isinstance(experiment, str) else list(dict.fromkeys(experiment))
    if not names:
        raise UserError("Name at least one experiment.")
    if sweep and len(names) > 1:
        raise UserError("A sweep can be named only when one experiment alone is analysed.")
    found = [fetch.find(name, sweep, uri, cache) for name in names]
    sweeps = tuple(cached_sweep.sweep for cached_sweep in found)
    _require_same_primary(sweeps)
    trials, runs = _trials(sweeps), _finished(sweeps)
    missing = tuple(trial for trial in trials if trial.id not in runs)
    if missing and not (allow_missing and runs):
        raise UserError(_missing(sweeps, trials, missing))
    chosen = [runs[trial.id] for trial in trials if trial.id in runs]
    declared = merged([*(sweep.plan for sweep in sweeps), declared])
    table = tidy(trials, fetch.measures(found, chosen, uri), _labels(sweeps, declared), declared)
    return Runs(sweeps, table, missing, declared)


def _trials(sweeps: Sequence[Sweep]) -> tuple[Trial, ...]:
    return tuple({trial.id: trial for sweep in sweeps for trial in sweep.trials}.values())


def _labels(sweeps: Sequence[Sweep], declared: AnalysisPlan) -> dict[str, Label]:
    """Of a trial in several sweeps the first one's, so that an arm has one name."""
    trials = _trials(sweeps)
    labels = {trial.id: trial.label for trial in trials}
    labels |= {trial_id: label for sweep in reversed(sweeps) for trial_id, label in sweep.labels.items()}
    read = dict(zip((trial.id for trial in trials), as_read(trials, declared), strict=True))
    return labels | {
        trial.id: labels[trial.id]._replace(arm=arm_of(trial, read[trial.id], labels[trial.id].arm)) for trial in trials
    }


def _finished(sweeps: Sequence[Sweep]) -> dict[str, Recorded]:
    """Trial id -> its run in the first sweep that has one. Any would do: equal ids mean equal numbers."""
    return {run.trial: run for sweep in reversed(sweeps) for run in sweep.recorded}


def _require_same_primary(sweeps: Sequence[Sweep]) -> None:
    for sweep in sweeps:
        for task, stages in sweep.primary.items():
            first = next(other for other in sweeps if task in other.primary)
            if stages != first.primary[task]:
                raise UserError(
                    f"{first.experiment!r} and {sweep.experiment!r} differ in the primary metrics of {task} "
                    f"({first.primary[task]}; {stages}). Analyse them separately."
                )


def _missing(sweeps: Sequence[Sweep], trials: Sequence[Trial], missing: Sequence[Trial]) -> str:
    errors = {trial_id: text for sweep in sweeps for trial_id, text in sweep.failed.items()}
    labels = _labels(sweeps, AnalysisPlan())
    lines = [f"  {trial.id}  {labels[trial.id].name}{_error(errors.get(trial.id))}" for trial in missing[:LISTED]]
    more = [f"  ... and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    names = " and ".join(repr(sweep.experiment) for sweep in sweeps)
    starts = " and ".join(f"bias-transfer sweep tune_configs/{sweep.experiment}.yaml" for sweep in sweeps)
    remedy = (
        f"Rerun the sweep with the same command as before, e.g. {starts}. It runs only the missing trials; add --retry-failed "
        "to repeat failed ones."
    )
    if len(missing) < len(trials):
        remedy += " To analyse only the finished trials, pass --allow-missing."
    else:
        remedy += " There is nothing to analyse: none has finished yet."
    return "\n".join(
        [f"{len(missing)} of the {len(trials)} trials of {names} have not finished:", *lines, *more, remedy]
    )


def _error(text: str | None) -> str:
    return f": failed ({text.strip().splitlines()[-1][:120]})" if text and text.strip() else ""


def tidy(
    trials: Sequence[Trial],
    measures: pd.DataFrame,
    labels: Mapping[str, Label] | None = None,
    declared: AnalysisPlan = AnalysisPlan(),  # noqa: B008 - frozen
) -> pd.DataFrame:
    """Join measures (trial, stage, metric, group, template, value, n) with their trial's study and fields.

    Rows are in the order of `trials`; measures of other trials are dropped. Strings become categories, since plain strings
    take ten times the memory. labels: trial id -> how it is shown (default: the trial's own, with every option); declared:
    pre-training seeds and twins. The column model has the model that ran. Raises ValueError if a trial is given twice.
    """
    read = as_read(trials, declared)
    rows = [
        {"trial": trial.id, **{name: getattr(entry, name) for name in FIELDS}, "model": trial.model}
        for trial, entry in zip(trials, read, strict=True)
    ]
    fields = pd.DataFrame(rows).astype({"upstream_dose": float, "downstream_dose": float})
    arms = [
        arm_of(trial, entry, (labels or {}).get(trial.id, trial.label).arm)
        for trial, entry in zip(trials, read, strict=True)
    ]
    draws = [int(trial.options.get(DRAW, NO_DRAW)) for trial in trials]
    fields = fields.assign(seed=_seeds(read), replicate=_replicates(read), draw=draws, arm=arms)
    fields.insert(0, "study", _studies(read))
    fields = fields.assign(arm=_pooled(fields))
    if fields["trial"].duplicated().any():
        raise ValueError("a trial is given twice")
    position = pd.Index(fields["trial"]).get_indexer(measures["trial"])
    order = np.argsort(position, kind="stable")[(position < 0).sum() :]
    of_trial = {name: _repeated(fields[name], position[order]) for name in fields}
    of_measure = {name: _repeated(measures[name], order) for name in measures.columns if name != "trial"}
    return pd.DataFrame(of_trial | of_measure)


def _repeated(values: pd.Series, rows: np.ndarray) -> Any:
    """values[rows], with strings as categories."""
    if isinstance(values.dtype, pd.CategoricalDtype) or values.dtype.kind in "biuf":
        return values.array.take(rows)
    codes, categories = pd.factorize(values, sort=True)
    return pd.Categorical.from_codes(codes[rows], categories=categories)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with categories converted back to strings, for small frames that are merged and changed."""
    categorical = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(categorical, str))


def _seeds(trials: Sequence[Trial]) -> list[int]:
    """Each trial's repetition: its seed or, where trials differ in `REPLICATES`, the rank of (replicate, seed)."""
    pairs = [(*(int(trial.options.get(name, 0)) for name in REPLICATES), trial.seed) for trial in trials]
    if len({pair[:-1] for pair in pairs}) == 1:
        return [trial.seed for trial in trials]
    rank = {pair: number for number, pair in enumerate(sorted(set(pairs)))}
    return [rank[pair] for pair in pairs]


def _replicates(trials: Sequence[Trial]) -> list[int]:
    """Each trial's model: the rank of its `REPLICATES`."""
    values = [tuple(int(trial.options.get(name, 0)) for name in REPLICATES) for trial in trials]
    rank = {value: number for number, value in enumerate(sorted(set(values)))}
    return [rank[value] for value in values]


def _pooled(fields: pd.DataFrame) -> pd.Series:
    """Each trial's arm, with one name for arms that differ in their draw alone: `perturb=0.5(all draws) + none`."""
    names = [
        re.sub(rf"\bdraw={draw}\b", "all draws", str(arm), count=1)
        for arm, draw in zip(fields["arm"], fields["draw"], strict=True)
    ]
    pooled = pd.Series(names, index=fields.index)
    several = fields["draw"].groupby([fields["study"], pooled]).transform("nunique") > 1
    return pooled.where(several, fields["arm"])


def _studies(trials: Sequence[Trial]) -> list[str]:
    """A readable name for each trial's study: task, data, model, and the settings that distinguish studies equal in these."""
    settings = [_settings(trial) for trial in trials]
    by_label: dict[str, list[Mapping[str, object]]] = {}
    for of_trial in settings:
        by_label.setdefault(_label(of_trial, ()), []).append(of_trial)
    distinguishing = {label: _varied(same_label) for label, same_label in by_label.items()}
    return [_label(of_trial, distinguishing[_label(of_trial, ())]) for of_trial in settings]


def _varied(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of the settings that differ. Digests are named only if nothing else differs."""
    names = sorted({name for of_trial in settings for name in of_trial} - {"task", "data", "model"})
    varied = [name for name in names if len({repr(of_trial.get(name)) for of_trial in settings}) > 1]
    return [name for name in varied if not name.endswith("_digest")] or varied


def _settings(trial: Trial) -> dict[str, object]:
    fields = trial.model_dump(exclude={"options"})
    # Where a plugin is stored makes no study; its content is in plugins_digest.
    fields["plugins"] = ", ".join(map(module_of, trial.plugins)) if trial.plugins else None
    arms = tuple(key for key in trial.options if key.startswith(("upstream.", "downstream.")))
    return {
        key: value for key, value in (fields | trial.options).items() if key not in (*ARM_FIELDS, *arms, *REPLICATES)
    }


def _label(settings: Mapping[str, object], names: Sequence[str]) -> str:
    """Task, data and model, and the named settings. Digests are cut to six digits."""
    base = [str(settings[name]).rstrip("/").rsplit("/", 1)[-1] for name in ("task", "data", "model")]
    values = {name: str(settings.get(name))[:6] if name.endswith("_digest") else settings.get(name) for name in names}
    extra = [f"{name.rpartition('.')[2]}={_number(value)}" for name, value in values.items() if value is not None]
    return " ".join([*base, *extra])


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
