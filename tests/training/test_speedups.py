"""Faster fine-tuning on a CPU computes the same: dropout drops as it should, attention is unchanged, the model is restored."""

from __future__ import annotations

import math

import pytest
import torch

from bias_transfer.models.batching import encode, pad
from bias_transfer.models.language_model import CAUSAL_FAMILIES, FAMILIES
from bias_transfer.spec import Options, Trial
from bias_transfer.training import finetune, speedups
from bias_transfer.training.sampling import Untreated

BF16, FP32 = Trial(precision="bf16"), Trial()


def drawn(rate: float, shape=(1001, 333), dtype=torch.float32) -> torch.Tensor:
    torch.manual_seed(5)
    return speedups.fast_dropout(torch.ones(shape, dtype=dtype), rate)


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
    out = speedups.fast_dropout(value, 0.4)
    out.sum().backward()
    assert torch.equal(value.grad, out.detach() / 3)
    assert 0 < (value.grad == 0).sum() < value.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_seed_drops_the_same(dtype):
    assert torch.equal(drawn(0.1, (3, 5), dtype), drawn(0.1, (3, 5), dtype))
    assert torch.equal(drawn(0.1, (3, 5), dtype) == 0, drawn(0.1, (3, 5)) == 0)


@pytest.mark.parametrize("rate", [1.0, 1 - 1e-9])
def test_a_rate_of_one_drops_everything_as_torchs_does(rate):
    """The factor of what survives would be 1 / 0."""
    value = torch.full((7, 5), 3.0, requires_grad=True)
    out = speedups.fast_dropout(value, rate)
    out.sum().backward()
    assert torch.equal(out, torch.nn.functional.dropout(value, 1.0))
    assert not value.grad.any()


def test_outside_training_nothing_is_dropped():
    value = torch.ones(9)
    assert speedups.fast_dropout(value, 0.5, training=False) is value
    assert speedups.fast_dropout(value, 0.0) is value


@pytest.mark.parametrize("family", [*FAMILIES, *CAUSAL_FAMILIES])
def test_attention_in_bf16_is_the_same_attention_and_the_model_is_then_as_it_was(load, family):
    model = load(family)
    rows = encode(model.tokenizer, ["the cat sat on the mat", "a bad dog", "people are kind"], 16)
    batch, before = pad(rows, model.tokenizer.pad_token_id), attention(model)
    with torch.no_grad():
        stock = model.classifier(**batch).logits
        with speedups.tuned(model.classifier, BF16, "cpu"):
            assert attention(model) == {"eager" if family == "deberta-v2" else speedups.PLAIN}
            tuned = model.classifier(**batch).logits
    torch.testing.assert_close(tuned, stock, atol=1e-5, rtol=0)
    assert attention(model) == before


def attention(model) -> set[str]:
    return {part.config._attn_implementation for part in model.classifier.modules() if hasattr(part, "config")}


def test_attention_in_fp32_and_on_a_gpu_is_stock(load):
    model = load()
    before = attention(model)
    assert not before & {"eager", speedups.PLAIN}
    for trial, device in ((FP32, "cpu"), (BF16, "cuda")):
        with speedups.tuned(model.classifier, trial, device):
            assert attention(model) == before


def test_dropout_is_faster_in_the_model_that_trains_and_nowhere_else(load):
    """Another model in the same process, and torch's function itself, are left alone."""
    value, model, stock = torch.ones(64), load(), torch.nn.functional.dropout

    def dropped(part: torch.nn.Module) -> torch.Tensor:
        torch.manual_seed(3)
        return part(value)

    torch.manual_seed(3)
    fast = speedups.fast_dropout(value, 0.5)
    other = torch.nn.Dropout(0.5)
    parts = [part for part in model.classifier.modules() if isinstance(part, torch.nn.Dropout)]
    for part in parts:
        part.train().p = 0.5
    assert parts
    expected = dropped(other)
    with speedups.tuned(model.classifier, FP32, "cpu"):
        assert torch.nn.functional.dropout is stock
        assert all(torch.equal(dropped(part), fast) for part in parts)
        assert torch.equal(dropped(other), expected)
    assert not torch.equal(fast, expected)
    assert all(torch.equal(dropped(part), expected) for part in parts)


def test_dropout_within_attention_in_bf16_is_the_faster_one(load, monkeypatch):
    model, rates = load("bert"), list[float]()
    monkeypatch.setattr(speedups, "fast_dropout", lambda value, rate, training: (rates.append(rate), value)[1])
    for part in model.classifier.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.25
    with speedups.tuned(model.classifier.train(), BF16, "cpu"):
        model.classifier(input_ids=torch.full((2, 4), 5))
    assert rates.count(0.25) == 1 + 3 * model.encoder.config.num_hidden_layers + 1


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
