"""A checkpoint whose weights are a pickle becomes the same checkpoint with safetensors, and no code in it runs."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification
from typer.testing import CliRunner

from bias_transfer.commands import convert
from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.models import hub, language_model, pickles

OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
AUTO = {"bert": AutoModelForMaskedLM, "gpt2": AutoModelForCausalLM, "gpt_neox": AutoModelForCausalLM}
IDS = torch.tensor([[0, 7, 9, 12, 2], [0, 30, 31, 8, 2]])


def state_of(folder: str, family: str) -> OrderedDict:
    """The state dict as a BertForPreTraining of 2018, or a GPT of 2021, was saved: old names, buffers, tied weights as one."""
    with language_model.quiet():
        state = OrderedDict(AUTO[family].from_pretrained(folder).state_dict())
    if family == "bert":
        state = OrderedDict(
            (re.sub(r"LayerNorm\.(weight|bias)", lambda found: OLD[found[0]], name), value)
            for name, value in state.items()
        )
        assert {"bert.encoder.layer.0.output.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"} <= set(state)
        width = state["bert.embeddings.word_embeddings.weight"].shape[1]
        state["bert.pooler.dense.weight"], state["bert.pooler.dense.bias"] = torch.eye(width), torch.ones(width)
        state["cls.seq_relationship.weight"], state["bert.embeddings.position_ids"] = (
            torch.ones(2, width),
            torch.arange(130)[None],
        )
    return state


@pytest.fixture
def pickled(checkpoint, tmp_path):
    """(family, number of shards) -> a folder whose weights are pickles, and their state dict."""

    def build(family: str = "bert", shards: int = 1) -> tuple[Path, OrderedDict]:
        folder = Path(shutil.copytree(checkpoint(family), tmp_path / "old"))
        state = state_of(str(folder), family)
        (folder / "model.safetensors").unlink()
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        if shards == 1:
            torch.save(state, folder / "pytorch_model.bin")
        else:
            places = {}
            for part in range(shards):
                names, file = list(state)[part::shards], f"pytorch_model-{part + 1:05}-of-{shards:05}.bin"
                torch.save(OrderedDict((name, state[name]) for name in names), folder / file)
                places |= dict.fromkeys(names, file)
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        return folder, state

    return build


def command(*words: object):
    return CliRunner().invoke(application(convert.main), [*map(str, words)])


@pytest.mark.parametrize(("family", "shards"), [("bert", 1), ("bert", 3), ("gpt2", 1), ("gpt_neox", 2)])
def test_the_logits_are_those_of_transformers_on_the_pickle(pickled, tmp_path, family, shards):
    folder, _ = pickled(family, shards)
    done = command("--from", folder, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert f"Checkpoint: {tmp_path}/new\nNext: bias-transfer trial model={tmp_path}/new data=FOLDER" in done.output
    model = language_model.load(str(tmp_path / "new"), None, 2, 0)
    with language_model.quiet(), torch.no_grad():
        read = AUTO[family].from_pretrained(folder, use_safetensors=False, dtype=torch.float32).eval()
        assert torch.equal(model.lm(IDS).logits, read(IDS).logits)
    assert model.lm.get_output_embeddings().weight.abs().sum() > 0
    weights = (
        {"model.safetensors"}
        if shards == 1
        else {f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)}
    )
    index = {"model.safetensors.index.json"} if shards > 1 else set()
    rest = {path.name for path in folder.iterdir() if not path.name.startswith("pytorch_model")}
    assert {path.name for path in (tmp_path / "new").iterdir()} == weights | index | rest


def test_what_a_language_model_does_not_read_is_kept_and_types_stay(pickled, tmp_path):
    folder, state = pickled()
    torch.save(
        OrderedDict((name, value.half() if value.is_floating_point() else value) for name, value in state.items()),
        folder / pickles.WEIGHTS,
    )
    (tmp_path / "new").mkdir()
    pickles.convert(folder, tmp_path / "new")
    with language_model.quiet():
        classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "new")
    assert torch.equal(classifier.bert.pooler.dense.bias, torch.ones(16))
    assert {value.dtype for value in load_file(tmp_path / "new" / "model.safetensors").values()} == {
        torch.half,
        torch.long,
    }
    first = hub.folder_digest(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "new").mkdir()
    pickles.convert(folder, tmp_path / "new")
    assert hub.folder_digest(tmp_path / "new") == first  # so that a trial has one id wherever it was converted


def test_a_checkpoint_without_a_head_is_converted_and_told_how_it_gets_one(pickled, tmp_path):
    folder, state = pickled()
    torch.save(
        OrderedDict((name, value) for name, value in state.items() if name.startswith("bert.")),
        folder / pickles.WEIGHTS,
    )
    done = command("--from", folder, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert f"bias-transfer pretrain --from {tmp_path}/new --text FILE" in done.output


class Payload:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_that_needs_more_than_tensors_is_refused_and_does_not_run(pickled, tmp_path):
    folder, state = pickled()
    mark = tmp_path / "ran"
    for content, why in (
        ({**state, "x": Payload(mark)}, r"needs more than tensors to be opened \(getattr\)"),
        ({**state, "step": 3}, r"holds more than tensors \('step' is a int\)"),
        ({"model": dict(state)}, r"holds more than tensors \('model' is a dict\)"),
        ([*state.values()], "holds a list and not tensors by name"),
    ):
        torch.save(content, folder / pickles.WEIGHTS)
        refused = command("--from", folder, "--out", tmp_path / "new")
        assert refused.exit_code == 2, refused.output
        assert re.search(why, refused.stderr), refused.stderr
        assert "Traceback" not in refused.output
    (folder / pickles.WEIGHTS).write_bytes(pickle.dumps(Payload(mark)))
    assert command("--from", folder, "--out", tmp_path / "new").exit_code == 2
    assert not mark.exists()
    assert not (tmp_path / "new").exists()
    pickle.loads((folder / pickles.WEIGHTS).read_bytes())
    assert mark.exists()  # the control: opened as any pickle is, it runs


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda folder: (folder / pickles.WEIGHTS).unlink(), "has neither pytorch_model.bin nor"),
        (lambda folder: (folder / pickles.WEIGHTS).write_bytes(b"PK"), "cannot be opened as a file of tensors alone"),
        (lambda folder: (folder / "model.safetensors").touch(), "has its weights as safetensors already"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'), "asks for remote code"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "it has no tokenizer, or a damaged one"),
        (lambda folder: torch.save({"bert.x": torch.ones(1)}, folder / pickles.WEIGHTS), "weights of its encoder are missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_reported_and_nothing_is_written(pickled, tmp_path, edit, why):
    folder, _ = pickled()
    edit(folder)
    refused = command("--from", folder, "--out", tmp_path / "new")
    assert refused.exit_code == 2, refused.output
    assert why in refused.stderr
    assert str(tmp_path / ".new") not in refused.stderr  # no name of a temporary folder
    assert {path.name for path in tmp_path.iterdir()} == {"old"}


def test_an_index_that_leaves_its_folder_is_refused(pickled, tmp_path):
    folder, _ = pickled(shards=2)
    (folder / pickles.INDEX).write_text(json.dumps({"weight_map": {"bert.x": "../secret.bin"}}))
    with pytest.raises(UserError, match=r"names '../secret.bin', which is not a file of this folder"):
        pickles.convert(folder, tmp_path)


def test_the_refusal_of_a_pickle_names_the_command(pickled):
    folder, _ = pickled()
    with pytest.raises(UserError, match=f"bias-transfer convert --from {folder} --out FOLDER"):
        language_model.load_lm(str(folder), None)


def test_a_hub_id_is_read_from_the_cache_or_said_to_be_out_of_reach(pickled, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "revision", lambda name, kind: "0" * 40)
    with pytest.raises(UserError, match=r"--from someone/old: its files cannot be downloaded .*--from FOLDER"):
        pickles.source("someone/old")
    commit = tmp_path / "hub" / "models--someone--old" / "snapshots" / ("0" * 40)
    shutil.copytree(pickled()[0], commit)
    assert pickles.source("someone/old@main") == commit
    monkeypatch.undo()
    for name, why in (("./nowhere", "does not exist"), (str(commit / "README.md"), "is a file")):
        refused = command("--from", name, "--out", tmp_path / "new")
        assert refused.exit_code == 2
        assert why in refused.stderr
