"""From runs to tables: `load` gives all measures of a sweep, `cells` one row a trial and group, to be regressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up

if TYPE_CHECKING:
    from bias_transfer.tracking.runs import Recorded
    from bias_transfer.tracking.sweeps import Sweep

FIELDS = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose", "arm", "seed")
"""What of a trial stands beside each of its measures."""

ARM_FIELDS = frozenset({"upstream", "upstream_dose", "downstream", "downstream_dose", "seed"})
"""What trials of one study may differ by; the arms' own options beside them."""

UNTOUCHED = "none + none"
"""The arm that the others are compared with."""

LEAST_MENTIONS = 5
"""A group that the fine-tuning set mentions less often is left out of regressions (ours)."""

LEAST_FOR_LOGS = 100
"""Logs of downstream rates are given for so many phrases or more (SCIENCE.md, "Downstream bias")."""

LISTED = 10
"""So many missing trials are named one by one."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The trials of one sweep or several, and all that they measured."""

    sweeps: tuple[Sweep, ...]
    table: pd.DataFrame
    """A row a trial and measure: study, trial (id), `FIELDS`, stage, metric, group, template, value, n; words are categories.
    A study is what trials share that differ by arm and seed alone: task, data, model and training settings."""
    missing: tuple[Trial, ...]
    """Trials that have not finished in any of the sweeps."""

    @property
    def sweep(self) -> Sweep:
        """The first, where one was asked for."""
        return self.sweeps[0]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, each once, finished or not."""
        return _trials(self.sweeps)

    @property
    def primary(self) -> dict[str, dict[str, str]]:
        """Task -> stage -> metric, of all sweeps."""
        return {task: stages for sweep in self.sweeps for task, stages in sweep.primary.items()}


def load(
    experiment: str | Sequence[str],
    sweep: str | None = None,
    uri: str | None = None,
    allow_missing: bool = False,
    cache: Path | None = None,
) -> Runs:
    """All measures of the latest sweep of the experiment, or of each of several, or of the sweep named.

    A trial counts once, however many runs, sweeps and experiments it has. Finished runs do not change, so they are fetched
    once and kept in `cache` (default: the project's). Raises UserError for an unknown experiment or sweep, no finished
    trial, sweeps that differ in what is primary, and, unless allowed, a trial that has not finished.
    """
    from analysis.data import fetch  # late: it loads MLflow, which frames made by hand do not need

    names = [experiment] if isinstance(experiment, str) else list(dict.fromkeys(experiment))
    if not names or (sweep and len(names) > 1):
        raise UserError("a sweep can be named for one experiment alone" if names else "name an experiment")
    found = [fetch.find(name, sweep, uri, cache) for name in names]
    sweeps = tuple(one.sweep for one in found)
    _agree(sweeps)
    trials, runs = _trials(sweeps), _finished(sweeps)
    missing = tuple(trial for trial in trials if trial.id not in runs)
    if missing and not (allow_missing and runs):
        raise UserError(_missing(sweeps, trials, missing))
    chosen = [runs[trial.id] for trial in trials if trial.id in runs]
    return Runs(sweeps, tidy(trials, fetch.measures(found, chosen, uri)), missing)


def _trials(sweeps: Sequence[Sweep]) -> tuple[Trial, ...]:
    return tuple({trial.id: trial for sweep in sweeps for trial in sweep.trials}.values())


def _finished(sweeps: Sequence[Sweep]) -> dict[str, Recorded]:
    """Trial id -> its run, of the first sweep that has one: the same id means the same numbers."""
    return {run.trial: run for sweep in reversed(sweeps) for run in sweep.recorded}


def _agree(sweeps: Sequence[Sweep]) -> None:
    for one in sweeps:
        for task, stages in one.primary.items():
            first = next(other for other in sweeps if task in other.primary)
            if stages != first.primary[task]:
                raise UserError(
                    f"{first.experiment!r} and {one.experiment!r} differ in the primary metrics of {task} "
                    f"({first.primary[task]}; {stages}): analyse them one by one."
                )


def _missing(sweeps: Sequence[Sweep], trials: Sequence[Trial], missing: Sequence[Trial]) -> str:
    failed = {key: text for sweep in sweeps for key, text in sweep.failed.items()}
    lines = [f"  {trial.id}  {trial.name}{_error(failed.get(trial.id))}" for trial in missing[:LISTED]]
    more = [f"  ... and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
    some = len(missing) < len(trials)
    allow = "or analyse the finished ones alone by --allow-missing" if some else "since none has finished yet"
    names = " and ".join(repr(sweep.experiment) for sweep in sweeps)
    head = f"{len(missing)} of the {len(trials)} trials of {names} have not finished:"
    starts = " and ".join(f"python -m bias_transfer.sweep tune_configs/{sweep.experiment}.yaml" for sweep in sweeps)
    mend = (
        f"Start the sweep again as before, e.g. {starts} "
        f"(it runs only what is missing; --retry-failed repeats failed trials), {allow}."
    )
    return "\n".join([head, *lines, *more, mend])


def _error(text: str | None) -> str:
    return f": failed ({text.strip().splitlines()[-1][:120]})" if text and text.strip() else ""


def tidy(trials: Sequence[Trial], measures: pd.DataFrame) -> pd.DataFrame:
    """measures (trial, stage, metric, group, template, value, n) with the trial's study and fields as columns, in the order of
    `trials`. Words are categories: plain ones take ten times the memory."""
    rows = [{"trial": trial.id, **{name: getattr(trial, name) for name in FIELDS}} for trial in trials]
    fields = pd.DataFrame(rows).astype({"upstream_dose": float, "downstream_dose": float})
    fields = fields.assign(seed=_seeds(trials))
    fields.insert(0, "study", _studies(trials))
    if fields["trial"].duplicated().any():
        raise ValueError("a trial is given twice")
    place = pd.Index(fields["trial"]).get_indexer(measures["trial"])
    order = np.argsort(place, kind="stable")[(place < 0).sum() :]
    columns = {name: _repeated(fields[name], place[order]) for name in fields}
    own = {name: _repeated(measures[name], order) for name in measures.columns if name != "trial"}
    return pd.DataFrame(columns | own)


def _repeated(values: pd.Series, rows: np.ndarray) -> Any:
    """values[rows], words as categories."""
    if isinstance(values.dtype, pd.CategoricalDtype) or values.dtype.kind in "biuf":
        return values.array.take(rows)
    codes, words = pd.factorize(values, sort=True)
    return pd.Categorical.from_codes(codes[rows], categories=words)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with categories as plain words again, for small frames that are merged and changed."""
    words = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(words, str))


REPLICATES = ("model.seed",)
"""Beside the seed, what trials of one study may differ by as repetitions: the pre-training seed of `tiny`."""


def _seeds(trials: Sequence[Trial]) -> list[int]:
    """Each trial's repetition: its seed or, where trials differ in `REPLICATES`, a number for the pair of both."""
    pairs = [(*(int(trial.options.get(name, 0)) for name in REPLICATES), trial.seed) for trial in trials]
    if len({pair[:-1] for pair in pairs}) == 1:
        return [trial.seed for trial in trials]
    numbers = {pair: number for number, pair in enumerate(sorted(set(pairs)))}
    return [numbers[pair] for pair in pairs]


def _studies(trials: Sequence[Trial]) -> list[str]:
    """A readable name for each trial's study: task, data, model and what else sets apart studies of the same three."""
    settings = [_settings(trial) for trial in trials]
    alike: dict[str, list[Mapping[str, object]]] = {}
    for own in settings:
        alike.setdefault(_label(own, ()), []).append(own)
    shown = {label: _varied(several) for label, several in alike.items()}
    return [_label(own, shown[_label(own, ())]) for own in settings]


def _varied(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of what differs; a digest only where nothing else does."""
    names = sorted({name for own in settings for name in own} - {"task", "data", "model"})
    varied = [name for name in names if len({repr(own.get(name)) for own in settings}) > 1]
    return [name for name in varied if not name.endswith("_digest")] or varied


def _settings(trial: Trial) -> dict[str, object]:
    fields = trial.model_dump(exclude={"options"})
    arms = tuple(key for key in trial.options if key.startswith(("upstream.", "downstream.")))
    return {
        key: value for key, value in (fields | trial.options).items() if key not in (*ARM_FIELDS, *arms, *REPLICATES)
    }


def _label(settings: Mapping[str, object], shown: Sequence[str]) -> str:
    first = [str(settings[name]).rstrip("/").rsplit("/", 1)[-1] for name in ("task", "data", "model")]
    cut = {name: str(settings.get(name))[:6] if name.endswith("_digest") else settings.get(name) for name in shown}
    said = [f"{name.rpartition('.')[2]}={_number(value)}" for name, value in cut.items() if value is not None]
    return " ".join([*first, *said])


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def log_rate(value: pd.Series, n: pd.Series) -> pd.Series:
    """ln[(k + 1/2)/(n + 1/2)] with k = value * n; NaN for n under `LEAST_FOR_LOGS`."""
    return _log_share(value, n).where(n >= LEAST_FOR_LOGS)


def _log_share(value: pd.Series, n: pd.Series) -> pd.Series:
    return _log(((value * n).round() + 0.5) / (n + 0.5)).where(n > 0)


def _logit(value: pd.Series, n: pd.Series) -> pd.Series:
    """Smoothed: ln[(k + 1/2)/(n - k + 1/2)]; NaN for n = 0."""
    k = (value * n).round()
    return _log((k + 0.5) / (n - k + 0.5)).where(n > 0)


def _log(value: pd.Series) -> pd.Series:
    return pd.Series(np.log(value.to_numpy(float)), index=value.index)


def _as_it_is(value: pd.Series, n: pd.Series) -> pd.Series:
    return value


@dataclass(frozen=True)
class Outcome:
    """How a downstream metric enters a regression."""

    transform: Callable[[pd.Series, pd.Series], pd.Series]
    """(value, n) -> y."""
    label: str
    """The metric in sentences."""
    unit: str
    """Of y."""
    logs: bool = False
    """Whether differences of y are read as per cent."""
    rate: bool = False
    """Whether the metric itself is a share, with a floor and a ceiling."""

    @property
    def axis(self) -> str:
        """What y is, for axes."""
        return self.unit if self.logs else f"{self.label} ({self.unit})"


OUTCOMES: dict[str, Outcome] = {
    "fpr": Outcome(log_rate, "FPR", "ln FPR", logs=True, rate=True),
    "log_fpr_ratio": Outcome(_as_it_is, "FPR ratio", "ln FPR ratio", logs=True),
    "logit_gap": Outcome(_as_it_is, "logit gap", "logits"),
    "natural_fpr": Outcome(log_rate, "FPR on natural text", "ln FPR", logs=True, rate=True),
    "natural_log_fpr_ratio": Outcome(_as_it_is, "FPR ratio on natural text", "ln FPR ratio", logs=True),
    "natural_logit_gap": Outcome(_as_it_is, "logit gap on natural text", "logits"),
    "tpr_gap": Outcome(_as_it_is, "TPR gap", "TPR(she) - TPR(he)"),
    "log_tpr_ratio": Outcome(_as_it_is, "TPR ratio", "ln TPR ratio", logs=True),
}
"""Downstream metric -> its part in a regression: a new primary metric is one entry."""


def cells(table: pd.DataFrame, primary: Mapping[str, Mapping[str, str]], least: int = LEAST_MENTIONS) -> pd.DataFrame:
    """SCIENCE.md's primary table: one row a trial and group.

    primary: task -> stage -> metric. Columns beside study, trial and the trial's fields:
    x: upstream score, mean over templates, raw units; x_scale: its SD over groups on the untouched model.
    z_level: dataset bias as measured; z_n: its examples; z: its smoothed logit; z_log: ln[(k + 1/2)/(n + 1/2)];
    z_scale: SD of z over groups that are not thin, untouched arm.
    y_rate: downstream metric as measured; y_n: its phrases; y: what `OUTCOMES` makes of it.
    thin: a trial of the study has fewer than `least` examples of the group (any trial, so that all arms keep the same
    groups); not where the study's fine-tuning sets name no group at all, and y is regressed on x alone. x_metric, z_metric,
    outcome: names. What is missing is NaN, with n = 0.
    """
    studies = [(str(own["task"].iloc[0]), own) for _, own in table.groupby("study", sort=False)]
    return pd.concat([_cells(own, primary[task], least) for task, own in studies], ignore_index=True)


def _cells(table: pd.DataFrame, primary: Mapping[str, str], least: int) -> pd.DataFrame:
    key = ["study", "trial", *FIELDS, "group"]
    frame = plain(table.loc[table["group"] != "", key].drop_duplicates(["trial", "group"]).reset_index(drop=True))
    frame = frame.assign(x_metric=primary["upstream"], z_metric=primary["dataset"], outcome=primary["downstream"])
    for name, stage in (("x", "upstream"), ("z_level", "dataset"), ("y_rate", "downstream")):
        frame = frame.merge(_by_group(table, stage, primary[stage], name), on=["trial", "group"], how="left")
    frame = frame.rename(columns={"z_level_n": "z_n", "y_rate_n": "y_n"})
    outcome = look_up(OUTCOMES, primary["downstream"], "downstream metric for regressions")
    counts = {name: frame[name].fillna(0).astype(int) for name in ("x_n", "z_n", "y_n")}
    frame = frame.assign(
        **counts,
        z=_logit(frame["z_level"], counts["z_n"]),
        z_log=_log_share(frame["z_level"], counts["z_n"]),
        y=outcome.transform(frame["y_rate"], counts["y_n"]),
        thin=(counts["z_n"].groupby(frame["group"]).transform("min") < least) & (counts["z_n"].max() > 0),
    )
    return frame.assign(x_scale=_spread(frame, "x"), z_scale=_spread(frame[~frame["thin"]], "z"))


def _by_group(table: pd.DataFrame, stage: str, metric: str, name: str) -> pd.DataFrame:
    """trial, group, `name`, `name`_n: the value pooled over templates where there is one, else the mean over templates,
    which is missing where one of them is."""
    own = table[(table["stage"] == stage) & (table["metric"] == metric) & (table["group"] != "")]
    pooled = own[own["template"] == ""]
    chosen = own if pooled.empty else pooled
    grouped = chosen.groupby(["trial", "group"], sort=False)
    found = pd.DataFrame({name: grouped["value"].mean(skipna=False), f"{name}_n": grouped["n"].sum()})
    return plain(found.reset_index())


def _spread(frame: pd.DataFrame, name: str) -> float:
    """SD over groups of the untouched arm's mean over seeds; NaN without that arm, 0 where only rounding differs."""
    means = frame[frame["arm"] == UNTOUCHED].groupby("group")[name].mean()
    spread = float(means.std())
    return 0.0 if spread <= 1e-9 * abs(float(means.mean())) else spread
