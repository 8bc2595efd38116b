"""A checkpoint from elsewhere is data: nothing of it is run, unpickled or fetched from a third place."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest

from bias_transfer.errors import UserError
from bias_transfer.models import language_model, safety

OPENED = list[str]()
WATCHING = list[bool]()


def _watch(event: str, arguments: tuple) -> None:
    if WATCHING[0] and event == "open":
        OPENED.append(str(arguments[0]))
    if WATCHING[0] and event == "pickle.find_class":
        OPENED.append("a pickle's class")


@pytest.fixture
def opened():
    """Every file that this process opens, and every class that a pickle asks for, from now on."""
    if not WATCHING:
        sys.addaudithook(_watch)  # a hook cannot be taken off again
    OPENED[:], WATCHING[:] = [], [True]
    yield OPENED
    WATCHING[:] = [False]


class Payload:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint("roberta"), tmp_path / "foreign"))


def edit(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **changes}))


def refused(folder: Path, why: str) -> None:
    with pytest.raises(UserError, match=why):
        language_model.load(str(folder), None, 2, 0)
    with pytest.raises(UserError, match=why):
        language_model.load_lm(str(folder), None, need_head=False)


def test_the_payload_would_run(tmp_path: Path, opened):
    """The control of the tests below."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert (tmp_path / "ran").exists()
    assert str(tmp_path / "a.pkl") in opened
    assert "a pickle's class" in opened


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.ckpt"])
def test_weights_in_a_pickle_are_refused_unopened(folder: Path, tmp_path: Path, opened, name: str):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    opened.clear()
    refused(folder, rf"has its weights as a pickle \({name}\).* Allowed: safetensors")
    assert not (tmp_path / "ran").exists()
    assert str(folder / name) not in opened


def test_pickles_next_to_safetensors_are_never_opened(folder: Path, tmp_path: Path, opened):
    strays = ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "tokenizer.pkl", "vocab.pkl"]
    strays += ["adapter_model.bin", "added_tokens.pkl", "vocab.bin"]
    for name in strays:
        (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    opened.clear()
    assert language_model.load(str(folder), None, 2, 0).family == "roberta"
    assert not (tmp_path / "ran").exists()
    assert str(folder / "config.json") in opened
    assert not {str(folder / name) for name in strays} & {*opened}
    assert "a pickle's class" not in opened


AUTO_MAP = {"AutoConfig": "modeling.C", "AutoModelForMaskedLM": "modeling.M", "AutoTokenizer": ["modeling.T", None]}


@pytest.mark.parametrize("model_type", ["roberta", "mine"])
@pytest.mark.parametrize("file", [safety.CONFIG, safety.TOKENIZER])
def test_remote_code_is_refused_and_not_run(folder: Path, tmp_path: Path, file: str, model_type: str):
    """Also where transformers has an architecture of that name and would leave the code out silently."""
    (folder / "modeling.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\nclass T: pass"
    )
    edit(folder / "config.json", model_type=model_type)
    edit(folder / file, auto_map=AUTO_MAP)
    refused(folder, rf"asks for remote code \({file}: auto_map\).* never run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", safety.KERNELS)
def test_compiled_code_from_the_hub_is_refused(folder: Path, key: str):
    edit(folder / "config.json", **{key: "someone/flash-attention"})
    refused(folder, f"asks for remote code .config.json: {key}.")


def test_an_adapter_does_not_bring_another_checkpoint_with_it(folder: Path, checkpoint):
    (folder / "config.json").unlink()
    edit(folder / safety.ADAPTER, base_model_name_or_path=checkpoint("bert"), peft_type="LORA", r=4)
    refused(folder, "is an adapter of another checkpoint")


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_json_that_is_none_is_one_clear_message(folder: Path, content: str):
    (folder / "config.json").write_text(content, errors="surrogateescape")
    refused(folder, "cannot be loaded")


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {"type": "BPE", "vocab": "x"}}'])
def test_a_damaged_tokenizer_is_one_clear_message(folder: Path, content: str):
    (folder / "tokenizer.json").write_text(content)
    refused(folder, "cannot be loaded")
