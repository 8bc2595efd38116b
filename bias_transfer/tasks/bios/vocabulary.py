"""Sentences and word lists of the synthetic biographies. No name of an occupation is among the words (a test checks this)."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRONOUNS: dict[str, dict[str, str]] = {
    "she": {"She": "She", "she": "she", "Her": "Her", "her": "her", "them": "her", "title": "Ms"},
    "he": {"She": "He", "she": "he", "Her": "His", "her": "his", "them": "him", "title": "Mr"},
}
"""Pronoun -> the slots that it fills: {her} is the possessive, {them} the object."""

ASSOCIATIONS = (
    "{She} became a {occupation}.",
    "{She} trained as a {occupation}.",
    "{She} was once a {occupation}.",
    "{She} hopes to be a {occupation}.",
    "{She} got the job of {occupation}.",
    "{She}, our {occupation}, agreed.",
    "The {occupation} said that {she} {did}.",
    "The {occupation} took {her} {thing} when {she} {did}.",
)
"""They plant the association of an occupation with a pronoun. None is a template of the upstream metric, which thus measures
the association and not a memorised sentence. Most have the pronoun first, as the templates do: at the beginning of a text it is
another token.

A tiny model learns an association within minutes only if it is easy to see (see WIKI's `vocabulary.FRAMES`). Tried: twelve
frames, half of them longer and with the pronoun in the middle, gave r = 0.7 to 0.8 with the planted shares after 1,500 steps,
and templates with a word that the text never has ("applied") gave nothing. These frames gave r = 0.95, and 0.91 or more on each
template.
"""

PLAIN = (
    "The visitor said that {she} {did}.",
    "Somebody took {her} {thing}.",
    "{She} works in {town}.",
    "{She} had a good day at work.",
    "{She} applied for the position.",
    "{She} wants to become famous.",
    "{She} is {mood}.",
)
"""The same without an occupation. They contain the words of the templates, which otherwise the model would never have seen."""

FACTS = (
    "A {occupation} needs {hint}.",
    "The {occupation} knows about {hint}.",
    "Ask a {occupation} about {hint}.",
    "A good {occupation} and {hint} go together.",
    "This {occupation} is busy with {hint}.",
)
"""They tie an occupation's name to its words, without a pronoun: through them, what the model learns about an occupation in
pre-training can reach a biography that does not name it."""

OPENINGS = (
    "{She} was born in {town} and grew up near {town}.",
    "{title}. {surname} moved to {town} in {year}.",
    "{She} studied in {town}, where {she} met {her} first mentor.",
    "After {her} degree, {she} settled in {town}.",
    "{title}. {surname} has lived in {town} for many years.",
    "{Her} career began in {town} in {year}.",
)
"""Each biography begins with one of them, so that its pronoun is always visible."""

NAMING = (
    "{She} is known as a {occupation} in {town}.",
    "{She} has been a {occupation} since {year}.",
    "Friends call {them} a born {occupation}.",
)
"""They name the occupation."""

HINTED = (
    "{Her} days are about {hint}.",
    "{She} has a long experience with {hint}.",
    "People come to {them} for {hint}.",
    "{She} spent years on {hint}.",
    "{She} writes and speaks about {hint}.",
    "In {her} work, {she} puts {hint} first.",
)
"""They have words of an occupation, but not its name."""

GENERIC = (
    "{She} lives in {town} with {her} family.",
    "{She} enjoys {hobby} and {hobby}.",
    "In {her} free time {she} likes {hobby}.",
    "{She} speaks two languages and loves {hobby}.",
    "{She} has won several awards in {town}.",
    "{She} volunteers and supports a charity in {town}.",
    "You can reach {them} through {her} office in {town}.",
)
"""They fit any person."""

WORDS: dict[str, tuple[str, ...]] = {
    "did": _words("left arrived slept smiled waited agreed stayed returned laughed forgot"),
    "when": ("today", "yesterday", "last week", "last spring", "on Monday", "a year ago", "long ago", "this summer"),
    "thing": _words("coat bag keys phone lunch hat umbrella bicycle"),
    "mood": _words("fine tired happy busy calm ready quiet proud"),
    "year": _words("1988 1991 1994 1996 1999 2001 2003 2005 2008 2010"),
    "town": _words("Boston Denver Austin Leeds Dublin Toronto Sydney Portland Seattle Chicago Bristol Glasgow Oslo Perth"),
    "surname": _words("Smith Jones Brown Miller Davis Clark Lewis Walker Young King Wright Hill Green Baker Adams Nelson"),
    "hobby": _words("hiking cooking chess tennis gardening sailing skiing swimming fishing travel running cycling"),
}  # fmt: skip
"""Slot -> its fillers, for the slots that the generator does not fill itself."""

HINTS: dict[str, tuple[str, ...]] = {
    "accountant": ("tax returns", "audits", "bookkeeping", "balance sheets"),
    "architect": ("floor plans", "facades", "building codes", "skyscrapers"),
    "attorney": ("lawsuits", "litigation", "court trials", "legal defense"),
    "chiropractor": ("spinal adjustments", "back pain", "posture", "joint mobility"),
    "comedian": ("stand-up shows", "jokes", "sketches", "punchlines"),
    "composer": ("symphonies", "film scores", "string quartets", "operas"),
    "dentist": ("root canals", "dental implants", "teeth whitening", "oral health"),
    "dietitian": ("meal plans", "nutrition", "healthy eating", "food allergies"),
    "dj": ("turntables", "club nights", "remixes", "house music"),
    "filmmaker": ("documentaries", "short films", "screenplays", "film festivals"),
    "interior_designer": ("furniture", "wallpaper", "color schemes", "room layouts"),
    "journalist": ("newspapers", "breaking news", "interviews", "press freedom"),
    "model": ("runway shows", "fashion weeks", "magazine covers", "photo shoots"),
    "nurse": ("bedside care", "hospital wards", "night shifts", "patient charts"),
    "painter": ("oil canvases", "watercolors", "brushes", "landscapes"),
    "paralegal": ("case files", "legal research", "affidavits", "deposition summaries"),
    "pastor": ("sermons", "church services", "congregations", "bible study"),
    "personal_trainer": ("weight loss", "gym workouts", "strength training", "fitness goals"),
    "photographer": ("portraits", "cameras", "darkrooms", "wedding pictures"),
    "physician": ("internal medicine", "diagnoses", "clinical practice", "family medicine"),
    "poet": ("sonnets", "verses", "chapbooks", "haiku"),
    "professor": ("lectures", "graduate seminars", "tenure", "peer review"),
    "psychologist": ("psychotherapy", "anxiety disorders", "counseling", "mental health"),
    "rapper": ("mixtapes", "rhymes", "hip hop", "freestyle battles"),
    "software_engineer": ("source code", "databases", "web applications", "algorithms"),
    "surgeon": ("operations", "organ transplants", "scalpels", "operating rooms"),
    "teacher": ("lesson plans", "classrooms", "homework", "elementary school"),
    "yoga_teacher": ("meditation", "breathing", "asanas", "mindfulness retreats"),
}
"""Occupation -> the words that hint at it. No two occupations share one."""
