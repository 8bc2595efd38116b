"""A tokenizer that remembers gives what the tokenizer gives."""

from __future__ import annotations

from bias_transfer.models.batching import encode
from bias_transfer.training.tokens import Tokenised


def test_token_ids_are_those_of_the_tokenizer_found_or_not(tokenizer, sentences, tmp_path):
    asked = list[int]()

    def counted(texts, **options):
        asked.append(len(texts))
        return tokenizer(texts, **options)

    tokens = Tokenised(counted, 8, {"model": "one"}, tmp_path)
    for _ in range(2):
        assert tokens.of(sentences) == encode(tokenizer, sentences, 8)
    assert asked == [len(sentences)]
    treated = [sentences[3], "a new text about the old man and his cat", *sentences[:2], sentences[3]]
    assert tokens.treated(treated, sentences) == encode(tokenizer, treated, 8)
    assert asked == [len(sentences), 1]
    assert tokens.treated([], sentences) == []
    for other in (Tokenised(counted, 6, {"model": "one"}, tmp_path), Tokenised(counted, 8, {"model": "two"}, tmp_path)):
        assert other.of(sentences) == encode(tokenizer, sentences, other.max_tokens)
    assert asked[2:] == [len(sentences)] * 2
