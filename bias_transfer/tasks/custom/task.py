"""A custom task: a `Task` made from a user's YAML file, without any Python."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from random import Random

from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.metrics import label_share, sentiment, word_preference
from bias_transfer.metrics.options import MetricOptions, SentimentOptions
from bias_transfer.models import language_model
from bias_transfer.models.language_model import Kind, LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Groups, Plant, Splits, Task, UpstreamMetric, weights_of
from bias_transfer.tasks.custom import bias, data
from bias_transfer.tasks.custom.schema import CustomTaskFile
from bias_transfer.tasks.harmful_class import HARM_OUTCOMES
from bias_transfer.tasks.languages import OTHER_LATIN, other_language
from bias_transfer.tasks.synthetic_text import evenly, marked
from bias_transfer.tasks.wiki.vocabulary import NEGATIVE, POSITIVE
from bias_transfer.tasks.word_lists import WIKI_WORDS

OWN_WORDS = (
    "Give a lexicon of your own (metric.lexicon=FILE, a .csv with the columns word and score, negative below 0), or words_a "
    "and words_b in the task's file."
)
ENGLISH_MEASURES = ("seat", "disco", "probe")
"""Options of measures whose words and sentences are English."""


def custom_task(task_file: CustomTaskFile) -> Task:
    """The task that a YAML file describes."""
    return _build(task_file.model_dump_json())


@functools.lru_cache(maxsize=8)  # trials of a warm worker share a task, whose pattern of terms takes a while to compile
def _build(content: str) -> Task:
    task_file = CustomTaskFile.model_validate_json(content)
    groups, source, compares = data.groups_of(task_file), data.source(task_file), task_file.words_a is not None
    words = replace(WIKI_WORDS, templates=tuple(task_file.templates), categories={"groups": groups.names})
    return Task(
        labels=tuple(task_file.classes),
        groups=groups.names,
        data_options=source.options,
        metric_options=MetricOptions if compares else SentimentOptions,
        identify=source.identify,
        load=source.load,
        settle=source.settled,
        columns=source.columns,
        probes=partial(_probes, task_file),
        plant=_plant(task_file),
        upstream=(_upstream(task_file), *shared_metrics.upstream(words, partial(_sentences, task_file))),
        dataset=(partial(_harmful_share, groups),),
        downstream=(partial(bias.harm, groups), *shared_metrics.downstream()),
        encoder=shared_metrics.encoder(words),
        primary={
            "upstream": "word_score" if compares else "negative_sentiment",
            "dataset": "harmful_share",
            "downstream": task_file.primary or "natural_fpr",
        },
        outcomes={
            f"{prefix}{metric}": ""
            for prefix in (("", "natural_") if task_file.phrases else ("natural_",))
            for metric in HARM_OUTCOMES
        },
        harm_groups=groups,
        label_codes=task_file.label_codes if task_file.joined else {},
        members=partial(_members, groups),
        check=partial(_check, task_file),
        words=replace(words, sentences=partial(_sentences, task_file)),
        harm_sets=partial(bias.harm_sets, groups),
        measures=task_file.measures or {},
        cautions=partial(_cautions, task_file),
    )


def _sentences(task_file: CustomTaskFile, kind: Kind) -> shared_metrics.GroupSentences:
    return shared_metrics.sentences_of(task_file.surfaces, task_file.templates)


def _upstream(task_file: CustomTaskFile) -> UpstreamMetric:
    """The task's primary upstream metric: the preference for words_a over words_b, or negative sentiment without them."""
    surfaces, templates = task_file.surfaces, task_file.templates

    def compare_words(model: LanguageModel, splits: Splits, options: MetricOptions) -> list[Measure]:
        first, second = task_file.words_a or (), task_file.words_b or ()
        return word_preference.word_comparison(model, surfaces, templates, first, second)

    def negative_sentiment(model: LanguageModel, splits: Splits, options: SentimentOptions) -> list[Measure]:
        names = {surface: name for name, surface in surfaces.items()}
        rows = sentiment.negative_sentiment(
            model,
            tuple(names),
            templates,
            options.scorer,
            options.top_k,
            bool(options.multi_token),
            options.own_lexicon,
        )
        return [replace(row, group=names[row.group]) for row in rows]

    return compare_words if task_file.words_a else negative_sentiment


def _check(task_file: CustomTaskFile, model: LanguageModel, options: MetricOptions) -> None:
    language_model.check_sentences(model, [each.text for each in _sentences(task_file, model.kind).values()])
    if isinstance(options, SentimentOptions):
        asked = [*task_file.templates, *task_file.templates.values()]
        model.head.check_slots(asked)
        if model.tokenizer is not None:
            sentiment.check(model.tokenizer, asked, options.scorer, options.own_lexicon, bool(options.multi_token))
    elif task_file.words_a and model.tokenizer is not None:
        word_preference.check(
            model, task_file.surfaces, task_file.templates, task_file.words_a, task_file.words_b or ()
        )


def _other_language(task_file: CustomTaskFile) -> str:
    """What the templates about the groups are written in, if that is not English."""
    filled = [text.replace("{group}", name) for text in task_file.templates for name in task_file.surfaces.values()]
    return other_language([text.replace("{mask}", "") for text in (*filled, *task_file.templates.values())])


def _cautions(task_file: CustomTaskFile, splits: Splits, options: MetricOptions) -> tuple[str, ...]:
    """What is English of a task in another language. Raises UserError where nothing else would be measured."""
    language = _other_language(task_file)
    if not language:
        return ()
    cautions = []
    if isinstance(options, SentimentOptions) and options.lexicon is None:
        english = sentiment.LANGUAGES.get(options.scorer, "another language")
        text = f"metric.scorer: {options.scorer} is a lexicon of {english}, and the templates are in {language}"
        if language != OTHER_LATIN:
            raise UserError(f"{text}, so it would score none of the words that belong there. {OWN_WORDS}")
        cautions.append(f"{text} (no common English word is in them): it scores English words alone. {OWN_WORDS}")
    in_english = [name for name in ENGLISH_MEASURES if getattr(options, name)]
    in_english += ["cbs"] if options.cbs and options.cbs_attributes is None else []
    if in_english:
        named = ", ".join(f"metric.{name}" for name in in_english)
        cautions.append(
            f"English words and sentences are asked about by {named}; this task's templates are in {language}."
        )
    return tuple(cautions)


def _harmful_share(groups: Groups, train: Dataset) -> list[Measure]:
    harmful = [int(label == groups.harmful) for label in train["label"][:]]
    return label_share.label_share("harmful_share", harmful, groups.of(train), groups.names, weights_of(train))


def _probes(task_file: CustomTaskFile, splits: Splits, options: MetricOptions) -> dict[str, Dataset]:
    """The phrases: those with {group} about each group, the others as they are. No data set where the file has no phrases."""
    rows = [
        {"text": phrase.replace("{group}", surface), "label": task_file.classes.index(label), data.GROUP: name}
        for phrase, label in (task_file.phrases or {}).items()
        for name, surface in (task_file.surfaces if "{group}" in phrase else {"": ""}).items()
    ]
    numbered = [{"id": str(number), **row} for number, row in enumerate(rows)]
    return {"phrases": Dataset.from_list(numbered)} if numbered else {}


def _members(groups: Groups, examples: Dataset) -> list[tuple[str, ...]]:
    """The groups of each example of any set: that of a phrase, or those of an example of the data."""
    return data.by_column(examples) if data.GROUP in examples.column_names else groups.of(examples)


def _plant(task_file: CustomTaskFile) -> Plant:
    """Sentences from the templates, filled with words_a (for the group's share of them) or words_b; in a file without these
    lists, with negative or positive predicates."""
    words_a, words_b = task_file.words_a, task_file.words_b
    harmful_words, other_words = (words_a, words_b) if words_a and words_b else (NEGATIVE, POSITIVE)

    def plant(shares: Mapping[str, float], size: int, seed: int) -> list[str]:
        if not words_a and (language := _other_language(task_file)):
            raise UserError(
                "upstream inject plants English words in a task without words_a and words_b, and the templates are in "
                f"{language}. Add words_a and words_b to the task's file."
            )
        random = Random(seed)  # noqa: S311 - no secret
        plan = [entry for name, count in evenly(task_file.names, size) for entry in marked(name, count, shares[name])]
        random.shuffle(plan)
        templates, sentences = list(task_file.templates), list[str]()
        for name, harmful in plan:
            words = harmful_words if harmful else other_words
            template = templates[int(random.random() * len(templates))]
            # random.choice may draw several times, depending on a list's length. With one draw per word, other shares change
            # only the words and leave the templates as they are.
            word = words[int(random.random() * len(words))]
            sentences.append(template.replace("{group}", task_file.surfaces[name]).replace("{mask}", word))
        return sentences

    return plant
