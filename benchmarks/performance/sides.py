"""Where the wall time of a grid went, and how two ways of running it compare: `benchmarks.sweep_walltime` fills it in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("start-up", "data", "upstream", "fine-tune", "evaluate", "record", "idle")
USEFUL = ("fine-tune", "evaluate")

Key = tuple[str, str, str, str, str]
"""Trial id, stage, metric, group, template."""


@dataclass(frozen=True)
class Side:
    """One way of running the grid, `slots` trials at a time."""

    wall: float
    """Seconds, from the command to its end."""
    slots: int
    spent: Mapping[str, float]
    """Stage -> seconds, summed over the slots; idle is what is left."""
    working: float
    """Seconds from the first trial's begin to the last one's end."""
    measures: Mapping[Key, float]

    def seconds(self, stage: str) -> float:
        """Of all slots."""
        left = self.slots * self.wall - math.fsum(self.spent.values())
        return left if stage == "idle" else self.spent.get(stage, 0.0)

    def useful(self, wall: float) -> float:
        """Share of so many seconds of all slots that is fine-tuning and evaluation."""
        return sum(self.spent.get(stage, 0.0) for stage in USEFUL) / (self.slots * wall)

    def mean(self, metric: str) -> float:
        """Over trials, of a number about all."""
        return statistics.fmean(value for key, value in self.measures.items() if key[2:] == (metric, "", ""))


def table(usual: Side, sweep: Side) -> str:
    """In Markdown: a row a stage, then the whole."""
    lines = ["| | usual way, s | share | sweep, s | share |", "| --- | --: | --: | --: | --: |"]
    for stage in STAGES:
        cells = [
            cell
            for side in (usual, sweep)
            for cell in (f"{side.seconds(stage):.1f}", f"{side.seconds(stage) / (side.slots * side.wall):.1%}")
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"| **wall time** | **{usual.wall:.1f}** | | **{sweep.wall:.1f}** | |"])


def sentences(usual: Side, sweep: Side) -> list[str]:
    """What the two came to. Raises ValueError where their tables do not have the same rows."""
    if differ := usual.measures.keys() ^ sweep.measures.keys():
        raise ValueError(f"{len(differ)} measures are in one table only, as {sorted(differ)[0]}")
    rates = "; ".join(
        f"{name} {usual.mean(metric):.3f} and {sweep.mean(metric):.3f}"
        for name, metric in (("accuracy", "accuracy"), ("ROC AUC", "roc_auc"))
    )
    return [
        f"{usual.wall / sweep.wall:.1f} times less wall time than the usual way.",
        f"Fine-tuning and evaluation are {sweep.useful(sweep.working):.0%} of the workers' time, from the first trial's begin "
        f"to the last one's end, and {sweep.useful(sweep.wall):.0%} of the whole, the driver's start and end included.",
        f"Means over the trials, usual way and sweep: {rates}.",
        f"Same table of {len(usual.measures)} measures; largest difference of one before fine-tuning: "
        f"{largest(usual, sweep, ('upstream', 'dataset')):.1e}.",
    ]


def largest(one: Side, other: Side, stages: tuple[str, ...]) -> float:
    """Largest absolute difference of the measures of these stages; infinite where one side alone has none (NaN)."""
    pairs = [(value, other.measures[key]) for key, value in one.measures.items() if key[1] in stages]
    return max((math.inf if (a != a) != (b != b) else abs(a - b) for a, b in pairs if a == a or b == b), default=0.0)
