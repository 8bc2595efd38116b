"""What a checkpoint lacks is found before the first trial and said in one sentence; a config's output flags are not trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from bias_transfer.errors import UserError
from bias_transfer.models import checkpoint_faults, hub, language_model
from bias_transfer.models.start_token import put
from bias_transfer.tasks.registry import TASKS


@pytest.fixture
def saved(tiny_config, tokenizer, tmp_path):
    """(architecture's table, family, changes of the configuration) -> the folder of a checkpoint with random weights."""

    def save(auto=AutoModelForMaskedLM, family="bert", tokens=True, **changes) -> Path:
        config = tiny_config(family)
        for name, value in changes.items():
            setattr(config, name, value)
        folder = tmp_path / f"checkpoint {len([*tmp_path.iterdir()])}"
        with language_model.quiet():
            auto.from_config(config, dtype=torch.float32).save_pretrained(folder)
            if tokens:
                tokenizer.save_pretrained(folder)
        return folder

    return save


def copy(folder: str | Path, target: Path, **config) -> Path:
    """With these keys in config.json."""
    shutil.copytree(folder, target)
    content = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(content | config))
    return target


def check(folder: Path) -> None:
    """As before the first trial."""
    hub.identify(str(folder))
    model = language_model.load(str(folder), None, labels=2, seed=0)
    language_model.check_length(model, 8)
    TASKS["wiki"].check(model, TASKS["wiki"].metric_options())


def refused(folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value) or "positions" in message


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows(saved):
    refused(saved(vocab_size=200), r"more tokens \(\d+\) than the model has embeddings \(200\)")


def test_no_tokenizer(saved):
    for family in ("bert", "roberta"):
        refused(saved(family=family, tokens=False), "has no tokenizer: there are special tokens alone")
    refused(saved(AutoModelForCausalLM, "gpt2", tokens=False), "has no tokenizer")


def test_fewer_positions_than_the_templates_need(saved):
    refused(saved(max_position_embeddings=12), r"has \d\d tokens, special tokens included, .* model's positions \(12\)")


@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", "cls.predictions.transform.dense.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number(saved, name, value):
    folder = saved()
    lm = AutoModelForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        lm.get_parameter(name)[3, 1] = value
    lm.save_pretrained(folder)
    refused(folder, f"is damaged: 1 of its weights in {name} are NaN or infinite")


FLAGS = [
    {"output_hidden_states": True},
    {"output_attentions": True},
    {"return_dict": False},
    {"chunk_size_feed_forward": 4},
]


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_what_a_config_says_of_outputs_is_not_trusted(family, flags, checkpoint, load, outputs, tmp_path):
    folder = copy(checkpoint(family), tmp_path / "flagged", **flags)
    flagged = language_model.load(str(folder), None, labels=2, seed=0)
    assert all(torch.equal(*pair) for pair in zip(outputs(flagged), outputs(load(family)), strict=True))
    assert {flagged.classifier.config.return_dict, flagged.lm.config.return_dict} == {True}
    assert outputs(language_model.blank(str(folder)))[0].shape == outputs(flagged)[0].shape


def test_a_folder_around_checkpoints_names_them(checkpoint, tmp_path):
    for name in ("checkpoint-500", "checkpoint-1000"):
        copy(checkpoint("roberta"), tmp_path / "trainer" / name)
    refused(
        tmp_path / "trainer", r"output folder of a Trainer: .* \(checkpoint-500, checkpoint-1000\), .*checkpoint-1000\."
    )
    copy(checkpoint("roberta"), tmp_path / "sentences" / "0_Transformer")
    (tmp_path / "sentences" / "modules.json").write_text("[]")
    refused(
        tmp_path / "sentences",
        "model of sentence-transformers, whose encoder is in 0_Transformer: model=.*0_Transformer",
    )
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"is not a checkpoint\.$")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_in_place_of_a_file(name, checkpoint, tmp_path):
    folder = copy(checkpoint("roberta"), tmp_path / "pointer")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n")
    refused(folder, f"{name} is a git-lfs pointer and not the file itself")


def test_a_fine_tuned_checkpoint_is_called_what_it_is(saved):
    refused(
        saved(AutoModelForSequenceClassification), r"no masked-LM head .* It is a fine-tuned classifier \(BertForSeq"
    )
    folder = saved(AutoModel)
    (folder / "modules.json").write_text("[]")
    refused(folder, "no masked-LM head .* It is a model of sentence-transformers")


def test_a_head_that_is_dropped_is_said(saved, checkpoint, load):
    """A causal model's own head is tied to its embeddings, so a classifier has it."""
    folder = saved(AutoModelForSequenceClassification, "gpt2")
    (remark,) = language_model.load(str(folder), None, labels=2, seed=0).remarks
    assert f"{str(folder)!r} is a fine-tuned classifier (GPT2ForSequenceClassification): its head is dropped" in remark
    assert load("gpt2").remarks == ()


def test_shards_are_one_model(checkpoint, load, outputs, tokenizer, tmp_path):
    model = load("roberta")
    with language_model.quiet():
        model.lm.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len([*tmp_path.glob("model-*.safetensors")]) > 1
    again = language_model.load(str(tmp_path), None, labels=2, seed=0)
    assert torch.equal(outputs(again)[0], outputs(model)[0])
    next(tmp_path.glob("model-*.safetensors")).unlink()
    refused(tmp_path, "cannot be loaded")


def test_special_tokens_without_a_row_do_not_matter_to_a_causal_model(load):
    """A GGUF file's tokenizer may have some of its class."""
    model = load("gpt2")
    rows = model.lm.get_input_embeddings().num_embeddings
    tokenizer = model.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|never used|>"]})
    checkpoint_faults.check_tokenizer("m", tokenizer, rows, masked=False)
    assert put(tokenizer, None, rows) is not None
    tokenizer.add_tokens(["aword"])
    with pytest.raises(UserError, match="1 of them cannot be read"):
        checkpoint_faults.check_tokenizer("m", tokenizer, rows, masked=False)
