"""Hub ids without a network: resolved from the local cache, in the hub's own layout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import transformers

from bias_transfer.errors import UserError
from bias_transfer.models import hub

COMMIT, OLDER = "0123456789abcdef0123456789abcdef01234567", "f" * 40

CODE = """
from bias_transfer.models import hub, language_model
commit = hub.identify("someone/small")
model = language_model.load(*hub.located("someone/small", commit), labels=2, seed=0)
print(commit, model.family)
try:
    hub.identify("someone/smal")
except Exception as error:
    print(type(error).__name__, error)
"""


def write_repository(cache: Path, name: str, *commits: str) -> Path:
    """A cached repository whose branch `main` is at the first commit; returns that commit's folder."""
    folder = cache / name
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commits[0])
    for commit in commits:
        (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commits[0]


def test_a_cached_model_is_pinned_to_its_commit_and_loads_offline(checkpoint, tmp_path):
    snapshot = write_repository(tmp_path, "models--someone--small", COMMIT)
    shutil.copytree(checkpoint("distilbert"), snapshot, dirs_exist_ok=True)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    loaded, refused = done.stdout.splitlines()
    assert loaded == f"{COMMIT} distilbert"
    assert refused.startswith("NotReachedError unknown model 'someone/smal'. Did you mean 'someone/small'?")
    assert "the hub could not be reached" in refused


def test_a_cached_model_whose_weights_are_a_pickle_is_refused_with_the_command_that_converts_it(checkpoint, tmp_path):
    snapshot = write_repository(tmp_path, "models--someone--small", COMMIT)
    shutil.copytree(checkpoint("bert"), snapshot, dirs_exist_ok=True)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    code = f"from bias_transfer.models import language_model\nlanguage_model.load_lm('someone/small', {COMMIT!r})"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "has no weights as safetensors. If you trust the file, convert it: " in done.stderr
    assert "bias-transfer convert --from someone/small --out FOLDER" in done.stderr


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The local hub cache's folder, which does not exist yet; the hub cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub.revision.cache_clear()
    yield tmp_path / "hub"
    hub.revision.cache_clear()


def test_a_branch_and_a_commit_name_what_is_cached_and_kinds_are_apart(cache):
    write_repository(cache, "models--someone--small", COMMIT, OLDER)
    assert hub.revision("someone/small", "model") == hub.revision("someone/small@main", "model") == COMMIT
    assert hub.revision(f"someone/small@{OLDER}", "model") == OLDER
    for name, kind in (("someone/small@v2", "model"), ("someone/small", "dataset"), ("small", "model")):
        with pytest.raises(hub.NotReachedError):
            hub.revision(name, kind)


def test_without_a_cache_and_with_damaged_entries_the_built_in_names_are_still_suggested(cache):
    with pytest.raises(hub.NotReachedError, match="Allowed: smollm2, tiny"):
        hub.revision("someone/small", "model")
    write_repository(cache, "models--someone--small", COMMIT)
    (cache / "models--someone--empty").mkdir()
    (cache / "a file").write_text("")
    hub.revision.cache_clear()
    assert hub.revision("someone/small", "model") == COMMIT
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        hub.revision("tinny", "model")


def test_every_file_of_a_tokenizer_is_in_the_digest_of_a_checkpoint(tmp_path):
    """Without BERTweet's bpe.codes, two tokenizers would be one model, and a worker would be sent half of one."""
    folder = Path(next(iter(transformers.__path__))) / "models"
    sources = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*/tokenization_*.py"))
    tables = re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", sources, re.DOTALL)
    names = {name for table in tables for name in re.findall(r': "([^"]+)"', table)}
    assert {"bpe.codes", "source.spm", "vocab.txt", "prophetnet.tokenizer"} <= names
    for name in names:
        (tmp_path / name).write_text("a b")
    assert {path.name for path in hub.checkpoint_files(tmp_path)} == names
    digest = hub.folder_digest(tmp_path)
    (tmp_path / "bpe.codes").write_text("a c")
    assert hub.folder_digest(tmp_path) != digest
