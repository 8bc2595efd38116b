"""The 28 occupations of the BIOS task: their names in a sentence, and whether a text names one.

Order and names are those of the hub mirror LabHC/bias_in_bios (De-Arteaga et al. 2019): an occupation's position is its label.
"""

from __future__ import annotations

import re

OCCUPATIONS: tuple[str, ...] = (
    "accountant", "architect", "attorney", "chiropractor", "comedian", "composer", "dentist", "dietitian", "dj",
    "filmmaker", "interior_designer", "journalist", "model", "nurse", "painter", "paralegal", "pastor",
    "personal_trainer", "photographer", "physician", "poet", "professor", "psychologist", "rapper",
    "software_engineer", "surgeon", "teacher", "yoga_teacher",
)  # fmt: skip
"""The labels and the groups of the task."""


def surface(occupation: str) -> str:
    """The occupation's name in a sentence: "DJ", "interior designer"."""
    return "DJ" if occupation == "dj" else occupation.replace("_", " ")


def article(occupation: str) -> str:
    """The occupation's article: "an" before a vowel ("an attorney"), else "a" ("a DJ"). No name is an exception to the rule."""
    return "an" if occupation[0] in "aeio" else "a"


_NAMES = {name: re.compile(rf"\b{surface(name).replace(' ', '(?:[ ]|-)')}s?\b", re.IGNORECASE) for name in OCCUPATIONS}


def names_itself(text: str, occupation: str) -> bool:
    """Whether the text has the occupation's name as whole words, in any case, singular or plural. "business model" counts as
    naming the model, and "yoga teacher" as naming the teacher."""
    return bool(_NAMES[occupation].search(text))
