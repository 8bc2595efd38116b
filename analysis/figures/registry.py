"""The table of all figures: how each is drawn and captioned, and for which data. A new figure is one entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from analysis.estimands.ranking import COLUMNS as RANKING
from analysis.figures import arms, dominance, groups, transfer
from analysis.figures import coefficients as figures_coefficients
from analysis.figures.style import Styles, arm_style


@dataclass(frozen=True, eq=False)
class Data:
    """The tables from which figures are drawn."""

    table: pd.DataFrame
    """`Runs.table`."""
    cells: pd.DataFrame
    """Returned by `cells.cells`."""
    coefficients: pd.DataFrame
    """Returned by `slopes.estimate`."""
    specifications: pd.DataFrame
    """Returned by `specification_curve.specifications`."""
    ranking: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(RANKING)))
    """Returned by `ranking.ranking` for the same cells."""

    def of(self, study: str) -> Data:
        """Only the rows of one study."""
        frames = (self.table, self.cells, self.coefficients, self.specifications, self.ranking)
        return Data(*(frame[frame["study"] == study] for frame in frames))

    @property
    def task(self) -> str:
        """The study's task."""
        return str(self.cells["task"].iloc[0])


@dataclass(frozen=True)
class Entry:
    """One figure."""

    name: str
    """The name of its files, without a suffix."""
    title: str
    draw: Callable[[Data, Styles], Figure]
    """Must not raise if data are missing: the figure then says why there is nothing to show."""
    caption: Callable[[Data], str]
    """Gives the sample size, and the meaning of marks and bars."""
    applies: Callable[[Data], bool] = lambda data: True
    """Whether the figure makes sense for these data."""


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
        "Dose-response",
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
        "dominance",
        "Dominance: harm reduced and utility",
        lambda data, styles: dominance.dominance(data.ranking, styles),
        lambda data: dominance.caption(data.cells, data.ranking),
        lambda data: bool(len(data.ranking)),
    ),
    Entry(
        "specification_curve",
        "Specification curve",
        lambda data, styles: figures_coefficients.specification_curve(data.specifications),
        lambda data: figures_coefficients.specification_caption(data.specifications),
    ),
)


def draw(
    data: Data, study: str, styles: Styles | None = None, names: Collection[str] | None = None
) -> Mapping[str, tuple[Entry, Figure, str]]:
    """Draw all figures that apply to the study. Returns name -> (entry, figure, caption).

    styles: `arm_style` of all arms of the experiment, so that arms look the same in all studies (default: of those in `data`);
    names: of the figures to draw (default: all).
    """
    style_of = styles or arm_style(data.cells["arm"].unique())
    of_study = data.of(study)
    return {
        entry.name: (entry, entry.draw(of_study, style_of), entry.caption(of_study))
        for entry in FIGURES
        if (names is None or entry.name in names) and entry.applies(of_study)
    }
