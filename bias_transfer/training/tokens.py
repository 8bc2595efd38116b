"""Token ids of a trial's texts, computed once for all trials that read the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bias_transfer.models.batching import Tokens
from bias_transfer.models.batching import encode
from bias_transfer.hashing import text_digest
from bias_transfer.storage.memoize import TOKENS
from bias_transfer.storage.memoize import Deciding
from bias_transfer.storage.memoize import remembered


@dataclass(frozen=True)
class Tokenised:
    """A model's tokenizer that remembers."""

    tokenizer: Any
    max_tokens: int
    model: Deciding
    """What decides the tokenizer (`deciding.untreated`)."""
    cache: Path

    def of(self, texts: Sequence[str]) -> Tokens:
        """Of texts that many trials read."""
        deciding = {**self.model, "max_tokens": self.max_tokens, "texts": text_digest(texts)}
        return remembered(self.cache, TOKENS, deciding, lambda: self._encode(texts))

    def treated(self, texts: Sequence[str], before: Sequence[str]) -> Tokens:
        """Of texts after an arm, which leaves most of those before it as they were."""
        known = dict(zip(before, self.of(before), strict=True))
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known |= zip(new, self._encode(new), strict=True)
        return [known[text] for text in texts]

    def _encode(self, texts: Sequence[str]) -> Tokens:
        return encode(self.tokenizer, texts, self.max_tokens)
