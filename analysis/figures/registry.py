"""All figures of a study: an explicit table of what is drawn, when, and how its caption reads. A new figure is one entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import arms
from analysis.figures import coefficients as figures_coefficients
from analysis.figures import groups
from analysis.figures import transfer
from analysis.figures.style import Styles
from analysis.figures.style import arm_style


@dataclass(frozen=True, eq=False)
class Data:
    """What figures of one study and outcome are drawn from."""

    table: pd.DataFrame
    """Of `load.load`."""
    cells: pd.DataFrame
    """Of `load.cells`."""
    coefficients: pd.DataFrame
    """Of `regress`."""
    specifications: pd.DataFrame
    """Of `specifications.specifications`."""

    def of(self, study: str) -> Data:
        """One study's rows alone."""
        frames = (self.table, self.cells, self.coefficients, self.specifications)
        return Data(*(frame[frame["study"] == study] for frame in frames))

    @property
    def task(self) -> str:
        """The study's."""
        return str(self.cells["task"].iloc[0])


@dataclass(frozen=True)
class Entry:
    """One figure."""

    name: str
    """Of its files."""
    title: str
    draw: Callable[[Data, Styles], Figure]
    """Says in the figure why there is nothing to show; never raises for data that lack."""
    caption: Callable[[Data], str]
    """n, and what marks and bars mean."""
    applies: Callable[[Data], bool] = lambda data: True


def _is_bios(data: Data) -> bool:
    return data.task == "bios"


def _is_wiki(data: Data) -> bool:
    return data.task == "wiki"


def _has_downstream_arms(data: Data) -> bool:
    return bool((data.cells["downstream"] != "none").any())


def _has_several_arms(data: Data) -> bool:
    return len(set(data.cells["arm"])) > 1


FIGURES: tuple[Entry, ...] = (
    Entry(
        "figure_1_distribution",
        "Downstream bias by upstream arm (the poster's figure 1)",
        lambda data, styles: arms.distribution(data.cells, styles),
        lambda data: arms.distribution_caption(data.cells),
        _is_bios,
    ),
    Entry(
        "figure_2_scrub",
        "Changing the fine-tuning set, with and without pre-training (the poster's figure 2)",
        lambda data, styles: arms.scrub(data.cells, styles),
        lambda data: arms.scrub_caption(data.cells),
        lambda data: _is_wiki(data) and _has_downstream_arms(data),
    ),
    Entry(
        "figure_3_identities",
        "Upstream and downstream bias of each group (the poster's figure 3)",
        lambda data, styles: groups.identities(data.cells, styles),
        lambda data: groups.identities_caption(data.cells),
        _is_wiki,
    ),
    Entry(
        "figure_4_coefficients",
        "Coefficients of upstream and dataset bias (the poster's figure 4)",
        lambda data, styles: figures_coefficients.coefficients(data.coefficients),
        lambda data: figures_coefficients.coefficients_caption(data.coefficients),
    ),
    Entry(
        "transfer",
        "Downstream against upstream bias",
        lambda data, styles: transfer.transfer(data.cells, data.coefficients),
        lambda data: transfer.caption(data.cells, data.coefficients),
    ),
    Entry(
        "dose_response",
        "Dose and response",
        lambda data, styles: arms.dose_response(data.cells, styles),
        lambda data: arms.dose_response_caption(data.cells),
        lambda data: bool(arms.doses(data.cells)),
    ),
    Entry(
        "forest",
        "Effect of each arm on each group",
        lambda data, styles: groups.forest(data.cells, styles),
        lambda data: groups.forest_caption(data.cells),
        _has_several_arms,
    ),
    Entry(
        "utility_and_bias",
        "Utility against bias",
        lambda data, styles: arms.utility_and_bias(data.table, data.cells, styles),
        lambda data: arms.utility_and_bias_caption(data.table, data.cells),
    ),
    Entry(
        "specification_curve",
        "Specification curve",
        lambda data, styles: figures_coefficients.specification_curve(data.specifications),
        lambda data: figures_coefficients.specification_caption(data.specifications),
    ),
)


def draw(data: Data, study: str, styles: Styles | None = None) -> Mapping[str, tuple[Entry, Figure, str]]:
    """Name -> (entry, figure, caption) of all figures that apply to the study. styles: `arm_style` over all arms of the
    experiment (default: over those of `data`), so that studies agree."""
    looks = styles or arm_style(data.cells["arm"].unique())
    own = data.of(study)
    return {entry.name: (entry, entry.draw(own, looks), entry.caption(own)) for entry in FIGURES if entry.applies(own)}
