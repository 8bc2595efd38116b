"""Pronoun ranking, on models with probabilities set by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bias_transfer.errors import UserError
from bias_transfer.metrics import pronoun_ranking
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.masked_head import MaskedLMHead, Slot, slot
from bias_transfer.tasks.bios.occupations import OCCUPATIONS, article, surface
from bias_transfer.tasks.bios.task import TEMPLATES
from bias_transfer.training.lm_training import train_tokenizer

SENTENCES = (
    "she is a nurse. he is a nurse. i know she is, he said, and she said that he was an attorney, an interior designer",
    "the nurse said she was good at work and he had a good day. an attorney, and he wants to become a dj as well",
)


@pytest.fixture(scope="module")
def words():
    """A lower-casing tokenizer with the pronouns whole, at the beginning and within a text."""
    tokenizer = train_tokenizer(SENTENCES * 20, 420)
    assert {"she", "he", "Ġshe", "Ġhe", "Ġnurse"} <= tokenizer.get_vocab().keys()
    return tokenizer


class Answers(torch.nn.Module):
    """A masked LM: at each place, ln p(she) is +1 if the row has a nurse, and that of he is 0.25 a mask in the row."""

    def __init__(self, tokenizer):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=len(tokenizer))
        self.device = torch.device("cpu")
        self.vocabulary, self.mask = tokenizer.get_vocab(), tokenizer.mask_token_id
        self.rows: list[list[int]] = []

    def forward(self, input_ids, attention_mask):
        logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
        for number, ids in enumerate(input_ids.tolist()):
            self.rows.append([token for token, kept in zip(ids, attention_mask[number], strict=True) if kept])
            logits[number, :, self.vocabulary["she"]] = float(self.vocabulary["Ġnurse"] in ids)
            logits[number, :, self.vocabulary["Ġshe"]] = 5.0  # within a sentence; asked for at its beginning, it shows
            logits[number, :, self.vocabulary["he"]] = 0.25 * ids.count(self.mask)
        return SimpleNamespace(logits=logits)


def probe(tokenizer, template: str, article: str, occupation: str) -> Slot:
    about = pronoun_ranking.sentence(template, article, occupation)
    return slot(tokenizer, about.template, pronoun_ranking.PAIR, about.name)


def prior(tokenizer, probe: Slot) -> list[int]:
    return MaskedLMHead(tokenizer, None).prior(probe).row


def scores(tokenizer, occupations: dict[str, tuple[str, str]], *templates: str) -> dict[tuple[str, str], float]:
    rows = pronoun_ranking.pronoun_ranking(LanguageModel(tokenizer, Answers(tokenizer), None), occupations, templates)
    assert {row.n for row in rows} == {2}
    return {(row.metric, row.group): row.value for row in rows}


def test_scores_by_hand(words):
    found = scores(
        words, {"nurse": ("a", "nurse"), "other": ("an", "attorney")}, "{pronoun} is {article} {occupation}."
    )
    assert found["pronoun_logit", "nurse"] == pytest.approx(1 - 0.25)
    assert found["pronoun_prior", "nurse"] == pytest.approx(0 - 0.5), "the occupation is masked as well"
    assert found["pronoun_score", "nurse"] == pytest.approx(1.25)
    masks = len(words.tokenize("an attorney")) - len(words.tokenize("an"))
    assert found["pronoun_logit", "other"] == pytest.approx(-0.25)
    assert found["pronoun_prior", "other"] == pytest.approx(-0.25 * (1 + masks)), "one mask a sub-token"
    assert found["pronoun_score", "other"] == pytest.approx(0.25 * masks)


def test_within_a_sentence_the_pronoun_is_another_piece(words):
    found = scores(words, {"nurse": ("a", "nurse")}, "the {occupation} said {pronoun} was good.")
    assert found["pronoun_logit", "nurse"] == pytest.approx(5.0)
    found_slot = probe(words, "the {occupation} said {pronoun} was good.", "a", "nurse")
    assert found_slot.ids == (words.get_vocab()["Ġshe"], words.get_vocab()["Ġhe"])


def test_the_prior_keeps_the_article(words):
    for given, occupation in (("a", "nurse"), ("an", "attorney")):
        target = probe(words, "{pronoun} is {article} {occupation}.", given, occupation)
        without = prior(words, target)
        assert words.get_vocab()[f"Ġ{given}"] in without
        assert [(a, b) for a, b in zip(target.row, without, strict=True) if a != b] == [
            (token, words.mask_token_id) for token in words(f"a {occupation}")["input_ids"][2:-1]
        ]


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_occupation_fits_every_template(words, template):
    for name in OCCUPATIONS:
        target = probe(words, template, article(name), surface(name))
        assert target.row.count(words.mask_token_id) == 1
        assert target.row.index(words.mask_token_id) == target.place == 1
        assert prior(words, target).count(words.mask_token_id) == 1 + len(words.tokenize(f" {surface(name)}"))
        text = words.decode([token if token != words.mask_token_id else target.ids[0] for token in target.row[1:-1]])
        assert text == template.format(pronoun="she", article=article(name), occupation=surface(name).lower())


def test_a_pronoun_in_pieces_is_refused(tokenizer):
    """The tokenizer of the other tests has no "she"."""
    with pytest.raises(UserError, match=r"splits 'She' in .* into \d+ sub-tokens.*needs one"):
        probe(tokenizer, TEMPLATES[0], "a", "cat")


def cased(*known: str) -> PreTrainedTokenizerFast:
    """A cased tokenizer of whole words."""
    words = ("[UNK]", "[MASK]", "[PAD]", *known)
    own = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]")


def test_a_capital_begins_a_sentence():
    own = cased("She", "He", "she", "he", "is", "a", "nurse", "says", ".", "The")
    first = probe(own, "{pronoun} is {article} {occupation}.", "a", "nurse")
    within = probe(own, "The {occupation} says {pronoun} is.", "a", "nurse")
    assert (first.ids, within.ids) == ((3, 4), (5, 6))
    assert prior(own, within) == [12, 1, 10, 1, 7, 11]


def test_a_pronoun_that_the_vocabulary_lacks_is_refused():
    with pytest.raises(UserError, match="no entry for 'She' in"):
        probe(cased("He", "she", "is", "a", "nurse", "."), TEMPLATES[0], "a", "nurse")


def test_a_model_that_ignores_the_occupation_scores_0(words):
    class Blind(Answers):
        def forward(self, input_ids, attention_mask):
            logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
            logits[:, :, self.vocabulary["she"]] = math.log(3)
            return SimpleNamespace(logits=logits)

    model = LanguageModel(words, Blind(words), None)
    occupations = {name: (article(name), surface(name)) for name in OCCUPATIONS}
    rows = pronoun_ranking.pronoun_ranking(model, occupations, TEMPLATES)
    assert len(rows) == 3 * 28 * 5
    for row in rows:
        expected = 0 if row.metric == "pronoun_score" else math.log(3)
        assert row.value == pytest.approx(expected, abs=1e-6)
