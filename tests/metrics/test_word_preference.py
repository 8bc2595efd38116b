"""The comparison of two word lists, on a model with probabilities set by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bias_transfer.errors import UserError
from bias_transfer.metrics import word_preference
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.masked_head import Slot, slot
from bias_transfer.training.lm_training import train_tokenizer

SENTENCES = (
    "the baker is rude. the rower is kind. rude and kind and mean and calm",
    "rude people, kind people, the person",
)


@pytest.fixture(scope="module")
def tokenizer():
    made = train_tokenizer(SENTENCES * 20, 400)
    assert {"Ġrude", "Ġkind", "Ġmean", "Ġcalm", "rude", "Ġbaker"} <= made.get_vocab().keys()
    return made


class Answers(torch.nn.Module):
    """A masked LM: ln p(rude) is 1 more in rows with a baker, ln p(kind) 0.5 more in all, "rude" at the beginning 3 more."""

    def __init__(self, tokenizer):
        super().__init__()
        self.config, self.device = SimpleNamespace(vocab_size=len(tokenizer)), torch.device("cpu")
        self.vocabulary, self.mask = tokenizer.get_vocab(), tokenizer.mask_token_id
        self.masks: list[int] = []

    def forward(self, input_ids, attention_mask):
        logits = torch.zeros(*input_ids.shape, self.config.vocab_size)
        for number, ids in enumerate(input_ids.tolist()):
            self.masks.append(ids.count(self.mask))
            logits[number, :, self.vocabulary["Ġrude"]] = float(self.vocabulary["Ġbaker"] in ids)
            logits[number, :, self.vocabulary["Ġkind"]] = 0.5
            logits[number, :, self.vocabulary["rude"]] = 3.0
        return SimpleNamespace(logits=logits)


T = {"the {group} is {mask}.": "the person is {mask}."}


def scores(tokenizer, first=("rude", "mean"), second=("kind", "calm"), templates=T):
    groups = {"bakers": "baker", "rowers": "rower"}
    model = Answers(tokenizer)
    rows = word_preference.word_comparison(LanguageModel(tokenizer, model, None), groups, templates, first, second)
    assert {row.n for row in rows} == {len(first) + len(second)}
    assert set(model.masks) == {1}
    return {(row.metric, row.group): row.value for row in rows}


def test_scores_by_hand(tokenizer):
    found, prior = scores(tokenizer), math.log(2) - math.log(math.exp(0.5) + 1)
    logit = math.log(math.e + 1) - math.log(math.exp(0.5) + 1)
    assert found["word_logit", "bakers"] == pytest.approx(logit)
    assert found["word_prior", "bakers"] == found["word_prior", "rowers"] == pytest.approx(prior)
    assert found["word_score", "bakers"] == pytest.approx(logit - prior)
    assert found["word_score", "rowers"] == pytest.approx(0)


def test_the_lists_change_sides(tokenizer):
    one, other = scores(tokenizer), scores(tokenizer, ("kind", "calm"), ("rude", "mean"))
    assert all(one[key] == pytest.approx(-other[key]) for key in one)


def test_a_word_at_the_beginning_is_another_token(tokenizer):
    found = scores(tokenizer, ("rude",), ("kind",), {"{mask} people, the {group}.": "{mask} people, the person."})
    assert found["word_logit", "rowers"] == pytest.approx(3.0)


def test_a_word_at_the_beginning_is_capitalised_for_a_cased_tokenizer():
    vocabulary = {
        name: number for number, name in enumerate(["[UNK]", "[MASK]", "rude", "Rude", "kind", "Kind", "people"])
    }
    cased = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    cased.pre_tokenizer = pre_tokenizers.Whitespace()
    own = PreTrainedTokenizerFast(tokenizer_object=cased, unk_token="[UNK]", mask_token="[MASK]")
    assert slot(own, "{mask} people", ["rude", "kind"]) == Slot([1, 6], 0, (3, 5))
    assert slot(own, "people {mask}", ["rude", "kind"]) == Slot([6, 1], 1, (2, 4))
    with pytest.raises(UserError, match=r"no entry for 'calm' in 'people \{mask\}'"):
        slot(own, "people {mask}", ["rude", "calm"])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (("quarrelsome",), r"splits 'quarrelsome' in 'the person is \{mask\}.' into \d+ sub-tokens"),
        (("rude", "Rude"), "two words as the same token"),
    ],
)
def test_words_that_cannot_be_compared_are_refused(first, message, tokenizer):
    with pytest.raises(UserError, match=message):
        scores(tokenizer, first)
    with pytest.raises(UserError, match=message):
        word_preference.check(LanguageModel(tokenizer, None, None), {"b": "baker"}, T, first, ("kind",))


def test_words_that_can_be_compared_pass_the_check(tokenizer):
    """The positive control of the test above."""
    word_preference.check(LanguageModel(tokenizer, None, None), {"b": "baker"}, T, ("rude", "mean"), ("kind",))
