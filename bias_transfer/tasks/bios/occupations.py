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


_WORDS = {name: surface(name).replace(" ", "(?:[ ]|-)") for name in OCCUPATIONS}
_NAMES = {name: re.compile(rf"\b{words}s?\b", re.IGNORECASE) for name, words in _WORDS.items()}
_ANY = re.compile(rf"\b(?:{'|'.join(_WORDS.values())})s?\b", re.IGNORECASE)


def names_itself(text: str, occupation: str) -> bool:
    """Whether the text has the occupation's name as whole words, in any case, singular or plural. "business model" counts as
    naming the model, and "yoga teacher" as naming the teacher."""
    return bool(_NAMES[occupation].search(text))


def names_any(text: str) -> bool:
    """Whether the text has the name of any occupation."""
    return bool(_ANY.search(text))
