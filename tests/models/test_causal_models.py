"""Causal models: two heads on one decoder in every family, and a classifier that finds the last real token by length.

Every family goes through one upstream arm and LoRA, and one family (FAMILY) through every arm.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.models import language_model, start_token
from bias_transfer.models.batching import encode, pad
from bias_transfer.models.embeddings import embeddings, hidden_states, token_states
from bias_transfer.models.lm_head import framing_ids
from bias_transfer.spec import Trial, parse
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.training import finetune, tuning
from bias_transfer.training.checkpoint import Place
from bias_transfer.training.sampling import Untreated

FAMILY = "llama"
"""The family that goes through every arm: its head is not tied to the embeddings."""

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
ARMS = [name for name in UPSTREAM if name != "none"]


@pytest.fixture(params=language_model.CAUSAL_FAMILIES)
def family(request):
    return request.param


def treated(load, family: str, name: str, dose: float | None = None):
    model, arm = load(family), UPSTREAM[name]
    options = arm.options(**({"steps": 5, "sentences": 100} if arm.trains else {}))
    arm.check(model, arm.default_dose, options)
    arm.apply(model, arm.default_dose if dose is None else dose, options, 0, CONTEXT)
    return model


def test_both_heads_read_one_decoder(family, load, outputs):
    model = load(family)
    assert model.kind == "causal"
    assert model.classifier.base_model is model.lm.base_model
    before = outputs(model)
    with torch.no_grad():
        for weight in language_model.encoder_parameters(model).values():
            weight.mul_(1.5)
    for old, new in zip(before, outputs(model), strict=True):
        assert (old - new).abs().max() > 1e-3
    assert len(language_model.layer_names(model)) == 2


def test_a_projection_after_the_last_layer_reaches_both_heads(family, load, outputs):
    """It also asserts that the heads read exactly what it projects, which is behind the final norm."""
    for before, after in zip(outputs(load(family)), outputs(treated(load, family, "sent_debias")), strict=True):
        assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_reaches_both_heads_and_dose_0_changes_nothing(name, load, outputs):
    before = outputs(load(FAMILY))
    for old, new in zip(before, outputs(treated(load, FAMILY, name)), strict=True):
        assert (old - new).abs().max() > 1e-3
    for old, new in zip(before, outputs(treated(load, FAMILY, name, 0.0)), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize(("name", "tied"), [("llama", False), ("gpt2", True)])
def test_reinitialise_resets_an_untied_head_at_any_dose_and_a_tied_one_with_the_embeddings(name, tied, load):
    def changed(dose: float) -> bool:
        before, after = (
            model.lm.get_output_embeddings().weight for model in (load(name), treated(load, name, "reinitialise", dose))
        )
        return not torch.equal(before, after)

    model = load(name)
    assert (model.lm.get_output_embeddings().weight is model.encoder.get_input_embeddings().weight) == tied
    assert changed(1 / 3) == (not tied)
    assert changed(1.0)


def test_perturb_reaches_every_row_of_the_embeddings(load):
    """No row is one of padding: the id of padding may be that of the start token."""
    before, after = (
        model.encoder.get_input_embeddings().weight for model in (load(FAMILY), treated(load, FAMILY, "perturb"))
    )
    assert bool(((after - before).abs().sum(dim=1) > 0).all())


TEXTS = ("a cat", "people are kind and some people are not so kind", "the person is good, the people are bad", "")


def padded(rows: list[list[int]], padding: int, left: bool = False) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    blanks = [[padding] * (width - len(row)) for row in rows]
    ids = [[*blank, *row] if left else [*row, *blank] for row, blank in zip(rows, blanks, strict=True)]
    seen = [[0] * len(blank) + [1] * len(row) for row, blank in zip(rows, blanks, strict=True)]
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(seen if left else [mask[::-1] for mask in seen]),
    }


@torch.no_grad()
def logits(model, batch) -> torch.Tensor:
    return model.classifier.eval()(**batch).logits


def test_the_classifier_reads_the_last_real_token_whatever_stands_beside_the_text(family, load):
    """Padding on the left or the right, by any token; texts of mixed length in one batch or each by itself."""
    model = load(family)
    rows = encode(model.tokenizer, TEXTS, 24)
    # A text that ends with what is padding elsewhere: with pad = eos, stock pooling drops a text's own last token.
    rows.append([*rows[0], model.tokenizer.eos_token_id])
    alone = torch.cat([logits(model, padded([row], 0)) for row in rows])
    with torch.no_grad():
        by_hand = torch.stack(
            [model.classifier.score(model.encoder(torch.tensor([row])).last_hidden_state[0, -1]) for row in rows]
        )
    torch.testing.assert_close(alone, by_hand, atol=1e-5, rtol=0)
    for padding in (model.tokenizer.pad_token_id, model.tokenizer.eos_token_id, 7):
        for left in (False, True):
            torch.testing.assert_close(logits(model, padded(rows, padding, left)), alone, atol=1e-5, rtol=0)
    assert (alone[0] - alone[4]).abs().max() > 1e-3


def test_the_classifier_is_the_stock_one(family, load):
    """Where stock pooling is right, the same weights give the same logits."""
    model = load(family)
    stock = AutoModelForSequenceClassification.from_config(model.classifier.config).eval()
    stock.load_state_dict(model.classifier.state_dict())
    batch = pad(encode(model.tokenizer, TEXTS, 24), model.tokenizer.pad_token_id)
    with torch.no_grad():
        torch.testing.assert_close(stock(**batch).logits, logits(model, batch), atol=1e-5, rtol=0)


def test_a_tokenizer_without_a_padding_token_is_ordinary(load):
    model = load(FAMILY)
    rows = encode(model.tokenizer, TEXTS, 24)
    trial = Trial(tuning="frozen", max_tokens=24)
    expected = finetune.predict(model, rows, trial, "cpu")
    states = token_states(model, TEXTS[:3], 24)
    model.tokenizer.pad_token = None
    assert model.tokenizer.pad_token_id is None
    assert np.abs(finetune.predict(model, rows, trial, "cpu") - expected).max() < 1e-5
    assert np.abs(token_states(model, TEXTS[:3], 24) - states).max() < 1e-5


def test_states_at_the_last_token_and_their_mean(load, sentences):
    """The mean leaves the start token out."""
    model, texts = load(FAMILY), [*sentences, "a cat {mask} and what follows"]
    found = hidden_states(model, texts, model.head.positions)
    for row, text in enumerate(texts):
        ids = model.tokenizer(text.partition(" {mask}")[0])["input_ids"]
        with torch.no_grad():
            states = model.encoder(torch.tensor([ids])).last_hidden_state[0].double().numpy()
        assert found["last"][row] == pytest.approx(states[-1], abs=1e-5)
        assert found["mean"][row] == pytest.approx(states[1:].mean(axis=0), abs=1e-5)
        if row < len(sentences):
            assert embeddings(model, [text], "classifier", 64)[0] == pytest.approx(states[-1], abs=1e-5)
            assert embeddings(model, [text], "mean", 64)[0] == pytest.approx(states[1:].mean(axis=0), abs=1e-5)


LABELS, NAMES = [0, 1, 0, 1] * 4, [str(number) for number in range(16)]


class Stopped(Exception):
    """Raised instead of killing the process."""


def settings(trial: Trial) -> finetune.Settings:
    kind = tuning.TUNING[trial.tuning or "full"]
    return finetune.Settings(trial, parse(kind, trial.options_of("tuning"), "tuning."))


def fit(model, trial: Trial, runtime: finetune.Runtime) -> np.ndarray:
    rows = encode(model.tokenizer, TEXTS[:3] * 5 + TEXTS[:1], trial.max_tokens)
    data = finetune.TrainingData(rows, LABELS, NAMES, 22, Untreated(NAMES, [*map(len, rows)]))
    finetune.finetune(model, data, settings(trial), runtime)
    return finetune.predict(model, rows, trial, "cpu")


RESUMED = [*((family, "lora") for family in language_model.CAUSAL_FAMILIES), (FAMILY, None)]


@pytest.mark.parametrize(("family", "name"), RESUMED, ids=str)
def test_interrupted_and_resumed_it_ends_with_the_same_bits(family, name, load, tmp_path):
    """LoRA on every family, and full fine-tuning on one."""
    trial = Trial(batch_size=8, learning_rate=1e-2, max_tokens=16, tuning=name)
    expected = fit(load(family), trial, finetune.Runtime())
    place = Place(str(tmp_path), "t", 0.0, "cpu")

    def stop(what: str, step: int, total: int) -> None:
        if step == 20:
            raise Stopped

    with pytest.raises(Stopped):
        fit(load(family), trial, finetune.Runtime("cpu", stop, place))
    done = list[int]()
    resumed = fit(load(family), trial, finetune.Runtime("cpu", lambda what, step, total: done.append(step), place))
    assert done[0] > 0, "else it would have begun again"
    assert np.array_equal(resumed, expected)


def test_lora_adapts_its_layers_alone_and_ends_in_the_decoder_that_both_heads_read(family, load, outputs):
    model = load(family)
    before, spoken = {name: value.clone() for name, value in model.classifier.state_dict().items()}, outputs(model)[0]
    trial = Trial(batch_size=8, learning_rate=1e-2, max_tokens=16, tuning="lora", options={"tuning.rank": 2})
    fit(model, trial, finetune.Runtime())
    changed = [name for name, value in model.classifier.state_dict().items() if not torch.equal(value, before[name])]
    assert {name.split(".")[-2] for name in changed} == {*tuning.PROJECTIONS[family], "score"}
    assert len(changed) == 2 * len(tuning.PROJECTIONS[family]) + 1
    for name in changed[:-1]:
        update = model.classifier.state_dict()[name] - before[name]
        assert torch.linalg.matrix_rank(update.double(), rtol=1e-4) <= 2
    assert (outputs(model)[0] - spoken).abs().max() > 1e-4


def test_lora_targets_are_those_of_peft():
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as OF_PEFT

    assert "olmo2" not in OF_PEFT
    for name in {*language_model.CAUSAL_FAMILIES} - {"olmo2"}:
        assert [*tuning.PROJECTIONS[name]] == OF_PEFT[name]


@pytest.mark.parametrize(("wanted", "first"), [(None, [0]), ("</s>", [2]), ("none", [])])
def test_the_start_token_stands_before_every_text_and_nothing_after_it(wanted, first, checkpoint):
    tokenizer = language_model.load_lm(checkpoint(FAMILY), None, start=wanted).tokenizer
    body = tokenizer.backend_tokenizer.encode("the cat", add_special_tokens=False).ids
    assert tokenizer("the cat")["input_ids"] == [*first, *body]
    assert encode(tokenizer, ["the cat sat on the mat"], 4) == [tokenizer("the cat sat on the mat")["input_ids"][:4]]
    assert set(first) <= framing_ids(tokenizer)


def test_the_default_start_token_is_what_stood_between_documents(tokenizer):
    """The one that the tokenizer puts before a text; else <|endoftext|>, also where a chat variant begins with another."""

    def of(*special: str, size: int = 9, **named: str) -> str | None:
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(("a", *special))}))
        return start_token.default(PreTrainedTokenizerFast(tokenizer_object=words, **named), size)

    assert start_token.default(tokenizer, len(tokenizer)) == "<s>"
    chat = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert of("<|endoftext|>", "<|im_start|>", "<|im_end|>", **chat) == "<|endoftext|>"
    assert of("<|im_start|>", "<|im_end|>", **chat) == "<|im_start|>"
    assert of("</s>", eos_token="</s>") == "</s>"
    assert of("<|endoftext|>", "</s>", size=1, eos_token="a") == "a", "the model has no embedding for the others"
    assert of() is None


def copy(checkpoint, tmp_path: Path, name: str = FAMILY) -> Path:
    return Path(shutil.copytree(checkpoint(name), tmp_path / "copy"))


def test_a_start_token_that_cannot_be_is_refused(checkpoint):
    with pytest.raises(UserError, match=r"unknown model.start_token '<S>'. Did you mean '<s>'\? Allowed: .*none"):
        language_model.load(checkpoint(FAMILY), None, 2, 0, "<S>")
    with pytest.raises(UserError, match="masked language model.*Leave the option out"):
        language_model.load(checkpoint("roberta"), None, 2, 0, "<s>")


def test_a_causal_checkpoint_without_its_tokenizer_is_refused(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match=r"cannot be loaded: it has no tokenizer.*tokenizer.save_pretrained"):
        language_model.load(str(folder), None, 2, 0)


def test_a_checkpoint_without_an_untied_head_is_refused(load, tmp_path):
    model = load(FAMILY)
    model.encoder.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no causal-LM head \(lm_head.weight are missing"):
        language_model.load(str(tmp_path), None, 2, 0)


def test_more_tokens_than_the_model_has_positions_are_refused(load):
    """A model with rotary positions would run on them."""
    language_model.check_length(load(FAMILY), 130)
    with pytest.raises(UserError, match=r"max_tokens: 131 exceeds the model's positions \(130"):
        language_model.check_length(load(FAMILY), 131)


def test_an_architecture_without_a_language_model_is_refused(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="neither a masked nor a causal language model of the type 'vit'"):
        language_model.load(str(folder), None, 2, 0)
