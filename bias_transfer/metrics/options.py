"""Settings of the measures that any task can have beside its own, all off unless they are asked for."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator

from bias_transfer.metrics import pairs_file
from bias_transfer.metrics.sentiment import SCORERS
from bias_transfer.spec import Options
from bias_transfer.errors import unknown


class ExtraOptions(Options):
    """`metric.NAME` for every task; a task's own metric options inherit from it."""

    crows_pairs: str | None = None
    """A CSV file in the form of crows_pairs_anonymized.csv: bias of the language model on its pairs (`metrics.pairs`)."""
    crows_pairs_digest: str | None = None
    """Content of `crows_pairs`, set by `resolved`."""
    seat: Literal["first", "mean"] | None = None
    """Association tests on sentence embeddings: of the first token, or the mean of all (`metrics.association`)."""
    disco: bool | None = None
    """Fills that differ between two sets of persons (`metrics.disco`)."""
    probe: bool | None = None
    """Probe for an attribute, before and after fine-tuning (`metrics.probe`)."""

    @field_validator("disco", "probe")
    @classmethod
    def _off_is_not_set(cls, value: bool | None) -> bool | None:
        return value or None  # so that `false` has the id of a trial that says nothing

    def resolved(self) -> Self:
        """With the digest of the pairs. Raises UserError for a file that is missing or not of the published form."""
        if self.crows_pairs is None:
            return self.model_copy(update={"crows_pairs_digest": None})
        pairs_file.read_pairs(self.crows_pairs)
        return self.model_copy(update={"crows_pairs_digest": pairs_file.content_digest(self.crows_pairs)})


class SentimentOptions(ExtraOptions):
    """`metric.NAME` for tasks whose upstream measure is negative sentiment."""

    scorer: str = "vader"
    """A name in `metrics.upstream.SCORERS`."""
    top_k: int | None = Field(default=None, ge=1)
    """None: all words that the scorer judges; else the k most probable whole words."""

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(unknown("scorer", scorer, SCORERS))
        return scorer
