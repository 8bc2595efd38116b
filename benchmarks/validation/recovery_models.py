"""Known models that `benchmarks.recovery` draws measure tables from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

TEMPLATES, SEEDS, PHRASES = 5, 5, 757
ARMS = ("none", "perturb weakly", "perturb strongly", "scrub")
DISPLACEMENT = np.array([0.0, 0.5, 1.0, 0.0])
"""SD of an arm's change of x, in SD of x."""
EFFECT = np.array([0.0, 0.0, -0.2, 0.0])
"""What an arm does to y in all groups beside x and z."""
LEVEL, OF_Z, SHOCK, PAIR, CELL = -3.0, 0.2, 0.15, 0.10, 0.15
"""ln FPR of a mean group; slope on z per SD; SD of a trial's shock, of a group under an arm, and of a single trial's group.
The level keeps rates well within 0 and 1: at a rate's ceiling y is not linear in x, and "true" would have no one meaning."""
LEAK = 0.15
"""In a world that breaks the exclusion: what a change of x by 1 SD does to y on another way, under the strong perturbation."""


@dataclass(frozen=True)
class World:
    """What is true in it. Slopes are per SD of the measured x, as the analysis gives them: that unit is taken as given."""

    name: str
    says: str
    slope: float = 0.3
    hard: bool = True
    """x skewed (exponential), errors that grow with |x| up to 2 SD; else both normal and even."""
    own: float = 0.35
    """SD of what a group has of its own."""
    noise: float = 0.5
    """SD of a template's own view of a group, in SD of what it measures."""
    latent: bool = False
    """y follows what the templates measure, not their mean: their noise is measurement error."""
    leaks: bool = False
    groups: int = 28

    def sized(self, groups: int) -> World:
        """The same with so many groups."""
        return replace(self, groups=groups)


WORLDS = (
    World("plain", "x normal, errors even", hard=False),
    World("hard", "x skewed, errors grow with |x|, x and z correlated"),
    World(
        "noisy templates",
        "as hard; y follows what templates measure, with noise (reliability .75)",
        noise=1.3,
        latent=True,
    ),
    World("exclusion broken", "as hard; one arm moves y beside x", leaks=True),
    World("no slope", "as hard, slope 0, groups alike (for the equivalence test's power)", slope=0.0, own=0.12),
    World("slope at margin", "as before, slope at the margin of 0.10 (for its size)", slope=0.10, own=0.12),
)


@dataclass(frozen=True, eq=False)
class Table:
    """One draw: what was measured, and what is true of it."""

    x: np.ndarray
    """(groups, arms, seeds, templates), raw units."""
    z: np.ndarray
    """(groups, arms): smoothed logit of the fine-tuning set's share."""
    y: np.ndarray
    """(groups, arms, seeds): smoothed ln of a rate over 757 phrases."""
    effects: np.ndarray
    """(arms,): true mean over these groups of what an arm does, over all seeds."""
    size: float
    """True SD over these groups of the untouched model's expected y."""


def draw(world: World, random: np.random.Generator) -> Table:
    """One measure table."""
    groups, shape = world.groups, (world.groups, len(ARMS), SEEDS)
    true = random.exponential(size=groups) - 1 if world.hard else random.normal(size=groups)
    uneven = np.sqrt(0.3 + 0.7 * np.minimum(np.abs(true), 2) ** 2) if world.hard else np.ones(groups)
    z = _dataset(true, random)
    moved = DISPLACEMENT[None, :, None] * random.normal(size=shape) * uneven[:, None, None]
    x_true = true[:, None, None] + moved
    x = _templates(x_true, world.noise, random)
    scale, z_scale = x[:, 0, 0].mean(axis=-1).std(ddof=1), z[:, 0].std(ddof=1)
    acting = x_true if world.latent else x.mean(axis=-1)
    fixed = world.own * uneven * random.normal(size=groups)
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
    """(groups, arms): counts correlate with x; scrub takes toxic mentions out."""
    groups = len(true)
    latent = 0.5 * true + 0.85 * random.normal(size=groups)
    n = random.integers(30, 400, groups)
    toxic = random.binomial(n, 1 / (1 + np.exp(1.2 - 0.8 * latent)))
    left = random.binomial(toxic, 0.4)
    logit = np.log((toxic + 0.5) / (n - toxic + 0.5)), np.log((left + 0.5) / (n - toxic + 0.5))
    return np.stack([logit[0], logit[0], logit[0], logit[1]], axis=1)


def _templates(x: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """(groups, arms, seeds, templates). A template's view of a group stays with it under every arm, and bends a little where
    x is moved; untouched models are one model for all seeds."""
    groups = len(x)
    view = noise * random.normal(size=(groups, 1, 1, TEMPLATES)) + random.normal(size=TEMPLATES)
    bent = 0.5 * noise * DISPLACEMENT[None, :, None, None] * random.normal(size=(*x.shape, TEMPLATES))
    return np.asarray(x[..., None] + view + bent)


def _leak(world: World, moved: np.ndarray) -> np.ndarray:
    """What the strong perturbation does to y beside the measured x."""
    strong = np.array([0.0, 0.0, 1.0, 0.0])[None, :, None]
    return LEAK * strong * moved if world.leaks else np.zeros_like(moved)
