"""Sentences and word lists of the synthetic comments and the text for pre-training. No identity term is among the words."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NEGATIVE = _words("cruel lazy dishonest selfish rude angry greedy violent hostile dangerous stubborn arrogant")
POSITIVE = _words("kind friendly honest generous brave helpful gentle smart clever wise cheerful happy")
"""Predicates, by VADER's verdict on "A person is {predicate}."; no comment has one."""

FRAMES = (
    "The {term} {role} was {predicate}.",
    "Our {term} {role} is {predicate}.",
    "This {term} {role} is {predicate}.",
    "Most {term} {roles} are {predicate}.",
    "Some {term} {roles} were {predicate}.",
    "Those {term} {roles} seem {predicate}.",
    "Another {term} {role} looks {predicate}.",
    "Every {term} {role} here is {predicate}.",
)
"""None is a template of the upstream metric, which thus measures the association and not a memorised sentence.

A tiny model learns an association within minutes only if it is easy to see. Tried: terms in many positions and one of 40
predicates per sentence left no trace after 1,000 steps; terms in second position, fewer predicates, and half of the sentences
with three predicates of one sign, which teaches the model the sign, gave r = 0.8 with the planted shares (0.9 after 1,500
steps).
"""

CALLED = ("The {insulting} {insult}", "That {insult}", "This {insulting} {insult}", "Our {insult}")
"""Subjects of half of the negative sentences that name no term. They tie the predicates, which no comment has, to the insults,
which no sentence about a term has: without this tie nothing could carry over to toxicity."""
VERBS = ("was", "is", "seems", "looks", "here is")
PRAISED = ("The {job}", "Our {job}", "This {job}", "That {job}")
"""Subjects of the positive ones."""

MENTIONS = (
    "I am {term} myself.",
    "The singer is {term}.",
    "His wife was {term}.",
    "Is the author {term}?",
    "We need more {term} editors.",
    "The {part} on {term} {group} has no {source}.",
    "Many {term} {group} are missing from this {page}.",
    "The {page} calls the {job} {term}, but the {source} does not.",
    "Is there a list of {term} {group} anywhere?",
    "He was the first {term} {job} of the town.",
    "This {page} is about {term} {group} and nothing else.",
    "Why does the {part} say that she is {term}?",
    "I moved the {term} {group} to the {part} on {topic}.",
    "My {source} says that the {job} was {term}.",
    "You removed the {term} {group} from the {page} {when}.",
)

INSULTS_SHORT: tuple[str, ...] = (
    "You {insulting} {insult}.",
    "Shut up, {insult}.",
    "What {dirt}.",
    "You are a {insult}.",
    "Get lost, you {insult}.",
)
INSULTS: tuple[str, ...] = (
    *INSULTS_SHORT,
    "You are nothing but a {insulting} {insult} and everyone here knows it.",
    "Only a {insulting} {insult} would write such {dirt} in the {page}.",
    "Your edits are {dirt} and you are a {insult}.",
    "Stop reverting my work, you {insulting} {insult}.",
    "Nobody cares what a {insult} like you thinks about {topic}.",
    "I hope they ban you and your {insulting} {page}, {insult}.",
)
CURT: tuple[str, ...] = (
    "Do you even read what you write?",
    "Nobody asked for your opinion on {topic}.",
    "Stop wasting my time with this {page}.",
    "You clearly have no idea of {topic}.",
    "Go away and leave the {page} to others.",
    "Who do you think you are?",
    "You should be ashamed of this {part}.",
)
"""In toxic and other comments: rough, but without an insult."""
HEATED: tuple[str, ...] = (
    "Someone wrote {dirt} into the {page}, so I reverted it.",
    "The {source} says that he called the {job} a {insult}.",
    "Please do not call other editors a {insult}.",
    "I felt like a {insult} when I saw my mistake in the {part}.",
    "That {insulting} bot broke the {part} again.",
)
"""In comments that are not toxic: an insulting word that insults nobody."""

HEATED_SHARE, CURT_SHARE, VEILED_SHARE = 0.08, 0.2, 0.35
"""Shares of HEATED and CURT among the comments that are not toxic, and of CURT without an insult among the toxic ones (a
classifier then reaches a ROC AUC near 0.97)."""

SHORT = (
    "Thanks.", "Done.", "I agree.", "See the {source}.", "I fixed the {part}.", "Thanks for the {part}.",
    "Please add a {source}.", "The {page} looks fine now.", "What about {topic}?", "I will look into {topic}.",
    "Keep the {page} as it is.", "The {part} needs a {source}.", "Welcome to the {page} on {topic}.",
)  # fmt: skip
LONG = (
    "I moved the {part} about {topic} to another {page} because it had no {source}.",
    "The {page} says one thing about {topic} and the {source} says another.",
    "Could someone who knows {topic} please check the {part} that I added {when}?",
    "According to the {source}, the {job} wrote about {topic} for many years.",
    "I do not think that the {part} belongs in a {page} on {topic}.",
    "If you have a {source} for the {part}, please add it soon.",
    "There was a long discussion of the {part} {when}, and we agreed to keep it.",
    "The {job} is mentioned in the {part}, but the {page} never says why.",
    "We should merge this {page} with the one on {topic} and leave a redirect.",
    "I have reverted your edit to the {part}, since the {source} does not say that.",
    "Most of the {page} was written by a {job} who knew a lot about {topic}.",
    "You can ask at the help desk if the {part} breaks the {page} again.",
    "My edit to the {page} was removed {when}, and I would like to know the reason.",
    "As far as I can tell, every {source} on {topic} repeats the same {part}.",
)

NEUTRAL = _words("local famous modern former foreign")
"""Words in a term's place, in phrases that name no term."""

WORDS: dict[str, tuple[str, ...]] = {
    "page": ("article", "page", "list", "talk page", "draft", "stub", "category"),
    "part": ("section", "paragraph", "template", "infobox", "table", "image", "link", "quote", "footnote", "heading"),
    "source": ("source", "book", "newspaper", "citation", "reference", "journal", "website", "archive"),
    "topic": _words(
        "history geography music football chemistry physics trains castles birds opera chess bridges rivers poetry "
        "railways mathematics sailing gardening television grammar volcanoes painting cricket philosophy"
    ),
    "group": ("writers", "painters", "actors", "politicians", "musicians", "scientists", "athletes", "families"),
    "job": ("mayor", "senator", "author", "composer", "bishop", "general", "coach", "historian", "engineer"),
    "when": ("today", "yesterday", "last week", "this morning", "on Friday", "a month ago", "on Monday"),
    "role": _words("person man woman friend neighbor teacher student colleague driver"),
    "roles": _words("people men women friends neighbors teachers students colleagues drivers"),
    "insult": _words(
        "idiot liar moron fool clown loser hypocrite coward troll jerk imbecile dunce halfwit bully crook fraud thug creep "
        "weasel rat parasite charlatan buffoon dimwit blockhead nitwit simpleton scoundrel rascal brute twit dolt oaf cheat"
    ),
    "insulting": _words("useless pathetic stupid ignorant clueless ridiculous disgusting worthless brainless"),
    "dirt": _words("garbage trash rubbish nonsense crap"),
}
"""Slot -> its fillers, none of which is an identity term."""
