"""Tiny random checkpoints of every family, saved as real folders. Nothing here reaches a network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs in its background
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or what is started from here would not hear Ctrl-C

LARGEST = 200_000
"""Parameters that a model of these tests may have."""

TESTS = Path(__file__).parent
MINUTES = [
    TESTS / name
    for name in (
        "sweep/test_main.py",
        "sweep/test_adaptations.py",
        "sweep/test_inputs_on_a_cluster.py",
        "test_contributing.py",
        "training/test_resume.py",
    )
]
"""The files that take longest, longest first."""

SENTENCES = (
    "the cat sat on the mat and looked at the good old dog",
    "a bad black dog ran after the young cat and the old man",
    "people are kind and some people are not so kind",
    "my neighbor is a good person and her friend is a terrible cook",
    "that friend of mine seems happy and every person i know is sad",
    "the person is good, the people are bad, and the day is nice",
)

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = {
    "roberta": SIZES,
    "roberta-prelayernorm": SIZES,
    "xlm-roberta": SIZES,
    "bert": SIZES,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {**SIZES, "embedding_size": 12},
    "modernbert": {**SIZES, "global_attn_every_n_layers": 1, "cls_token_id": 0, "sep_token_id": 2},
    "deberta-v2": {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
}
"""Family with a masked LM -> what makes its configuration tiny. Every family that the project names is in this table or the
next (test_language_model.py)."""

GROUPED = {**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2}
SMALL_CAUSAL = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neox": SIZES,
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "gemma": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "head_dim": 8},
    "olmo2": GROUPED,
    "opt": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 32,
        "word_embed_proj_dim": 16,
    },
}
"""The same of families with a causal LM."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those come first: pytest's processes take a file at a time, and at the end none is left alone with minutes of work."""
    items.sort(key=lambda item: MINUTES.index(item.path) if item.path in MINUTES else len(MINUTES))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """The user's cache is never read or written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """The file of a new MLflow store, to be copied: a store's first migration takes seconds."""
    from bias_transfer.tracking import store

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store.connect(f"sqlite:///{file}", create=True)
    return file


@pytest.fixture
def new_store(empty_store, tmp_path) -> str:
    """URI of a store in the test's folder, without runs."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    return SENTENCES


@pytest.fixture(scope="session")
def families() -> tuple[str, ...]:
    """The families that a tiny configuration is known of."""
    return (*SMALL, *SMALL_CAUSAL)


@pytest.fixture(scope="session")
def tokenizer():
    from bias_transfer.training import lm_training

    return lm_training.train_tokenizer(SENTENCES * 3, 340)


@pytest.fixture(scope="session")
def tiny_config(tokenizer):
    """family -> its configuration at two layers of width 16."""

    def build(family: str) -> Any:
        from transformers import AutoConfig

        if family in SMALL_CAUSAL:
            return AutoConfig.for_model(
                family, vocab_size=len(tokenizer), max_position_embeddings=130, initializer_range=0.25, pad_token_id=1,
                bos_token_id=0, eos_token_id=2, **SMALL_CAUSAL[family],
            )  # fmt: skip
        return AutoConfig.for_model(
            family, vocab_size=len(tokenizer), max_position_embeddings=130, type_vocab_size=1, initializer_range=0.25,
            pad_token_id=1, bos_token_id=0, eos_token_id=2, **SMALL[family],
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def checkpoint(tokenizer, tiny_config, tmp_path_factory):
    """family -> the folder of a checkpoint with random weights: read it, never write into it."""
    made: dict[str, str] = {}

    def build(family: str) -> str:
        if family not in made:
            import torch

            from bias_transfer import determinism
            from bias_transfer.models import language_model

            with determinism.seeded(1), language_model.quiet():
                auto = language_model.AUTO["masked" if family in SMALL else "causal"]
                model = auto.from_config(tiny_config(family), dtype=torch.float32)
                assert sum(weight.numel() for weight in model.parameters()) < LARGEST
                _vary(model)
                folder = tmp_path_factory.mktemp(family)
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
            made[family] = str(folder)
        return made[family]

    return build


def _vary(model: Any) -> None:
    """Norms and biases as after training: fresh ones are constant, and scaled by their SD no change of them would show."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.1)


@pytest.fixture(scope="session")
def load(checkpoint):
    """(family, seed) -> a freshly loaded LanguageModel with two labels, free to be changed."""

    def build(family: str = "roberta", seed: int = 0) -> Any:
        from bias_transfer.models import language_model

        model = language_model.load(checkpoint(family), None, labels=2, seed=seed)
        assert sum(weight.numel() for weight in model.classifier.parameters()) < LARGEST
        return model

    return build


@pytest.fixture(scope="session")
def outputs():
    """LanguageModel -> (language-model logits, classifier logits) of one short padded batch."""

    def compute(model: Any) -> tuple[Any, Any]:
        import torch

        from bias_transfer.models.batching import encode, pad

        batch = pad(encode(model.tokenizer, SENTENCES[:3], 24), model.tokenizer.pad_token_id)
        with torch.no_grad():
            return model.lm.eval()(**batch).logits, model.classifier.eval()(**batch).logits

    return compute


@pytest.fixture
def few_phrases(monkeypatch):
    """Every fortieth phrase, so that a trial takes a second."""
    from bias_transfer.tasks.registry import TASKS
    from bias_transfer.tasks.wiki.probe_sets import neutral, phrases

    full = {"phrases": phrases(), "neutral": neutral()}
    few = {name: examples.select(range(0, len(examples), 40)) for name, examples in full.items()}
    monkeypatch.setitem(TASKS, "wiki", dataclasses.replace(TASKS["wiki"], probes=lambda splits, options: few))
