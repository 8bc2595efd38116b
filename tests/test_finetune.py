"""Fine-tuning: the same bits, whatever ran before; accumulation; and a loss that diverges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bias_transfer import finetune
from bias_transfer.batching import encode, pad
from bias_transfer.spec import Trial, UserError

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8
NAMES = [str(number) for number in range(32)]


def trial(**changes) -> Trial:
    return Trial(**{"batch_size": 8, "learning_rate": 1e-2, "max_tokens": 16, **changes})


def trained(model, own: Trial, total: int = 12):
    rows = encode(model.tokenizer, TEXTS, own.max_tokens)
    curve = finetune.finetune(model, rows, LABELS, NAMES, own, total, "cpu", lambda *_: None)
    return curve, finetune.predict(model, rows, own, "cpu")


def test_it_learns(load):
    curve, logits = trained(load(), trial(), 40)
    assert curve[-1].loss < 0.3 < curve[0].loss
    assert (logits.argmax(axis=1) == LABELS).mean() > 0.9


def test_the_same_trial_gives_the_same_bits_whatever_ran_before(load):
    first = trained(load(), trial())
    torch.manual_seed(99)
    trained(load(), trial(precision="bf16", seed=3))
    again = trained(load(), trial())
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])


def test_another_seed_gives_other_bits(load):
    assert not np.array_equal(trained(load(), trial())[1], trained(load(seed=1), trial(seed=1))[1])


def test_precision_reaches_the_forward_pass(load):
    assert not np.array_equal(trained(load(), trial())[1], trained(load(), trial(precision="bf16"))[1])


def test_micro_batches_give_the_gradient_of_the_whole_batch(load):
    """Without dropout, which draws by the forward pass."""
    outcomes = []
    for size in (None, 3, 8):
        model = load()
        for module in model.classifier.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        outcomes.append(trained(model, trial(micro_batch_size=size, learning_rate=1e-3), 4)[1])
    np.testing.assert_allclose(outcomes[1], outcomes[0], atol=1e-4)
    np.testing.assert_allclose(outcomes[2], outcomes[0], atol=1e-6)


def test_only_the_classifier_learns(load):
    model = load()
    head = {
        name: weight.clone() for name, weight in model.masked_lm.lm_head.named_parameters() if "decoder" not in name
    }
    trained(model, trial())
    assert all(
        torch.equal(head[name], weight) for name, weight in model.masked_lm.lm_head.named_parameters() if name in head
    )


def test_the_curve_has_the_schedule(load):
    curve, _ = trained(load(), trial(warmup=0.1), 20)
    assert [step.step for step in curve] == [10, 20]
    assert curve[0].learning_rate > curve[1].learning_rate > 0


def test_a_loss_that_is_not_finite_stops_the_trial(load):
    model = load()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(finetune.TrainingDiverged, match="loss is nan at step 10"):
        trained(model, trial())


def test_predictions_keep_the_order_and_do_not_depend_on_the_batch(load):
    model, own = load(), trial()
    rows = encode(model.tokenizer, [text * (1 + number % 5) for number, text in enumerate(TEXTS)], 32)
    together = finetune.predict(model, rows, own, "cpu")
    with torch.no_grad():
        alone = [model.classifier(**pad([row], model.tokenizer.pad_token_id)).logits[0].numpy() for row in rows]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    assert together.dtype == np.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, where fp16 is allowed")
def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(UserError, match="Allowed without one: fp32, bf16"):
        finetune.check_precision(trial(precision="fp16"))


@pytest.mark.parametrize(
    ("epochs", "examples", "steps"), [(1, 32, 4), (1, 33, 5), (2, 33, 10), (0.5, 33, 3), (0.01, 8, 1)]
)
def test_steps_by_hand(epochs, examples, steps):
    assert finetune.steps(trial(epochs=epochs), examples) == steps
