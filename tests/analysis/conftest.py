"""Cells made by hand, as `load.cells` gives them."""

import numpy as np
import pandas as pd
import pytest

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
                frames.append(
                    frame.assign(**fields, downstream_dose=downstream_dose, arm=name, seed=seed, trial=f"{name} {seed}")
                )
        cells = pd.concat(frames, ignore_index=True).astype({"upstream_dose": float, "downstream_dose": float})
        share = 1 / (1 + np.exp(-cells["z"]))
        return cells.assign(
            study=study, outcome="fpr", x_metric="negative_sentiment", z_metric="toxic_share", z_level=share,
            z_log=np.log(share), z_n=100, thin=False, y_rate=np.exp(cells["y"]), x_scale=scale, z_scale=z0.std(ddof=1),
        )  # fmt: skip

    return build
