"""The known models from which `benchmarks.validation.recovery` draws tables of measures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

TEMPLATES, SEEDS, PHRASES = 5, 5, 757
ARMS = ("none", "perturb weakly", "perturb strongly", "scrub")
DISPLACEMENT = np.array([0.0, 0.5, 1.0, 0.0])
"""SD of each arm's change of x, in SD of x."""
EFFECT = np.array([0.0, 0.0, -0.2, 0.0])
"""Each arm's direct effect on y, not through x and z, in all groups."""
LEVEL, OF_Z, SHOCK, PAIR, CELL = -3.0, 0.2, 0.15, 0.10, 0.15
"""ln FPR of an average group; slope on z per SD; SD of trial shocks, of group-by-arm effects, and of group-by-trial errors.

The level keeps rates well within 0 and 1: at a rate's ceiling y is not linear in x, and there is no single true slope.
"""
LEAK = 0.15
"""Where the exclusion is broken: the other effect on y of a change of x by 1 SD, under the strong perturbation."""


@dataclass(frozen=True)
class World:
    """A model with known truth. Slopes are per SD of the measured x, as in the analysis, which takes that unit as given."""

    name: str
    description: str
    slope: float = 0.3
    hard: bool = True
    """Whether x is skewed (exponential) and errors grow with |x| up to 2 SD; else x is normal and errors are homoscedastic."""
    group_sd: float = 0.35
    """SD of the groups' fixed effects."""
    noise: float = 0.5
    """SD of a template's deviation for a group, in SD of what it measures."""
    latent: bool = False
    """Whether y depends on what the templates measure rather than on their mean, so that their noise is measurement error."""
    leaks: bool = False
    """Whether an arm affects y other than through x and z."""
    groups: int = 28

    def sized(self, groups: int) -> World:
        """The same model with this number of groups."""
        return replace(self, groups=groups)


WORLDS = (
    World("plain", "x normal, errors homoscedastic", hard=False),
    World("hard", "x skewed, errors grow with |x|, x and z correlated"),
    World(
        "noisy templates",
        "as hard; y depends on what the templates measure with noise (reliability .75)",
        noise=1.3,
        latent=True,
    ),
    World("exclusion broken", "as hard; one arm affects y other than through x", leaks=True),
    World("no slope", "as hard, similar groups (for the power of the equivalence test)", slope=0.0, group_sd=0.12),
    World(
        "slope at margin",
        "as before, with the slope at the margin of 0.10 (for the size of the test)",
        slope=0.10,
        group_sd=0.12,
    ),
)


@dataclass(frozen=True, eq=False)
class Table:
    """One drawn table: the measures, and the truth."""

    x: np.ndarray
    """(groups, arms, seeds, templates), raw units."""
    z: np.ndarray
    """(groups, arms): smoothed logit of the share in the fine-tuning set."""
    y: np.ndarray
    """(groups, arms, seeds): smoothed logarithm of a rate over 757 phrases."""
    effects: np.ndarray
    """(arms,): true mean effect of each arm over these groups, in expectation over seeds."""
    size: float
    """True SD over these groups of the expected y of the untouched model."""


def draw(world: World, random: np.random.Generator) -> Table:
    """Draw one table."""
    groups, shape = world.groups, (world.groups, len(ARMS), SEEDS)
    true = random.exponential(size=groups) - 1 if world.hard else random.normal(size=groups)
    uneven = np.sqrt(0.3 + 0.7 * np.minimum(np.abs(true), 2) ** 2) if world.hard else np.ones(groups)
    z = _dataset(true, random)
    moved = DISPLACEMENT[None, :, None] * random.normal(size=shape) * uneven[:, None, None]
    x_true = true[:, None, None] + moved
    x = _templates(x_true, world.noise, random)
    scale, z_scale = x[:, 0, 0].mean(axis=-1).std(ddof=1), z[:, 0].std(ddof=1)
    acting = x_true if world.latent else x.mean(axis=-1)
    fixed = world.group_sd * uneven * random.normal(size=groups)
    pair = PAIR * uneven[:, None] * random.normal(size=shape[:2])
    by_seed = world.slope * acting / scale + _leak(world, moved) / scale
    steady = LEVEL + fixed[:, None] + pair + EFFECT + OF_Z * z / z_scale
    shocks = SHOCK * random.normal(size=shape[1:])[None] + CELL * uneven[:, None, None] * random.normal(size=shape)
    expected = steady + world.slope * (true if world.latent else x[:, 0, 0].mean(axis=-1))[:, None] / scale
    effects = (expected - expected[:, :1]).mean(axis=0)
    rates = np.exp(np.minimum(steady[:, :, None] + by_seed + shocks, -0.02))
    y = np.log((random.binomial(PHRASES, rates) + 0.5) / (PHRASES + 0.5))
    return Table(x, z, y, effects, float(expected[:, 0].std()))


def _dataset(true: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """z, (groups, arms). Counts correlate with x; scrub removes toxic mentions."""
    groups = len(true)
    latent = 0.5 * true + 0.85 * random.normal(size=groups)
    n = random.integers(30, 400, groups)
    toxic = random.binomial(n, 1 / (1 + np.exp(1.2 - 0.8 * latent)))
    left = random.binomial(toxic, 0.4)
    logit = np.log((toxic + 0.5) / (n - toxic + 0.5)), np.log((left + 0.5) / (n - toxic + 0.5))
    return np.stack([logit[0], logit[0], logit[0], logit[1]], axis=1)


def _templates(x: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """x, (groups, arms, seeds, templates).

    A template's deviation for a group is the same under every arm, except that it changes a little where x is changed. The
    untouched model is the same for all seeds.
    """
    groups = len(x)
    view = noise * random.normal(size=(groups, 1, 1, TEMPLATES)) + random.normal(size=TEMPLATES)
    bent = 0.5 * noise * DISPLACEMENT[None, :, None, None] * random.normal(size=(*x.shape, TEMPLATES))
    return np.asarray(x[..., None] + view + bent)


def _leak(world: World, moved: np.ndarray) -> np.ndarray:
    """The effect of the strong perturbation on y other than through the measured x."""
    strong = np.array([0.0, 0.0, 1.0, 0.0])[None, :, None]
    return LEAK * strong * moved if world.leaks else np.zeros_like(moved)
