"""How the wall time of a grid divides into stages, for two ways of running it: used by sweep_walltime."""

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
    """One way of running the grid, with `slots` trials at a time."""

    wall: float
    """Seconds from start to end of the command."""
    slots: int
    spent: Mapping[str, float]
    """Stage -> seconds, summed over the slots; the rest is idle time."""
    working: float
    """Seconds from the start of the first trial to the end of the last."""
    measures: Mapping[Key, float]

    def seconds(self, stage: str) -> float:
        """Seconds of a stage, summed over the slots."""
        idle = self.slots * self.wall - math.fsum(self.spent.values())
        return idle if stage == "idle" else self.spent.get(stage, 0.0)

    def useful(self, wall: float) -> float:
        """Share of fine-tuning and evaluation in `wall` seconds of all slots."""
        return sum(self.spent.get(stage, 0.0) for stage in USEFUL) / (self.slots * wall)

    def mean(self, metric: str) -> float:
        """Mean over trials of a metric that has no group."""
        return statistics.fmean(value for key, value in self.measures.items() if key[2:] == (metric, "", ""))


def table(usual: Side, sweep: Side) -> str:
    """A Markdown table: one row per stage, then the total."""
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
    """The comparison in sentences. Raises ValueError if the two have different measures."""
    if differ := usual.measures.keys() ^ sweep.measures.keys():
        raise ValueError(f"{len(differ)} measures are in one table only, such as {sorted(differ)[0]}")
    rates = "; ".join(
        f"{name} {usual.mean(metric):.3f} and {sweep.mean(metric):.3f}"
        for name, metric in (("accuracy", "accuracy"), ("ROC AUC", "roc_auc"))
    )
    return [
        f"{usual.wall / sweep.wall:.1f} times less wall time than the usual way.",
        f"In the sweep, fine-tuning and evaluation take {sweep.useful(sweep.working):.0%} of the workers' time between the "
        f"start of the first trial and the end of the last, and {sweep.useful(sweep.wall):.0%} if the driver's start and "
        "end are included.",
        f"Means over the trials, for the usual way and the sweep: {rates}.",
        f"Both have the same {len(usual.measures)} measures; the largest difference before fine-tuning is "
        f"{largest(usual, sweep, ('upstream', 'dataset')):.1e}.",
    ]


def largest(one: Side, other: Side, stages: tuple[str, ...]) -> float:
    """Largest absolute difference of measures of these stages; infinite if a value is missing (NaN) on one side only."""
    pairs = [(value, other.measures[key]) for key, value in one.measures.items() if key[1] in stages]
    return max((math.inf if (a != a) != (b != b) else abs(a - b) for a, b in pairs if a == a or b == b), default=0.0)
