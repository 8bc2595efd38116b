"""An exported folder gives the project's logits with transformers alone, in every family."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from bias_transfer.errors import UserError
from bias_transfer.models import language_model, plain, start_token
from bias_transfer.models.batching import encode
from bias_transfer.spec import Trial
from bias_transfer.training import finetune

TEXTS = ("a cat", "people are kind and some people are not so kind", "the person is good, the people are bad", "")
LABELS = ("harmless", "toxic")


def predicted(model, texts, max_tokens: int) -> np.ndarray:
    return finetune.predict(model, encode(model.tokenizer, texts, max_tokens), Trial(), "cpu")


@torch.no_grad()
def by_transformers(auto, folder: Path, texts, **how) -> np.ndarray:
    """Logits with nothing but transformers: one text at a time, or a padded batch."""
    with language_model.quiet():
        tokenizer, model = AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder).eval()
    return model(**tokenizer(list(texts), return_tensors="pt", truncation=True, **how)).logits.numpy()


@pytest.mark.parametrize("family", [*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES])
def test_a_classifier_gives_the_logits_of_predict_alone_and_in_a_padded_batch(load, family, tmp_path):
    model = load(family)
    plain.save_classifier(model, LABELS, 8, tmp_path)
    expected = predicted(model, TEXTS, 8)
    batch = by_transformers(AutoModelForSequenceClassification, tmp_path, TEXTS, padding=True)
    single = np.vstack([by_transformers(AutoModelForSequenceClassification, tmp_path, [text]) for text in TEXTS])
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    np.testing.assert_allclose(single, expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    config = json.loads((tmp_path / "config.json").read_text())
    assert [*config["id2label"].values()] == [*LABELS]
    assert (
        str(Path.home())
        not in (tmp_path / "config.json").read_text() + (tmp_path / "tokenizer_config.json").read_text()
    )


@pytest.mark.parametrize("family", [*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES])
@torch.no_grad()
def test_a_language_model_gives_the_logits_of_its_head(load, family, tmp_path):
    model = load(family)
    plain.save_lm(model, tmp_path)
    auto = AutoModelForCausalLM if model.kind == "causal" else AutoModelForMaskedLM
    for text in TEXTS[:2]:
        row = torch.tensor(encode(model.tokenizer, [text], 64))
        expected = model.lm.eval()(input_ids=row, attention_mask=torch.ones_like(row)).logits.numpy()
        np.testing.assert_allclose(by_transformers(auto, tmp_path, [text]), expected, atol=1e-5)
    assert not any("pooler" in name for name in load_file(tmp_path / "model.safetensors"))
    again = language_model.load(str(tmp_path), None, 2, 0)  # the project's own loader takes the folder too
    assert language_model.encoder_digest(again) == language_model.encoder_digest(model)


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


PLAIN_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}


@pytest.mark.parametrize(
    ("edited", "start"),
    [
        ({"tokenizer_class": "GPTNeoXTokenizerFast"}, "</s>"),
        ({"tokenizer_class": "GPTNeoXTokenizerFast"}, start_token.NONE),
        ({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}, "<unk>"),
        ({**PLAIN_CLASS, "pad_token": None}, "</s>"),
        ({**PLAIN_CLASS, "pad_token": "</s>", "padding_side": "left"}, "</s>"),
        ({**PLAIN_CLASS, "pad_token": "<unk>"}, "<s>"),
    ],
    ids=str,
)
def test_the_start_token_and_a_token_to_pad_by_are_in_the_folder(checkpoint, tmp_path, edited, start):
    """GPT-NeoX's own tokenizer class drops what its file says of the start token; Llama has no padding token."""
    source = tmp_path / "source"
    with language_model.quiet():
        AutoModelForCausalLM.from_pretrained(checkpoint("gpt_neox")).save_pretrained(source)
        AutoTokenizer.from_pretrained(checkpoint("gpt_neox")).save_pretrained(source)
    edit(source / "tokenizer_config.json", **edited)
    edit(source / "config.json", pad_token_id=None)
    model = language_model.load(str(source), None, 2, 0, start)
    texts = TEXTS[:3]  # without a start token the empty text has no token at all
    plain.save_classifier(model, LABELS, 16, tmp_path / "out")
    expected = predicted(model, texts, 16)
    auto = AutoModelForSequenceClassification
    np.testing.assert_allclose(by_transformers(auto, tmp_path / "out", texts, padding=True), expected, atol=1e-5)
    with language_model.quiet():
        read = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert read(list(texts))["input_ids"] == encode(model.tokenizer, texts, 16)
    if start != start_token.NONE:
        assert read.bos_token == start
    assert model.tokenizer.pad_token == edited.get("pad_token", "<pad>")  # the trial's own tokenizer stays as it is


def test_a_folder_that_transformers_would_read_differently_is_refused(load, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "_as_plain_tokenizer", lambda file: edit(file, tokenizer_class="GPTNeoXTokenizerFast"))
    with pytest.raises(UserError, match="tokenizer reads texts differently"):
        plain.save_classifier(load("gpt_neox"), LABELS, 16, tmp_path / "a")
    monkeypatch.undo()
    model = load("bert")
    model.lm.base_model.encoder.layer[1].register_forward_hook(lambda part, given, output: output * 2)
    with pytest.raises(UserError, match="transformers computes other logits from the folder"):
        plain.save_lm(model, tmp_path / "b")
