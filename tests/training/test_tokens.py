"""Only the texts that an arm wrote are tokenised; all others are looked up among the untreated ones."""

from __future__ import annotations

from bias_transfer.models.batching import encode
from bias_transfer.training.tokens import treated_rows


def test_token_ids_are_the_tokenizers_and_only_new_texts_are_encoded(tokenizer, sentences):
    encoded = list[str]()

    def fresh(texts):
        encoded.extend(texts)
        return encode(tokenizer, texts, 8)

    def shared(texts):
        return encode(tokenizer, texts, 8)

    new = "a new text about the old man and his cat"
    treated = [sentences[3], new, *sentences[:2], sentences[3], new]
    assert treated_rows(treated, sentences, shared, fresh) == encode(tokenizer, treated, 8)
    assert encoded == [new]
    assert treated_rows([], sentences, shared, fresh) == []
