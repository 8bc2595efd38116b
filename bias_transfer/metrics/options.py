"""Options of the measures: `metric.NAME` in a config or on the command line. Optional measures are off by default."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bias_transfer.errors import unknown
from bias_transfer.metrics import crows_pairs
from bias_transfer.metrics.sentiment import SCORERS
from bias_transfer.spec import Options


class MetricOptions(Options):
    """`metric.NAME` for every task; the options of a task with further ones inherit from this class."""

    crows_pairs: str | None = None
    """CSV file in the form of crows_pairs_anonymized.csv: measures the language model's bias on its pairs
    (`metrics.crows_pairs`)."""
    crows_pairs_digest: str | None = None
    """Digest of the content of `crows_pairs`, set by `resolved`."""
    seat: Literal["first", "mean", "last"] | None = None
    """Association tests on sentence embeddings: the first token's state (masked models), the last one's (causal models), or the
    mean of all states (`metrics.seat`)."""
    disco: bool | None = None
    """Counts fills that differ between two sets of persons (`metrics.disco`)."""
    probe: bool | None = None
    """Probes the encoder for an attribute, before and after fine-tuning (`metrics.mdl_probe`)."""

    @field_validator("disco", "probe")
    @classmethod
    def _off_is_not_set(cls, value: bool | None) -> bool | None:
        return value or None  # so that a trial with `false` has the id of a trial without the option

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
        """With the digest of the pairs. Raises UserError for a file that is missing or not in the published form."""
        if self.crows_pairs is None:
            return self.model_copy(update={"crows_pairs_digest": None})
        crows_pairs.read_pairs(self.crows_pairs)
        return self.model_copy(update={"crows_pairs_digest": crows_pairs.content_digest(self.crows_pairs)})


class SentimentOptions(MetricOptions):
    """`metric.NAME` for tasks whose primary upstream measure is negative sentiment."""

    scorer: str = "vader"
    """A name in `metrics.sentiment.SCORERS`."""
    top_k: int | None = Field(default=None, ge=1)
    """Number of most probable whole words that are scored; None: all words that the scorer calls negative or positive."""

    multi_token: bool | None = None
    """Scores words of several tokens as well, by the chain rule (causal models): for VADER's lexicon on SmolLM2 half a million
    forward passes."""

    @field_validator("multi_token")
    @classmethod
    def _off_is_unset(cls, value: bool | None) -> bool | None:
        return value or None

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(unknown("scorer", scorer, SCORERS))
        return scorer
