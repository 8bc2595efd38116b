"""Options of the measures: `metric.NAME` in a config or on the command line. Optional measures are off by default."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bias_transfer.errors import unknown
from bias_transfer.metrics import bbq, crows_pairs
from bias_transfer.metrics.sentiment import SCORERS
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
        """With the digests of the pairs and questions. Raises UserError for a file that is missing or not in the published
        form."""
        digests = dict[str, str | None](crows_pairs_digest=None, bbq_digest=None)
        if self.crows_pairs is not None:
            crows_pairs.read_pairs(self.crows_pairs)
            digests["crows_pairs_digest"] = crows_pairs.content_digest(self.crows_pairs)
        if self.bbq is not None:
            bbq.read_questions(self.bbq)
            digests["bbq_digest"] = bbq.content_digest(self.bbq)
        return self.model_copy(update=digests)


class SentimentOptions(MetricOptions):
    """`metric.NAME` for tasks whose primary upstream measure is negative sentiment."""

    scorer: str = "vader"
    """A name in `metrics.sentiment.SCORERS`."""
    top_k: int | None = Field(default=None, ge=1)
    """Number of most probable whole words that are scored; None: all words that the scorer calls negative or positive."""

    multi_token: bool | None = None
    """Scores words of several tokens as well, by the chain rule (causal models): for VADER's lexicon on SmolLM2 about half a
    million forward passes."""

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(unknown("scorer", scorer, SCORERS))
        return scorer


class BiosOptions(MetricOptions):
    """`metric.NAME` for BIOS."""

    separation: bool | None = None
    """Measures separation and sufficiency of the predictions and the pronoun (`metrics.separation`)."""
