"""The 50 identity terms of the WIKI task, and which of them a text mentions (`tasks.matching` has the rule).

Terms and spelling ("millenial") are those of Dixon et al. 2018, conversationai/unintended-ml-bias-analysis (CC BY 4.0).
"""

from __future__ import annotations

from datasets import Dataset

from bias_transfer.tasks.base import Groups
from bias_transfer.tasks.matching import described, finder, matcher

TERMS: tuple[str, ...] = (
    "lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight",
    "heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european",
    "hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian", "middle eastern",
    "chinese", "japanese", "christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist",
    "old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly", "blind", "deaf",
    "paralyzed",
)  # fmt: skip
"""The groups of the task, in the source's order."""


CATEGORIES: dict[str, tuple[str, ...]] = {
    "sexuality": (
        "lesbian", "gay", "bisexual", "queer", "lgbt", "lgbtq", "homosexual", "straight", "heterosexual",
    ),
    "gender": ("transgender", "trans", "male", "female", "nonbinary"),
    "origin": (
        "african", "african american", "black", "white", "european", "hispanic", "latino", "latina", "latinx", "mexican",
        "canadian", "american", "asian", "indian", "middle eastern", "chinese", "japanese",
    ),
    "religion": ("christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist"),
    "age": ("old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly"),
    "disability": ("blind", "deaf", "paralyzed"),
}  # fmt: skip
"""Category -> its terms; each term is in one (ours)."""


mentioned = matcher(TERMS)
"""text -> the identity terms that it mentions."""


def identities(examples: Dataset) -> list[tuple[str, ...]]:
    """The groups of each example: the identity terms that its text mentions."""
    return [mentioned(text) for text in examples["text"][:]]


IDENTITIES = Groups(
    TERMS,
    identities,
    harmful=1,
    examples="toxic comments",
    outside="that mention no term",
    spans=finder(TERMS),
    decided=described(TERMS),
)
"""The groups of WIKI, and its harmful class."""
