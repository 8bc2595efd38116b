"""The 28 occupations of the BIOS task, how a text calls them, and whether it does.

Order and names are those of the hub mirror LabHC/bias_in_bios (De-Arteaga et al. 2019): the position is the label.
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
    """As it stands in a sentence: "DJ", "interior designer"."""
    return "DJ" if occupation == "dj" else occupation.replace("_", " ")


def article(occupation: str) -> str:
    """ "an" before a vowel ("an attorney"), else "a" ("a DJ"): none of the names breaks the rule."""
    return "an" if occupation[0] in "aeio" else "a"


_NAMES = {name: re.compile(rf"\b{surface(name).replace(' ', '(?:[ ]|-)')}s?\b", re.IGNORECASE) for name in OCCUPATIONS}


def names_itself(text: str, occupation: str) -> bool:
    """Whether the text has the occupation's name as a whole word, in any case, singular or plural: "business model" counts
    for the model, and "yoga teacher" for the teacher."""
    return bool(_NAMES[occupation].search(text))
