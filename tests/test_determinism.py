"""Threads, and kernels that give the same bits every time."""

from __future__ import annotations

import hashlib

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from transformers import AutoConfig, AutoModelForMaskedLM

from bias_transfer import determinism
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.spec import Options, Trial
from bias_transfer.training import finetune


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_threads_are_those_of_torch_and_of_numpy():
    """NumPy's OpenBLAS splits a product of 20,000 values among two threads, and sums it in another order."""
    with threadpool_limits(2, user_api="blas"):
        before = torch.get_num_threads(), blas_threads()
        with determinism.using_threads(1):
            assert (torch.get_num_threads(), blas_threads()) == (1, {1})
        assert (torch.get_num_threads(), blas_threads()) == before


def flags() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def test_on_a_gpu_what_is_not_deterministic_is_an_error_and_then_all_is_as_it_was():
    """With warn_only, torch leaves the backward pass of attention as it is, and prints a warning."""
    before = flags()
    with determinism.deterministic("cuda"):
        assert flags() == (True, False)
        with determinism.deterministic("cpu"):
            assert flags() == (False, False)
        assert flags() == (True, False)
    assert flags() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU: its kernels' bits are not compared")
@pytest.mark.parametrize("tokens", [128, 512])
def test_on_a_gpu_the_same_trial_has_the_same_bits_twice(tokens, tokenizer, sentences, tmp_path):
    """Training and prediction in bf16, with padded and with full rows, in the attention kernels that torch chooses."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024}
    config = AutoConfig.for_model(
        "roberta", vocab_size=len(tokenizer), max_position_embeddings=514, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        **sizes,
    )  # fmt: skip
    with determinism.seeded(0), language_model.quiet():
        AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
    trial = Trial(precision="bf16", batch_size=16, learning_rate=1e-3, max_tokens=tokens)
    texts = [" ".join(sentences[number % 6 :] * (1 + number % 24)) for number in range(64)]

    def run() -> tuple[str, bytes]:
        model = language_model.load(str(tmp_path), None, labels=2, seed=0).to("cuda")
        rows = encode(model.tokenizer, texts, tokens)
        assert max(map(len, rows)) == tokens
        data = finetune.TrainingData(rows, [number % 2 for number in range(64)], [*map(str, range(64))], 40)
        with determinism.deterministic("cuda"):
            finetune.finetune(model, data, finetune.Settings(trial, Options()), finetune.Runtime("cuda"))
            logits = finetune.predict(model, rows, trial, "cuda")
        weights = b"".join(value.cpu().numpy().tobytes() for value in model.classifier.state_dict().values())
        return hashlib.sha256(weights).hexdigest(), logits.tobytes()

    assert run() == run()
