"""Numbers that others published, as one table, and docs/published.md, which is written from it.

A value with `read=False` was quoted by others or remembered, and its source was not read for this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

File = Literal["crows_pairs", "stereoset", "hatecheck"]

FILES: dict[File, str] = {
    "crows_pairs": "crows_pairs_anonymized.csv of nyu-mll/crows-pairs",
    "stereoset": "test.json of McGill-NLP/bias-bench (data/stereoset), in the form of StereoSet's dev.json",
    "hatecheck": "test_suite_cases.csv of paul-rottger/hatecheck-data",
}
"""Data that the package does not ship -> the file and where its authors have it. The option is --NAME FILE."""

ALIASES = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "roberta-large": "FacebookAI/roberta-large",
    "albert-xxlarge-v2": "albert/albert-xxlarge-v2",
    "gpt2": "openai-community/gpt2",
}
"""Short hub id -> the repository to which the hub forwards it; either may be in the cache."""

OWN = {
    "hatecheck-bert-davidson2017": "bert-base-uncased, fine-tuned on the data of Davidson et al. 2017",
    "hatecheck-bert-founta2018": "bert-base-uncased, fine-tuned on the data of Founta et al. 2018",
}
"""Our name of a classifier that is on no hub as far as we know -> what it is: a folder is the only way to name one."""


@dataclass(frozen=True)
class Published:
    """One published number."""

    what: str
    model: str
    """Hub id, or a name of `OWN`; empty for a number that takes a sweep."""
    value: float
    unit: str
    source: str
    expected: str
    """The difference from our number that is to be expected, and why."""
    metric: str = ""
    """Our measure; empty for a number that `bias-transfer published` does not compute."""
    group: str = ""
    file: File | None = None
    scale: float = 1.0
    """The published unit in ours: 100 where we give a share."""
    read: bool = True
    """Whether the source was read for this table."""
    other_command: str = ""
    """The command for a number that this one does not compute."""

    @property
    def command(self) -> str:
        """The command that should give our number."""
        if self.other_command or self.file is None:
            return self.other_command
        model = f" --model {self.model}=FOLDER" if self.model in OWN else ""
        return f"bias-transfer published --{self.file.replace('_', '-')} FILE{model}"


SCRIPT_LOG = "a log of the authors' script, in Note.md of the repository Ej-zhou/BS"
NANGIA = "Nangia et al. 2020, quoted by others; the paper was not read for this table"
LEADERBOARD = "leaderboard of McGill-NLP/bias-bench (_includes/leaderboard.html), for Meade et al. 2022"
NOTEBOOK = "4_eval_models_on_hatecheck.ipynb of paul-rottger/hatecheck-experiments, for Röttger et al. 2021"
POSTER = "poster of Steed et al., ACL 2022"

SAME_SCORE = (
    "The same score. Within about 0.3 points: the script rounds a sentence's score to three decimals, which makes ties, "
    "and ties count for neither side; one pair of the 1,508 is 0.07 points, one of the 218 anti-stereotyping ones 0.46."
)
LARGE = (
    "As bert-base-uncased, within about 0.3 points, if the checkpoint is the one that the script loads for `roberta`: it "
    "is roberta-large, and roberta-base has another score, although it is often named with this number."
)
ALBERT = "As bert-base-uncased, within about 0.3 points; but no test here covers an ALBERT."
OTHER_SCORE = (
    "Several points either way: bias-bench takes the mean over the tokens in which the two sentences differ, and not the "
    "sum over those that they share. Another score, which says nothing of an error here if ours differs."
)
STEREOSET = (
    "About 1 point, up to 3 by type: ours is the replica (`stereoset_replica_*`), which averages the sub-tokens' "
    "probabilities as bias-bench does, but tokenises a word in its sentence, with its leading space, and keeps hyphens. "
    "The measure without `replica`, the mean of the logs, differs by more."
)
STEREOSET_CAUSAL = (
    "About 1 point, up to 3 by type: ours fills the context with each word, bias-bench reads the sentences of the file, "
    "whose punctuation may differ within an item; and the text begins with a start token."
)
OVERALL = " Ours is over all items of the file; the source does not say whether the type profession counts."
SEAT = (
    "No agreement is to be expected: the source has the mean |effect size| over its tests of gender, race and religion, "
    "whose observations are sentences; ours are words, over four templates, in other tests (docs/science.md)."
)
HATECHECK = (
    "The size of the differences between fine-tuning seeds (a few points overall, ten and more per functionality), given "
    "the same data, class weights and settings. Accuracy is defined alike. The authors published predictions; of weights "
    "we know nothing."
)
SWEEP = (
    "The sign and the order of magnitude at best: the poster does not give its templates, sentiment model, training "
    "settings or regression table, and ours are our own. Compare with the interval in the report."
)
BY_SWEEP = "bias-transfer sweep tune_configs/wiki.yaml"


def _crows(what: str, value: float, metric: str, model: str, source: str, expected: str, group: str = "") -> Published:
    unit = "% of pairs"
    read = source is not NANGIA
    return Published(what, model, value, unit, source, expected, metric, group, "crows_pairs", 100.0, read)


def _stereoset(what: str, value: float, metric: str, model: str, group: str = "") -> Published:
    expected = (STEREOSET_CAUSAL if model == "gpt2" else STEREOSET) + ("" if group else OVERALL)
    return Published(what, model, value, "%", LEADERBOARD, expected, metric, group, "stereoset")


def _hatecheck(what: str, value: float, metric: str, model: str, group: str = "") -> Published:
    return Published(what, model, value, "% of cases", NOTEBOOK, HATECHECK, metric, group, "hatecheck", 100.0)


def _seat(model: str, value: float) -> Published:
    command = f"bias-transfer trial model={model} metric.seat=mean --json result.json"
    return Published(
        "SEAT, mean absolute effect size over all tests", model, value, "SD", LEADERBOARD, SEAT, other_command=command
    )


def _sentence(what: str, value: float) -> Published:
    return Published(what, "", value, "% higher FPR", POSTER, SWEEP, other_command=BY_SWEEP)


BERT, GPT2 = "bert-base-uncased", "gpt2"
DAVIDSON, FOUNTA = OWN
NEUTRAL, POSITIVE = "ident_neutral_nh", "ident_pos_nh"

TABLE: tuple[Published, ...] = (
    _crows("CrowS-Pairs, all pairs", 60.48, "crows_pairs", BERT, SCRIPT_LOG, SAME_SCORE),
    _crows("CrowS-Pairs, stereotyping pairs", 61.09, "crows_pairs_stereo", BERT, SCRIPT_LOG, SAME_SCORE),
    _crows("CrowS-Pairs, anti-stereotyping pairs", 56.88, "crows_pairs_antistereo", BERT, SCRIPT_LOG, SAME_SCORE),
    _crows("CrowS-Pairs, all pairs", 64.1, "crows_pairs", "roberta-large", NANGIA, LARGE),
    _crows("CrowS-Pairs, all pairs", 67.0, "crows_pairs", "albert-xxlarge-v2", NANGIA, ALBERT),
    _crows("CrowS-Pairs by bias-bench, gender", 57.25, "crows_pairs", BERT, LEADERBOARD, OTHER_SCORE, "gender"),
    _crows("CrowS-Pairs by bias-bench, race", 62.33, "crows_pairs", BERT, LEADERBOARD, OTHER_SCORE, "race-color"),
    _crows("CrowS-Pairs by bias-bench, religion", 62.86, "crows_pairs", BERT, LEADERBOARD, OTHER_SCORE, "religion"),
    _stereoset("StereoSet SS, gender", 60.28, "stereoset_replica_ss", BERT, "gender"),
    _stereoset("StereoSet SS, race", 57.03, "stereoset_replica_ss", BERT, "race"),
    _stereoset("StereoSet SS, religion", 59.70, "stereoset_replica_ss", BERT, "religion"),
    _stereoset("StereoSet SS, overall", 57.82, "stereoset_replica_ss", BERT),
    _stereoset("StereoSet LMS, overall", 84.36, "stereoset_replica_lms", BERT),
    _stereoset("StereoSet ICAT, overall", 71.15, "stereoset_replica_icat", BERT),
    _stereoset("StereoSet SS, gender", 62.65, "stereoset_replica_ss", GPT2, "gender"),
    _stereoset("StereoSet SS, race", 58.90, "stereoset_replica_ss", GPT2, "race"),
    _stereoset("StereoSet SS, religion", 63.26, "stereoset_replica_ss", GPT2, "religion"),
    _stereoset("StereoSet SS, overall", 59.90, "stereoset_replica_ss", GPT2),
    _stereoset("StereoSet LMS, overall", 91.17, "stereoset_replica_lms", GPT2),
    _stereoset("StereoSet ICAT, overall", 73.12, "stereoset_replica_icat", GPT2),
    _seat(BERT, 0.590),
    _seat(GPT2, 0.313),
    _hatecheck("HateCheck, accuracy", 63.2, "accuracy", DAVIDSON),
    _hatecheck("HateCheck, accuracy on hateful cases", 75.5, "accuracy_hateful", DAVIDSON),
    _hatecheck("HateCheck, accuracy on non-hateful cases", 36.0, "accuracy_harmless", DAVIDSON),
    _hatecheck("HateCheck, neutral statements with identity terms", 20.6, "functionality_accuracy", DAVIDSON, NEUTRAL),
    _hatecheck(
        "HateCheck, positive statements with identity terms", 21.7, "functionality_accuracy", DAVIDSON, POSITIVE
    ),
    _hatecheck("HateCheck, accuracy", 60.2, "accuracy", FOUNTA),
    _hatecheck("HateCheck, accuracy on hateful cases", 65.5, "accuracy_hateful", FOUNTA),
    _hatecheck("HateCheck, accuracy on non-hateful cases", 48.5, "accuracy_harmless", FOUNTA),
    _hatecheck("HateCheck, neutral statements with identity terms", 58.7, "functionality_accuracy", FOUNTA, NEUTRAL),
    _hatecheck("HateCheck, positive statements with identity terms", 52.9, "functionality_accuracy", FOUNTA, POSITIVE),
    _sentence("WIKI: 0.1 SD more negative sentiment goes with", 3.7),
    _sentence("WIKI: 10 % more toxic mentions go with", 6.3),
)
"""All numbers. A new one is one entry; then write docs/published.md again."""

COMPUTED = tuple(row for row in TABLE if row.metric)
MODELS = tuple(dict.fromkeys(row.model for row in COMPUTED))
"""The models that `bias-transfer published` measures."""

HEAD = """# Published numbers

Written by `bias-transfer published --list > docs/published.md` from the table in `bias_transfer/commands/published_numbers.py`.

Numbers that others published, for whoever has the hub: what each is of, where it was published, the command that should give
it here, and which difference is to be expected. **None of them was run here**: the machine on which this was written reaches
no hub and has none of these models. So nothing on this page says that the project reproduces a number.

`bias-transfer published` measures the models that are at hand, in the hub's local cache or in a folder that `--model ID=FOLDER`
names, and prints each published number next to ours, with the difference. It downloads nothing:

    hf download bert-base-uncased
    bias-transfer published --crows-pairs crows_pairs_anonymized.csv --stereoset test.json

A folder is taken at its word: that it holds the model of that name is for the user to know. The data are not shipped:
"""

NOTE = (
    "A dagger (†) marks a number whose source was not read for this table. The definitions are in "
    "[science.md](science.md), which also says where other packages differ from them."
)

JUDGED = "Judged from how the definitions differ, before any of ours was seen; none of these differences was measured."


def document() -> str:
    """docs/published.md."""
    data = "\n".join(f"- `--{name.replace('_', '-')} FILE`: {text}" for name, text in FILES.items())
    own = "\n".join(f"- `{name}`: {text}" for name, text in OWN.items())
    classifiers = (
        "HateCheck's numbers are of classifiers, for which only a folder can be named (two labels, the second hateful):"
    )
    rows = "\n".join(_cells(_row(row)) for row in TABLE)
    head = _cells(("what", "model", "published", "our measure", "source", "command"))
    rule = _cells(("---", "---", "--:", "---", "---", "---"))
    expected = "\n".join(f"- {names}: {text}" for text, names in _expected(TABLE))
    parts = (
        HEAD.strip(), data, classifiers, own, "## The table", f"{head}\n{rule}\n{rows}", NOTE, "## What to expect", JUDGED,
        expected,
    )  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _cells(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _row(row: Published) -> tuple[str, ...]:
    measure = f"`{row.metric}`{f' ({row.group})' if row.group else ''}" if row.metric else ""
    value = f"{row.value:g} {row.unit}{'' if row.read else ' †'}"
    return row.what, row.model, value, measure, row.source, f"`{row.command}`"


def _expected(rows: Iterable[Published]) -> list[tuple[str, str]]:
    """(expected difference, the numbers that it is about), each text once."""
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row.expected, []).append(f"{row.what} ({row.model})" if row.model else row.what)
    return [(text, "; ".join(names)) for text, names in named.items()]
