"""What a data set lacks for its task, found before anything runs: groups that are hardly there, texts in another language.

`bias-transfer inspect` prints all of it; the warnings are printed before every trial and sweep, and stored with each result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets import Dataset

from bias_transfer.spec import LEAST_MENTIONS, LEAST_PER_PRONOUN, Measure
from bias_transfer.tasks import languages
from bias_transfer.tasks.base import Groups, Splits, Task
from bias_transfer.tasks.matching import fold

FOREIGN = 0.1
"""With a larger share of texts in other languages, a task in English warns (ours)."""

SAMPLED = 5000
"""At most about this many texts of a split are read to tell its languages, at even distances."""


SHOWN = 8
"""Names that a sentence lists at most."""


@dataclass(frozen=True)
class GroupCounts:
    """What the untreated data have of one group."""

    name: str
    train: int
    share: float
    """Of the task's dataset measure, in [0, 1]: harmful examples, or she/her biographies. NaN without examples."""
    test: int

    @property
    def thin(self) -> bool:
        """Whether regressions leave the group out."""
        return self.train < LEAST_MENTIONS


def of_groups(task: Task, splits: Splits) -> list[GroupCounts]:
    """The counts of each group of the task, in its order."""
    shares = {row.group: row for row in task.dataset[0](splits.train) if row.group}
    test = _members(task, splits.test)
    missing = Measure("dataset", "", "", "", float("nan"), 0)
    rows = ((name, shares.get(name, missing)) for name in task.groups)
    return [GroupCounts(name, row.n, row.value, sum(name in groups for groups in test)) for name, row in rows]


def _members(task: Task, examples: Dataset) -> Sequence[Sequence[str]]:
    if task.harm_groups:
        return task.harm_groups.of(examples)
    return [(task.groups[label],) for label in examples["label"][:]]


def thin(counts: Sequence[GroupCounts]) -> list[str]:
    """Groups that regressions leave out, in a sentence; nothing if there are none, or where `warnings` says it of all."""
    never = [group.name for group in counts if not group.train]
    rarely = [f"{group.name} ({group.train})" for group in counts if group.thin and group.train]
    parts = [f"{len(never)} never ({_few(never)})"] if never else []
    parts += [f"{len(rarely)} fewer than {LEAST_MENTIONS} times ({_few(rarely)})"] if rarely else []
    if not parts or len(never) == len(counts):
        return []
    return [f"Of {len(counts)} groups, train has {' and '.join(parts)}: regressions leave them out."]


def few_pronouns(task: Task, splits: Splits) -> list[str]:
    """Groups whose TPR gap will be missing, in a sentence; of a task in which each example has a pronoun."""
    if "pronoun" not in splits.test.column_names:
        return []
    pairs = Counter(zip(splits.test["label"][:], splits.test["pronoun"][:], strict=True))
    few = [
        name
        for label, name in enumerate(task.groups)
        if min(pairs[label, pronoun] for pronoun in ("she", "he")) < LEAST_PER_PRONOUN
    ]
    if not few:
        return []
    return [
        f"{len(few)} of {len(task.groups)} groups have fewer than {LEAST_PER_PRONOUN} she/her or fewer than "
        f"{LEAST_PER_PRONOUN} he/him examples in test, so their TPR gap will be missing: {_few(few)}."
    ]


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN], *([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def inside_words(task: Task, texts: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Term -> the texts that have it as a part of longer words, where there are any. names: rarely mentioned terms."""
    if task.harm_groups is None or task.harm_groups.spans is None or not names:
        return {}
    folded = [fold(text) for text in texts]
    counts = {name: sum(fold(name) in text for text in folded) for name in names}
    return {name: count for name, count in counts.items() if count}


def attached(task: Task, splits: Splits, counts: Sequence[GroupCounts]) -> list[str]:
    """Thin groups whose terms stand inside longer words, in a sentence; of a custom task, which can do something about it."""
    names = [] if task.language else [group.name for group in counts if group.thin]
    inside = inside_words(task, splits.train["text"][:], names)
    return [attach(inside)] if inside else []


def warnings(task: Task, splits: Splits) -> list[str]:
    """What a reader of every result must know: no group at all, and texts that are not in the task's language."""
    return [*_no_group(task, splits), *_foreign(task, splits)]


def _no_group(task: Task, splits: Splits) -> list[str]:
    groups = task.harm_groups
    if groups is None or _any(groups, splits.train):
        return []
    text = f"No training example belongs to any of the {len(groups.names)} groups: there is no dataset bias to measure."
    inside = inside_words(task, splits.train["text"][:], groups.names)
    return [f"{text} {attach(inside)}" if inside else text]


def _any(groups: Groups, examples: Dataset) -> bool:
    """Whether an example belongs to any group. Texts are read up to the first that mentions one."""
    if groups.spans is None:
        return any(groups.of(examples))
    return any(map(groups.spans, examples["text"][:]))


def attach(inside: Mapping[str, int]) -> str:
    """What to do about terms that stand inside longer words."""
    listed = _few([f"{name} ({count} texts)" for name, count in inside.items()])
    return (
        f"Inside longer words there are {listed}: if these are forms of the terms, list them as terms of a custom task, "
        "or name what is attached to them (prefixes, suffixes)."
    )


def look(examples: Dataset) -> languages.Languages:
    """The languages of a split, of up to about `SAMPLED` texts."""
    texts = examples["text"][:]
    return languages.look(texts[:: -(-len(texts) // SAMPLED) or 1])


def _foreign(task: Task, splits: Splits) -> list[str]:
    if task.language != "English":
        return []
    seen = look(splits.train)
    if seen.foreign <= FOREIGN * seen.texts:
        return []
    return [
        f"{seen.foreign} of {seen.texts} training texts do not look like English ({shown(seen)}). The groups, sentences and "
        "words of this task are English: use a custom task with terms, templates and a lexicon of the texts' language."
    ]


def shown(seen: languages.Languages) -> str:
    """The texts that are most likely not English, as in '12 in Han script, 5 without a common English word'."""
    parts = [f"{count} in {script} script" for script, count in [*seen.other_scripts.items()][:4]]
    rest = sum([*seen.other_scripts.values()][4:])
    parts += [f"{rest} in other scripts"] if rest else []
    if seen.without_english:
        parts.append(f"{seen.without_english} of {seen.judged} in Latin script without a common English word")
    return ", ".join(parts) or "none"
