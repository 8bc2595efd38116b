"""The sentences that upstream arms read: built-in ones, the task's own pre-training text, or those of a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import file_digest
from bias_transfer.interventions.counterfactual import mentions
from bias_transfer.interventions.upstream import attribute_words
from bias_transfer.models.hub import did_you_mean
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context

FEWEST = 20
"""Sentences with an attribute word that an arm needs, at least (ours)."""

CORPORA = ("both", "built-in", "task")

Chosen = TypeVar("Chosen", bound="CorpusOptions")
Sentence = TypeVar("Sentence", str, tuple[str, ...])


class CorpusOptions(Options):
    """Where an arm's sentences come from. Defaults are ours."""

    corpus: str = "both"
    """`built-in` sentences, the `task`'s pre-training text, `both`, or the path of a UTF-8 file with one text per line."""
    corpus_digest: str | None = None
    """SHA-256 of the corpus file, set by `resolved`."""
    sentences: int = Field(default=2000, ge=FEWEST)
    """Use the first N sentences that contain a word of the attribute."""

    def resolved(self) -> Self:
        """These options with the digest of the corpus file. Raises UserError if the file does not exist."""
        if self.corpus in CORPORA:
            return self
        path = Path(self.corpus)
        if not path.is_file():
            raise UserError(
                f"upstream.corpus: {self.corpus!r} is not a file.{did_you_mean(self.corpus)} Allowed: "
                f"{', '.join(CORPORA)}, or a UTF-8 file with one text per line."
            )
        return self.model_copy(update={"corpus_digest": file_digest(path)})


def variants(options: CorpusOptions, words: str, context: Context) -> list[tuple[str, ...]]:
    """Each sentence with each side of the attribute in the place of its first word for it (`attribute_words.swapped`).

    Raises UserError for a corpus with too few sentences that contain a word of the attribute.
    """
    swapped = attribute_words.swapped(_sentences(options, words, context), attribute_words.SETS[words])
    return _enough(list(islice(swapped, options.sentences)), options, f"with a word for {words}")


def attributed(options: CorpusOptions, words: str, context: Context) -> list[str]:
    """The sentences that have a word of the attribute (`counterfactual.mentions`). Raises UserError as `variants` does."""
    sets = attribute_words.SETS[words]
    chosen = (text for text in _sentences(options, words, context) if mentions(text, sets))
    return _enough(list(islice(chosen, options.sentences)), options, f"with a word for {words}")


def plain(options: CorpusOptions, words: str, frames: str, count: int, context: Context) -> list[str]:
    """At most `count` sentences without a word of the attribute (`counterfactual.mentions`); the built-in ones are those of
    `frames`, another name in `attribute_words.SETS`. Raises UserError as `variants` does."""
    sets = attribute_words.SETS[words]
    others = (text for text in _sentences(options, frames, context) if not mentions(text, sets))
    return _enough(list(islice(others, count)), options, f"without a word for {words}")


def check_text(options: Any, context: Context) -> None:
    """Raises UserError for a corpus with too few sentences with a word of the attribute."""
    attributed(fewest(options), options.words, context)


def fewest(options: Chosen) -> Chosen:
    """These options for a look at the text: whether it has enough sentences."""
    return options.model_copy(update={"sentences": FEWEST})


def _enough(found: list[Sentence], options: CorpusOptions, kind: str) -> list[Sentence]:
    if len(found) < FEWEST:
        raise UserError(
            f"upstream.corpus: {options.corpus} has {len(found)} sentences {kind}; {FEWEST} are needed. "
            "Choose another corpus: built-in, task, both, or a text file."
        )
    return found


def _sentences(options: CorpusOptions, words: str, context: Context) -> Iterator[str]:
    if options.corpus in ("both", "built-in"):
        yield from attribute_words.built_in(attribute_words.SETS[words])
    if options.corpus in ("both", "task"):
        yield from attribute_words.sentences(context.splits.pretraining)
    if options.corpus not in CORPORA:
        try:
            lines = Path(options.corpus).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"upstream.corpus: {options.corpus} is not UTF-8. Save it in that encoding.") from None
        yield from attribute_words.sentences(lines)
