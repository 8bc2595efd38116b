"""Options of the measures: `metric.NAME` in a config or on the command line. Optional measures are off by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bias_transfer.errors import UserError, unknown
from bias_transfer.metrics import (
    bbq,
    categorical_bias,
    crows_pairs,
    files,
    hurtful_completions,
    sentence_pairs,
    sentiment,
    stereoset,
)
from bias_transfer.metrics.sentence_pairs import Columns
from bias_transfer.spec import Options


class MetricOptions(Options):
    """`metric.NAME` for every task; the options of a task with further ones inherit from this class."""

    crows_pairs: str | None = None
    """CSV file in the form of crows_pairs_anonymized.csv: measures the language model's bias on its pairs
    (`metrics.crows_pairs`)."""
    crows_pairs_digest: str | None = None
    """Digest of the content of `crows_pairs`, set by `resolved`."""
    bbq: str | None = None
    """JSONL file in the form of BBQ: asks a causal language model its questions (`metrics.bbq`)."""
    bbq_digest: str | None = None
    """Digest of the content of `bbq`, set by `resolved`."""
    seat: Literal["first", "mean", "last"] | None = None
    """Association tests on sentence embeddings: the first token's state (masked models), the last one's (causal models), or the
    mean of all states (`metrics.seat`)."""
    disco: bool | None = None
    """Counts fills that differ between two sets of persons (`metrics.disco`)."""
    probe: bool | None = None
    """Probes the encoder for an attribute, before and after fine-tuning (`metrics.mdl_probe`)."""
    pairs: str | None = None
    """File (.csv, .tsv or .jsonl) of any pairs of sentences, scored as CrowS-Pairs are (`metrics.sentence_pairs`)."""
    pairs_digest: str | None = None
    """Digest of the content of `pairs`, set by `resolved`."""
    pairs_more: str | None = None
    """Its column with the more stereotyping sentence."""
    pairs_less: str | None = None
    """Its column with the other sentence."""
    pairs_type: str | None = None
    """Its column with the type of bias, by which scores are given; None: over all pairs alone."""
    aul: bool | None = None
    """Scores the pairs of `crows_pairs` and `pairs` also by AUL and AULA, on masked models (`metrics.sentence_pairs`)."""
    stereoset: str | None = None
    """JSON file in the form of StereoSet's dev.json (`metrics.stereoset`)."""
    stereoset_digest: str | None = None
    """Digest of the content of `stereoset`, set by `resolved`."""
    stereoset_replica: bool | None = None
    """Gives StereoSet's scores also as the published script computes them, by mean probabilities."""
    hurtful: str | None = None
    """Lexicon of hurtful words: a text file with one on each line, or HurtLex (`metrics.hurtful_completions`)."""
    hurtful_digest: str | None = None
    """Digest of the content of `hurtful`, set by `resolved`."""
    cbs: bool | None = None
    """Categorical bias score: how differently the groups of a category are treated (`metrics.categorical_bias`)."""
    cbs_attributes: str | None = None
    """Text file with one of its attributes on each line; None: adjectives of VADER's lexicon."""
    cbs_attributes_digest: str | None = None
    """Digest of the content of `cbs_attributes`, set by `resolved`."""

    @model_validator(mode="before")
    @classmethod
    def _phrases_are_chosen_on_wiki(cls, values: Any) -> Any:
        if isinstance(values, dict) and "phrases_per_term" in values and "phrases_per_term" not in cls.model_fields:
            raise ValueError(
                "metric.phrases_per_term: it chooses among the identity phrases of the task wiki, and this task has none (a "
                "custom task is asked about all phrases of its file). Leave the option out."
            )
        return values

    def resolved(self) -> Self:
        """With the digests of the files. Raises UserError for a file that is missing or in another form, and for an option
        that has no effect or lacks another."""
        self._check_together()
        digests = dict[str, str | None]()
        for name, read in FILES.items():
            if name not in type(self).model_fields:
                continue
            path = getattr(self, name)
            if path is not None:
                read(path, self)
            digests[f"{name}_digest"] = None if path is None else files.content_digest(f"metric.{name}", path)
        return self.model_copy(update=digests)

    @property
    def pair_columns(self) -> Columns:
        """What the columns of `pairs` have."""
        return Columns(self.pairs_more or "", self.pairs_less or "", self.pairs_type)

    def _check_together(self) -> None:
        if self.pairs is not None and not (self.pairs_more and self.pairs_less):
            raise UserError(
                "metric.pairs needs metric.pairs_more and metric.pairs_less, the columns of its two sentences; "
                "metric.pairs_type may name the column of the bias type."
            )
        for name, needed in NEEDED.items():
            if getattr(self, name) is not None and all(getattr(self, other) is None for other in needed):
                others = " or ".join(f"metric.{other}" for other in needed)
                raise UserError(f"metric.{name} has no effect without {others}. Add it, or leave metric.{name} out.")


NEEDED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pairs_more", "pairs_less", "pairs_type"), ("pairs",)),
    "aul": ("crows_pairs", "pairs"),
    "stereoset_replica": ("stereoset",),
    "cbs_attributes": ("cbs",),
}
"""Option -> those without any of which it has no effect."""

FILES: Mapping[str, Callable[[str, Any], object]] = {
    "crows_pairs": lambda path, options: crows_pairs.read_pairs(path),
    "bbq": lambda path, options: bbq.read_questions(path),
    "pairs": lambda path, options: sentence_pairs.read_pairs(path, options.pair_columns),
    "stereoset": lambda path, options: stereoset.read_items(path),
    "hurtful": lambda path, options: files.words(hurtful_completions.OPTION, path),
    "cbs_attributes": lambda path, options: files.words(categorical_bias.OPTION, path),
    "lexicon": lambda path, options: sentiment.read_lexicon(path),
}
"""Option that names a file -> how the file is read, whose content is `NAME_digest`."""


class SentimentOptions(MetricOptions):
    """`metric.NAME` for tasks whose primary upstream measure is negative sentiment."""

    scorer: str = "vader"
    """A name in `metrics.sentiment.SCORERS`."""
    top_k: int | None = Field(default=None, ge=1)
    """Number of most probable whole words that are scored; None: all words that the scorer calls negative or positive."""

    multi_token: bool | None = None
    """Scores words of several tokens as well, by the chain rule (causal models): for VADER's lexicon on SmolLM2 half a million
    forward passes."""

    lexicon: str | None = None
    """File (.csv, .tsv or .jsonl) with the columns word and score, in any language: its words are scored in place of the
    scorer's, negative below 0 and positive above."""
    lexicon_digest: str | None = None
    """Digest of the content of `lexicon`, set by `resolved`."""

    @property
    def own_lexicon(self) -> sentiment.Lexicon | None:
        """The content of `lexicon`. Raises UserError for a file that has changed since the options were resolved."""
        return None if self.lexicon is None else sentiment.read_lexicon(self.lexicon, self.lexicon_digest)

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in sentiment.SCORERS:
            raise ValueError(unknown("scorer", scorer, sentiment.SCORERS))
        return scorer


class BiosOptions(MetricOptions):
    """`metric.NAME` for BIOS."""

    separation: bool | None = None
    """Measures separation and sufficiency of the predictions and the pronoun (`metrics.separation`)."""
