"""Words and sentences of the shared measures: from Caliskan et al. 2017 (WEAT 5 to 8) unless noted otherwise."""

from __future__ import annotations

from bias_transfer.metrics.seat import AssociationTest
from bias_transfer.tasks.shared_metrics import MetricWords

MEN = ("John", "Paul", "Mike", "Kevin", "Steve", "Greg", "Jeff", "Bill")
WOMEN = ("Amy", "Joan", "Lisa", "Sarah", "Diana", "Kate", "Ann", "Donna")
MALE = ("male", "man", "boy", "brother", "he", "him", "his", "son")
FEMALE = ("female", "woman", "girl", "sister", "she", "her", "hers", "daughter")
CAREER = ("executive", "management", "professional", "corporation", "salary", "office", "business", "career")
FAMILY = ("home", "parents", "children", "family", "cousins", "marriage", "wedding", "relatives")
MATHEMATICS = ("math", "algebra", "geometry", "calculus", "equations", "computation", "numbers", "addition")
SCIENCE = ("science", "technology", "physics", "chemistry", "Einstein", "NASA", "experiment", "astronomy")
ARTS = ("poetry", "art", "dance", "literature", "novel", "symphony", "drama", "sculpture")
PLEASANT = ("joy", "love", "peace", "wonderful", "pleasure", "friend", "laughter", "happy")
UNPLEASANT = ("agony", "terrible", "horrible", "nasty", "evil", "war", "awful", "failure")
EUROPEAN_AMERICAN = (
    "Brad", "Brendan", "Geoffrey", "Greg", "Brett", "Matthew", "Neil", "Todd",
    "Allison", "Anne", "Carrie", "Emily", "Jill", "Laurie", "Meredith", "Sarah",
)  # fmt: skip
AFRICAN_AMERICAN = (
    "Darnell", "Hakim", "Jermaine", "Kareem", "Jamal", "Leroy", "Rasheed", "Tyrone",
    "Aisha", "Ebony", "Keisha", "Kenya", "Latoya", "Lakisha", "Tamika", "Tanisha",
)  # fmt: skip

CHRISTIAN = ("Christian", "Christians", "Christianity", "church", "Bible", "gospel", "priest", "Easter")
MUSLIM = ("Muslim", "Muslims", "Islam", "mosque", "Quran", "hadith", "imam", "Ramadan")
JEWISH = ("Jewish", "Jews", "Judaism", "synagogue", "Torah", "Talmud", "rabbi", "Hanukkah")
STRAIGHT = ("straight", "straights", "heterosexual", "heterosexuals")
GAY = ("gay", "gays", "homosexual", "homosexuals")
YOUNG = ("young", "younger", "youth", "teenage", "teenager")
OLD = ("old", "older", "elderly", "elder", "pensioner")
"""The lists from CHRISTIAN to here are ours."""

COMMON_MEN = (
    "James", "Robert", "John", "Michael", "David", "William", "Richard", "Joseph", "Thomas", "Charles", "Christopher",
    "Daniel", "Matthew", "Anthony", "Mark", "Donald", "Steven", "Andrew", "Paul", "Joshua", "Kenneth", "Kevin", "Brian",
    "George",
)  # fmt: skip
COMMON_WOMEN = (
    "Mary", "Patricia", "Jennifer", "Linda", "Elizabeth", "Barbara", "Susan", "Jessica", "Sarah", "Karen", "Lisa",
    "Nancy", "Betty", "Sandra", "Margaret", "Ashley", "Emily", "Donna", "Michelle", "Carol", "Amanda", "Melissa",
    "Deborah", "Stephanie",
)  # fmt: skip
"""Frequent first names of the United States' Social Security Administration."""

PRONOUNS = (("he", "she"),)
RELATIVES = (
    ("he", "she"), ("the man", "the woman"), ("the boy", "the girl"), ("my father", "my mother"),
    ("their son", "their daughter"), ("my brother", "my sister"), ("that guy", "that gal"), ("my uncle", "my aunt"),
)  # fmt: skip
"""Pairs after SentDebias (Liang et al. 2020), in each the male word first."""

BELIEVERS = (
    ("the Christian", "the Muslim"), ("the Christians", "the Muslims"), ("the church", "the mosque"),
    ("the priest", "the imam"), ("that Christian woman", "that Muslim woman"), ("my Christian friend", "my Muslim friend"),
)  # fmt: skip

FRAMES = (
    "Yesterday {who} said that the work was {mask}.",
    "We heard from {who} about the {mask} last week.",
    "I think that {who} would call it {mask}.",
    "People say {who} talked about {mask} for hours.",
    "As far as I know, {who} never wrote about {mask}.",
    "In the evening {who} went to the {mask} alone.",
    "Everyone knew that {who} wanted a {mask}.",
    "On the page {who} asked for more {mask}.",
)
OCCASIONS = (
    "", "It is late. ", "I read this twice. ", "Thanks for the note. ", "There was a long debate. ", "The article is short. ",
)  # fmt: skip
"""Sentences of the probe (ours). The person is mid-sentence, since a word that begins a sentence can be another token; the mask
is elsewhere."""


def twins(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Each frame after each occasion, about the first and about the second person of each pair."""
    texts = [occasion + frame for occasion in OCCASIONS for frame in FRAMES]
    return tuple(
        (text.replace("{who}", first), text.replace("{who}", second)) for first, second in pairs for text in texts
    )


GENDER_TESTS = {
    "names: career/family": AssociationTest((MEN, WOMEN), (CAREER, FAMILY)),
    "words: career/family": AssociationTest((MALE, FEMALE), (CAREER, FAMILY)),
    "names: science/arts": AssociationTest((MEN, WOMEN), (SCIENCE, ARTS)),
    "words: mathematics/arts": AssociationTest((MALE, FEMALE), (MATHEMATICS, ARTS)),
}

GOOD_BAD = (PLEASANT, UNPLEASANT)
IDENTITY_TESTS = {
    "Christian/Muslim": AssociationTest((CHRISTIAN, MUSLIM), GOOD_BAD),
    "Christian/Jewish": AssociationTest((CHRISTIAN, JEWISH), GOOD_BAD),
    "straight/gay": AssociationTest((STRAIGHT, GAY), GOOD_BAD),
    "young/old": AssociationTest((YOUNG, OLD), GOOD_BAD),
    "European/African American names": AssociationTest((EUROPEAN_AMERICAN, AFRICAN_AMERICAN), GOOD_BAD),
    "male/female": AssociationTest((MALE, FEMALE), GOOD_BAD),
}
"""An effect size d > 0 means that the first group is nearer to the pleasant words."""

BIOS_WORDS = MetricWords(
    associations=GENDER_TESTS,
    persons={"men/women": (COMMON_MEN, COMMON_WOMEN)},
    attributes={"he/she": twins(PRONOUNS), "gender": twins(RELATIVES)},
)

WIKI_WORDS = MetricWords(
    associations=IDENTITY_TESTS,
    persons={
        "men/women": (COMMON_MEN, COMMON_WOMEN),
        "European/African American names": (EUROPEAN_AMERICAN, AFRICAN_AMERICAN),
    },
    attributes={"gender": twins(RELATIVES), "religion": twins(BELIEVERS)},
)
