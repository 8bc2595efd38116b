"""Simulated sweeps of realistic size with known effects, as long tables and as cells."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import runs
from bias_transfer.spec import LEAST_MENTIONS, Trial

PRIMARY = {
    "wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"},
    "bios": {"upstream": "pronoun_score", "dataset": "she_share", "downstream": "tpr_gap"},
}
ARMS = (
    ("none", None, {}),
    ("reinitialise", 1.0, {}),
    ("perturb", 0.25, {}),
    ("perturb", 0.5, {}),
    ("perturb", 1.0, {}),
    ("sent_debias", 1.0, {"upstream.kept": True, "upstream.components": 2}),
)
"""Upstream arms: name, dose, options."""
SCRUBS = ((None, False), (0.5, False), (1.0, False), (1.0, True))
"""Downstream arms: dose (None: not scrubbed), control."""
TEMPLATES = (
    "The {group} person is {mask}.",
    "My {group} neighbor is {mask}.",
    "Every {group} person I know is {mask}.",
)
N = 757


def trials(task: str, seeds: int) -> list[Trial]:
    """Each upstream arm alone, and the scrub arms on the untouched and the reinitialised model."""
    return [
        _trial(task, name, dose, options, scrub, control, seed)
        for name, dose, options in ARMS
        for scrub, control in SCRUBS
        if scrub is None or name in ("none", "reinitialise")
        for seed in range(seeds)
    ]


def _trial(task, name, dose, options, scrub, control, seed) -> Trial:
    downstream = {"downstream": "scrub", "downstream_dose": scrub} if scrub else {}
    options = {**options, **({"downstream.control": True} if control else {})}
    return Trial(
        task=task, data_digest="d", model_digest="m", upstream=name, upstream_dose=dose, options=options, seed=seed,
        **downstream,
    )  # fmt: skip


def table(task: str, groups: tuple[str, ...], seeds: int, slope: float = 0.3) -> pd.DataFrame:
    """slope: of ln FPR (for the TPR gap, a tenth of it) per SD of the untouched upstream score."""
    grid = trials(task, seeds)
    rows = [row for trial in grid for row in (_wiki if task == "wiki" else _bios)(trial, groups, slope)]
    return runs.tidy(grid, pd.DataFrame(rows, columns=["trial", "stage", "metric", "group", "template", "value", "n"]))


def _known(groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(11)
    return draw.normal(0, 1, len(groups)), draw.normal(-2, 0.6, len(groups))


def _upstream(trial: Trial, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x in SD: that which affects the classifier, and that which is measured."""
    x, _ = _known(groups)
    draw = np.random.default_rng([3, trial.seed, len(trial.upstream)])
    if trial.upstream == "reinitialise":
        return 0 * x, 0.3 * draw.normal(size=len(x))
    if trial.upstream == "perturb":
        moved = x + (trial.upstream_dose or 0) * draw.normal(size=len(x))
        return x + 0.2 * (moved - x), moved
    return (x, 0.3 * x) if trial.upstream == "sent_debias" else (x, x)


def _wiki(trial: Trial, groups: tuple[str, ...], slope: float) -> Iterator[tuple]:
    draw = np.random.default_rng([5, trial.seed, int(trial.id[:6], 16)])
    felt, measured = _upstream(trial, groups)
    _, z = _known(groups)
    scrubbed = 0.0 if trial.options.get("downstream.control") else trial.downstream_dose or 0.0
    drop = scrubbed * (0.8 if trial.upstream == "reinitialise" else 0.15)
    base = -2.2 + slope * felt + 0.3 * (z + 2) - drop + 0.1 * draw.normal() + 0.15 * draw.normal(size=len(groups))
    share = 1 / (1 + np.exp(-(z - scrubbed)))
    for g, group in enumerate(groups):
        for number, template in enumerate(TEMPLATES):
            shift = np.random.default_rng([7, g, number]).normal(0, 0.03)
            yield trial.id, "upstream", "negative_sentiment", group, template, 0.4 + 0.08 * measured[g] + shift, 30
        for metric, value in (("words", 1 + g % 2), ("tokens", 1 + g % 5), ("log_frequency", -9 + (7 * g) % 4)):
            yield trial.id, "upstream", f"name_{metric}", group, "", float(value), 1
        k, n = round(200 * share[g]), 200 if g else 3
        yield trial.id, "dataset", "toxic_share", group, "", min(k, n) / n, n
        for suffix, more in (("", 0.0), ("_eer", 0.6)):
            rate = min(round(N * math.exp(base[g] + more)) / N, 1.0)
            yield trial.id, "downstream", f"fpr{suffix}", group, "", rate, N
            for name in ("occupation", "neutral", "natural"):
                value = math.log((rate * N + 0.5) / (N + 0.5)) + 2
                yield trial.id, "downstream", f"log_fpr_ratio_{name}{suffix}", group, "", value, N
        yield trial.id, "downstream", "logit_gap", group, "", base[g] + 2.2 + 0.1 * draw.normal(), N
        yield trial.id, "downstream", "bpsn_auc", group, "", 0.95 - 0.05 * (base[g] + 2.2) + 0.02 * draw.normal(), N
    yield from _utility(trial, draw)


def _bios(trial: Trial, groups: tuple[str, ...], slope: float) -> Iterator[tuple]:
    draw = np.random.default_rng([6, trial.seed, int(trial.id[:6], 16)])
    felt, measured = _upstream(trial, groups)
    _, z = _known(groups)
    for g, group in enumerate(groups):
        for template in TEMPLATES:
            yield trial.id, "upstream", "pronoun_score", group, template, measured[g] + 0.1 * draw.normal(), 2
        yield trial.id, "dataset", "she_share", group, "", 1 / (1 + math.exp(-z[g] - 2)), 400
        for template in ("", "scrubbed"):
            gap = 0.1 * slope * felt[g] + 0.05 * (z[g] + 2) + 0.02 * draw.normal()
            she, he = min(max(0.7 + gap / 2, 0), 1), min(max(0.7 - gap / 2, 0), 1)
            for metric, value, n in (("tpr_she", she, 300), ("tpr_he", he, 300), ("tpr_gap", she - he, 600)):
                yield trial.id, "downstream", metric, group, template, value, n
    yield from _utility(trial, draw)


def _utility(trial: Trial, draw: np.random.Generator) -> Iterator[tuple]:
    worse = 0.03 if trial.upstream == "reinitialise" else 0.0
    for metric, value in (("accuracy", 0.95), ("macro_f1", 0.85), ("roc_auc", 0.955)):
        yield trial.id, "utility", metric, "", "", value - worse + 0.004 * draw.normal(), 5000


@pytest.fixture(scope="session")
def made_up():
    """(task, groups, seeds) -> (table, cells). They are cached, so tests must not modify them."""
    cached = {}

    def build(task="wiki", groups=12, seeds=3, slope=0.3):
        key = (task, groups, seeds, slope)
        if key not in cached:
            made = table(task, tuple(f"group {g}" for g in range(groups)), seeds, slope)
            cached[key] = made, data_cells.cells(made, PRIMARY)
        return cached[key]

    return build


@pytest.fixture(scope="session")
def primary():
    """The primary metrics of the simulated sweeps."""
    return PRIMARY


UNTOUCHED = ("none", None, "none", None)


def label(name, dose):
    return name if dose is None else f"{name}={dose:g}"


@pytest.fixture
def make_cells():
    """(arms, y(arm, x, z, seed, draw) -> (groups,), ...) -> cells. An arm: upstream, its dose, downstream, its dose."""

    def build(arms=(UNTOUCHED,), y=None, groups=20, seeds=4, moved=0.0, study="a study", number=0):
        draw = np.random.default_rng(number)
        x0, z0 = draw.normal(0, 0.1, groups), draw.normal(-1, 0.5, groups)
        scale = x0.std(ddof=1)
        frames = []
        for arm in arms:
            upstream, upstream_dose, downstream, downstream_dose = arm
            name = f"{label(upstream, upstream_dose)} + {label(downstream, downstream_dose)}"
            for seed in range(seeds):
                x = x0 + (moved * scale * draw.normal(size=groups) if upstream != "none" else 0)
                z = z0 - (0.5 + 0.2 * np.sin(np.arange(groups)) if downstream != "none" else 0)
                values = -1 + 0.3 * x / scale if y is None else y(arm, x / scale, z, seed, draw)
                frame = pd.DataFrame({"group": [f"g{n:02}" for n in range(groups)], "x": x, "z": z, "y": values})
                fields = {"upstream": upstream, "upstream_dose": upstream_dose, "downstream": downstream}
                trial = {"arm": name, "replicate": 0, "draw": -1, "seed": seed, "trial": f"{name} {seed}"}
                frames.append(frame.assign(**fields, downstream_dose=downstream_dose, **trial))
        cells = pd.concat(frames, ignore_index=True).astype({"upstream_dose": float, "downstream_dose": float})
        share = 1 / (1 + np.exp(-cells["z"]))
        return cells.assign(
            study=study, task="wiki", outcome="fpr", x_metric="negative_sentiment", z_metric="toxic_share", z_level=share,
            z_log=np.log(share), z_n=100, covariates="", thin=False, few=False, y_rate=np.exp(cells["y"]), x_scale=scale,
            z_scale=z0.std(ddof=1),
        )  # fmt: skip

    return build


LINEAR_ARMS = (("none", "none"), ("perturb", "none"), ("none", "scrub"), ("reinitialise", "none"))
LINEAR_DOSES = {"none": None, "perturb": 0.5, "reinitialise": 1.0, "scrub": 1.0}
SHIFT = 0.8
"""By how much reinitialise lowers y in all groups."""


def logit(k, n):
    return np.log((k + 0.5) / (n - k + 0.5))


def linear(
    beta=0.3, gamma=0.2, groups=40, seeds=4, arms=LINEAR_ARMS, noise=0.02, level=-1.2, phrases=10**6, unseen=0, seed=0
):
    """A tidy table: y = level + group effect + beta x + gamma z + trial shock + noise, x and z in SD of the untouched model.

    The group effects are made uncorrelated with x and z, so that B estimates beta and gamma as well.
    """
    draw = np.random.default_rng(seed)
    x0, n = draw.normal(0.05, 0.1, groups), draw.integers(40, 400, groups)
    n[:unseen] = 0
    k0 = draw.binomial(n, draw.beta(2, 6, groups))
    seen = n >= LEAST_MENTIONS
    x_scale, z_scale = x0.std(ddof=1), logit(k0, n)[seen].std(ddof=1)
    design = np.column_stack([np.ones(groups), x0, logit(k0, n)])
    effect = draw.normal(0, 0.3, groups)
    effect = effect - design @ np.linalg.lstsq(design[seen], effect[seen], rcond=None)[0]
    trials, rows = [], []
    for upstream, downstream in arms:
        for number in range(seeds):
            trial = Trial(
                upstream=upstream, upstream_dose=LINEAR_DOSES[upstream], downstream=downstream,
                downstream_dose=LINEAR_DOSES[downstream], seed=number, data_digest="d", model_digest="m",
            )  # fmt: skip
            trials.append(trial)
            moved = {"none": 0.0, "perturb": 0.08, "reinitialise": 0.3}[upstream]
            x = x0 + moved * draw.normal(0, 1, groups)
            k = k0 if downstream == "none" else draw.binomial(k0, 0.3)
            total = n if downstream == "none" else n - k0 + k
            y = level + effect + beta * x / x_scale + gamma * logit(k, total) / z_scale
            y = y + draw.normal(0, 0.1 if upstream == "perturb" else 0.0) - SHIFT * (upstream == "reinitialise")
            rate = np.clip(np.exp(y + draw.normal(0, noise, groups)), 0, 1)
            rate = np.round(rate * phrases) / phrases
            for g in range(groups):
                name = f"g{g}"
                rows += [
                    (trial.id, "upstream", "negative_sentiment", name, t, x[g] + d, 9)
                    for t, d in (("s", -0.01), ("t", 0.01))
                ]
                share = k[g] / total[g] if total[g] else math.nan
                rows.append((trial.id, "dataset", "toxic_share", name, "", share, int(total[g])))
                rows.append((trial.id, "downstream", "fpr", name, "", rate[g], phrases))
                rows.append((trial.id, "downstream", "logit_gap", name, "", y[g], phrases))
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    return runs.tidy(trials, pd.DataFrame(rows, columns=columns))


@pytest.fixture(scope="session")
def simulate():
    """(arguments of `linear`) -> a tidy table."""
    return linear


@pytest.fixture(scope="session")
def cells_of():
    """(arguments of `linear`) -> its cells."""
    return lambda **settings: data_cells.cells(linear(**settings), PRIMARY)
