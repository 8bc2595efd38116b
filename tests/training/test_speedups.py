"""Faster fine-tuning on a CPU computes the same: dropout drops as it should, attention is unchanged, the model is restored."""

from __future__ import annotations

import math

import pytest
import torch

from bias_transfer.models.batching import encode, pad
from bias_transfer.models.language_model import FAMILIES
from bias_transfer.spec import Options, Trial
from bias_transfer.training import finetune, speedups
from bias_transfer.training.sampling import Untreated

BF16, FP32 = Trial(precision="bf16"), Trial()


def drawn(rate: float, shape=(1001, 333), dtype=torch.float32) -> torch.Tensor:
    torch.manual_seed(5)
    return speedups.dropout(torch.ones(shape, dtype=dtype), rate)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_asked_for_and_keeps_the_mean(rate):
    values = drawn(rate)
    error = math.sqrt(rate * (1 - rate) / values.numel())
    assert abs((values == 0).double().mean().item() - rate) < 4 * error + 1 / speedups.LEVELS
    assert abs(values.double().mean().item() - 1) < 4 * error / (1 - rate)
    assert len(values.unique()) == 2


def test_neighbours_are_dropped_independently():
    """The four draws of one 64-bit word, and rows, are not related."""
    gone = (drawn(0.5) == 0).flatten().double()
    for apart in (1, 2, 3, 4, 333):
        together = torch.corrcoef(torch.stack([gone[apart:], gone[:-apart]]))[0, 1].item()
        assert abs(together) < 4 / math.sqrt(len(gone))


def test_the_gradient_is_dropped_where_the_value_is():
    value = torch.full((7, 5), 3.0, requires_grad=True)
    out = speedups.dropout(value, 0.4)
    out.sum().backward()
    assert torch.equal(value.grad, out.detach() / 3)
    assert 0 < (value.grad == 0).sum() < value.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_seed_drops_the_same(dtype):
    assert torch.equal(drawn(0.1, (3, 5), dtype), drawn(0.1, (3, 5), dtype))
    assert torch.equal(drawn(0.1, (3, 5), dtype) == 0, drawn(0.1, (3, 5)) == 0)


def test_outside_training_nothing_is_dropped():
    value = torch.ones(9)
    assert speedups.dropout(value, 0.5, training=False) is value
    assert speedups.dropout(value, 0.0) is value


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_in_bf16_is_the_same_attention_and_the_model_is_then_as_it_was(load, family):
    model = load(family)
    rows = encode(model.tokenizer, ["the cat sat on the mat", "a bad dog", "people are kind"], 16)
    batch, before = pad(rows, model.tokenizer.pad_token_id), attention(model)
    with torch.no_grad():
        stock = model.classifier(**batch).logits
        with speedups.tuned(model.classifier, BF16, "cpu"):
            assert attention(model) == {"eager"}
            tuned = model.classifier(**batch).logits
    torch.testing.assert_close(tuned, stock, atol=1e-5, rtol=0)
    assert attention(model) == before


def attention(model) -> set[str]:
    return {part.config._attn_implementation for part in model.classifier.modules() if hasattr(part, "config")}


def test_attention_in_fp32_and_on_a_gpu_is_stock(load):
    model = load()
    before = attention(model)
    assert before != {"eager"}
    for trial, device in ((FP32, "cpu"), (BF16, "cuda")):
        with speedups.tuned(model.classifier, trial, device):
            assert attention(model) == before


def test_torchs_dropout_is_replaced_within_and_nowhere_else(load):
    value = torch.ones(64)

    def dropped() -> torch.Tensor:
        torch.manual_seed(3)
        return torch.nn.Dropout(0.5)(value)

    with speedups.tuned(load().classifier, FP32, "cpu"):
        within = dropped()
    torch.manual_seed(3)
    assert torch.equal(within, speedups.dropout(value, 0.5))
    assert not torch.equal(within, dropped())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions_have_the_precision_of_the_trial_after_training_too(load, precision):
    model, trial = load(), Trial(precision=precision, learning_rate=1e-3, max_tokens=16)
    rows = encode(model.tokenizer, ["the cat sat", "a bad dog"] * 4, 16)
    linear = next(part for part in model.classifier.modules() if isinstance(part, torch.nn.Linear))
    seen: set[torch.dtype] = set()
    names = [*"abcdefgh"]
    data = finetune.TrainingData(rows, [0, 1] * 4, names, 1, Untreated(names, [*map(len, rows)]))
    finetune.finetune(model, data, finetune.Settings(trial, Options()), finetune.Runtime())
    linear.register_forward_hook(lambda part, given, out: seen.add(out.dtype))
    finetune.predict(model, rows, trial, "cpu")
    assert seen == {torch.float32 if precision == "fp32" else torch.bfloat16}
