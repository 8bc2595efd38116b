"""Both heads share one encoder, in every family; and unusable checkpoints are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from bias_transfer.errors import UserError
from bias_transfer.models import hub, language_model


@pytest.fixture(params=language_model.FAMILIES)
def family(request):
    return request.param


def test_every_named_family_is_tested(families):
    assert sorted(families) == sorted((*language_model.FAMILIES, *language_model.CAUSAL_FAMILIES))


def test_both_heads_read_one_encoder(family, load, outputs):
    model = load(family)
    assert model.classifier.base_model is model.lm.base_model
    before = outputs(model)
    with torch.no_grad():
        for weight in language_model.encoder_parameters(model).values():
            weight.mul_(1.5)
    for old, new in zip(before, outputs(model), strict=True):
        assert (old - new).abs().max() > 1e-3


def test_the_heads_alone_change_nothing_in_the_encoder(family, load):
    model = load(family)
    digest = language_model.encoder_digest(model)
    with torch.no_grad():
        for weight in language_model.head_parameters(model).values():
            weight.add_(1)
    assert language_model.encoder_digest(model) == digest


def test_the_classifier_is_the_stock_one(family, load, outputs):
    """With the same weights a classifier that was never shared gives the same logits."""
    model = load(family)
    stock = AutoModelForSequenceClassification.from_config(model.classifier.config).eval()
    stock.load_state_dict(model.classifier.state_dict())
    assert torch.equal(outputs(language_model.LanguageModel(model.tokenizer, model.lm, stock))[1], outputs(model)[1])


def test_the_head_depends_on_the_seed_alone(family, load):
    first, again, other = load(family, 0), load(family, 0), load(family, 1)
    head = [name for name, _ in first.classifier.named_parameters() if not name.startswith(prefix(first))]
    assert any(name.endswith("weight") for name in head)
    weights = [dict(model.classifier.named_parameters()) for model in (first, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in head)
    matrices = [name for name in head if weights[0][name].ndim > 1]
    assert all(not torch.equal(weights[0][name], weights[2][name]) for name in matrices)
    assert language_model.encoder_digest(first) == language_model.encoder_digest(other)


def prefix(model: language_model.LanguageModel) -> str:
    return f"{model.classifier.base_model_prefix}."


def test_output_embeddings_stay_tied(family, load):
    model = load(family)
    assert model.lm.get_output_embeddings().weight is model.encoder.get_input_embeddings().weight


def test_every_layer_has_a_name(family, load):
    model = load(family)
    layers = language_model.layer_names(model)
    assert len(layers) == 2
    for layer in layers:
        assert any(name.startswith(layer) for name in language_model.encoder_parameters(model))


def test_a_checkpoint_without_a_masked_lm_head_is_refused(family, load, tmp_path):
    model = load(family)
    model.encoder.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no masked-LM head") as error:
        language_model.load(str(tmp_path), None, 2, 0)
    assert "bias-transfer pretrain" in str(error.value)


@pytest.mark.parametrize("need_head", [True, False])
def test_a_checkpoint_that_lacks_weights_of_its_encoder_is_damaged(load, need_head, tmp_path):
    """Also where only the head may be missing, as for continued pre-training."""
    model = load()
    remaining = {name: value for name, value in model.lm.state_dict().items() if "layer.1.attention" not in name}
    model.lm.save_pretrained(tmp_path, state_dict=remaining)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is damaged: \d+ weights of its encoder are missing.*layer.1.attention"):
        language_model.load_lm(str(tmp_path), None, need_head=need_head)


def test_a_tokenizer_without_a_mask_is_refused(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text())
            content.pop("mask_token", None)
            (folder / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match="a tokenizer without a mask token"):
        language_model.load(str(folder), None, 2, 0)


def copy(checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint("roberta"), tmp_path / "copy"))


def test_a_damaged_checkpoint_is_refused(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        language_model.load(str(folder), None, 2, 0)


def test_identity_is_content_not_place(checkpoint, tmp_path):
    folder = copy(checkpoint, tmp_path)
    assert hub.identify(str(folder)) == hub.identify(checkpoint("roberta"))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert hub.identify(str(folder)) != hub.identify(checkpoint("roberta"))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a b"])
def test_a_folder_that_is_not_there_is_reported(name):
    with pytest.raises(UserError, match=r"Allowed: tiny, smollm2, a checkpoint folder, a .gguf file, or a hub id"):
        hub.identify(name)


def test_an_unknown_hub_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        hub.identify("tinny")


def test_nested_quiet_contexts_stay_quiet_until_the_outermost_ends():
    assert logging.is_progress_bar_enabled()
    with language_model.quiet():
        with language_model.quiet():
            pass
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()
