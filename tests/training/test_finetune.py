"""Fine-tuning: equal bits whatever ran before, equality with a plain loop, micro-batches, and a loss that diverges."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.batching import encode, pad
from bias_transfer.spec import Options, Trial
from bias_transfer.training import finetune
from bias_transfer.training.sampling import Untreated, paired_batches

TEXTS = ["a good cat", "a bad dog", "my kind neighbor and her friend", "a terrible person is sad"] * 8
LABELS = [0, 1, 0, 1] * 8
NAMES = [str(number) for number in range(32)]


def make_trial(**changes) -> Trial:
    return Trial(**{"batch_size": 8, "learning_rate": 1e-2, "max_tokens": 16, **changes})


def data(rows, steps: int, weights=None) -> finetune.TrainingData:
    return finetune.TrainingData(rows, LABELS, NAMES, steps, Untreated(NAMES, [*map(len, rows)]), weights)


def trained(model, trial: Trial, total: int = 12, weights=None):
    rows = encode(model.tokenizer, TEXTS, trial.max_tokens)
    training = data(rows, total, weights)
    curve = finetune.finetune(model, training, finetune.Settings(trial, Options()), finetune.Runtime())
    return curve, finetune.predict(model, rows, trial, "cpu")


def test_it_learns(load):
    curve, logits = trained(load(), make_trial(), 40)
    assert curve[-1].loss < 0.3 < curve[0].loss
    assert (logits.argmax(axis=1) == LABELS).mean() > 0.9


def test_the_same_trial_gives_the_same_bits_whatever_ran_before(load):
    first = trained(load(), make_trial())
    torch.manual_seed(99)
    trained(load(), make_trial(precision="bf16", seed=3))
    again = trained(load(), make_trial())
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])


def by_hand(model, trial: Trial, total: int, untreated: Untreated | None = None, weights=None) -> np.ndarray:
    """The classifier's logits after `total` steps of a plain loop, without Accelerate. untreated, weights: None without an
    arm."""
    rows, classifier = encode(model.tokenizer, TEXTS, trial.max_tokens), model.classifier.train()
    decayed = [weight for weight in classifier.parameters() if weight.ndim > 1]
    free = [weight for weight in classifier.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": trial.weight_decay}, {"params": free, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    untreated = untreated or Untreated(NAMES, [*map(len, rows)])
    order = paired_batches(untreated, NAMES, trial.batch_size, derive_seed(trial.seed, "order"))
    for step, batch in enumerate(islice(order, total)):
        rise = round(trial.warmup * total)
        share = (step + 1) / rise if step < rise else (total - step) / (total - rise)
        for group in adam.param_groups:
            group["lr"] = trial.learning_rate * share
        inputs = pad([rows[index] for index in batch], model.tokenizer.pad_token_id)
        target = torch.tensor([LABELS[index] for index in batch])
        adam.zero_grad()
        losses = torch.nn.functional.cross_entropy(classifier(**inputs).logits, target, reduction="none")
        (losses * torch.tensor([(weights or [1.0] * 32)[index] for index in batch])).mean().backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), trial.clip)
        adam.step()
    return finetune.predict(model, rows, trial, "cpu")


def without_dropout(model):
    for module in model.classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


PLAIN = {"warmup": 0.25, "learning_rate": 3e-3}
CHANGES = ({"weight_decay": 5.0}, {"clip": 0.01}, {"warmup": 0.5}, {"seed": 1})


@pytest.mark.parametrize("changes", [{}, *CHANGES], ids=str)
def test_it_is_a_plain_loop(load, changes):
    trial = make_trial(**{**PLAIN, **changes})
    curve, logits = trained(without_dropout(load()), trial, 12)
    np.testing.assert_allclose(logits, by_hand(without_dropout(load()), trial, 12), atol=2e-4)
    assert curve[-1].step == 12


WEIGHTS = [0.1, 0.4, 2.5, 1.0] * 8
"""Mean 1."""


@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 3}], ids=str)
def test_weights_multiply_losses_and_a_batchs_sum_is_divided_by_its_size(load, changes):
    """Divided by the sum of the weights, a batch of light examples would move the model as far as one of heavy ones."""
    trial = make_trial(**PLAIN, clip=1e6, **changes)
    _, logits = trained(without_dropout(load()), trial, 12, WEIGHTS)
    np.testing.assert_allclose(logits, by_hand(without_dropout(load()), trial, 12, weights=WEIGHTS), atol=2e-4)
    assert abs(logits - by_hand(without_dropout(load()), trial, 12)).max() > 2e-2


def test_weights_of_1_train_the_same_model(load):
    """Not bit for bit: the losses are summed in another order."""
    trial = make_trial(**PLAIN)
    plain, weighed = (trained(load(), trial, 12, weights) for weights in (None, [1.0] * 32))
    np.testing.assert_allclose(weighed[1], plain[1], atol=1e-4)


def test_batches_that_an_arm_left_uneven_count_by_their_mean(load):
    """The arm removed six examples and added four."""
    untreated = Untreated(
        [*NAMES[4:], *(f"removed {number}" for number in range(6))], [number % 5 for number in range(34)]
    )
    model, trial = without_dropout(load()), make_trial(**PLAIN)
    rows = encode(model.tokenizer, TEXTS, trial.max_tokens)
    treated = finetune.TrainingData(rows, LABELS, NAMES, 12, untreated)
    finetune.finetune(model, treated, finetune.Settings(trial, Options()), finetune.Runtime())
    expected = by_hand(without_dropout(load()), trial, 12, untreated)
    np.testing.assert_allclose(finetune.predict(model, rows, trial, "cpu"), expected, atol=2e-4)
    assert abs(expected - by_hand(without_dropout(load()), trial, 12)).max() > 2e-3


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_each_setting_of_the_loop_is_seen(load, changes):
    """The control of the test above."""
    plain, changed = (
        trained(without_dropout(load()), make_trial(**fields), 12)[1] for fields in (PLAIN, {**PLAIN, **changes})
    )
    assert abs(plain - changed).max() > 2e-3


def test_dropout_is_on_in_training_and_off_in_prediction(load):
    plain, dropped = trained(without_dropout(load()), make_trial()), trained(load(), make_trial())
    assert plain[0][0].loss != dropped[0][0].loss
    model, trial = load(), make_trial()
    rows = encode(model.tokenizer, TEXTS, 16)
    expected = finetune.predict(model, rows, trial, "cpu")
    model.classifier.train()
    assert np.array_equal(finetune.predict(model, rows, trial, "cpu"), expected)


def fit(model, rows, trial: Trial) -> None:
    finetune.finetune(model, data(rows, 2), finetune.Settings(trial, Options()), finetune.Runtime())


def answer(model, rows, trial: Trial) -> None:
    finetune.predict(model, rows, trial, "cpu")


@pytest.mark.parametrize("use", [fit, answer])
def test_a_model_comes_back_as_it_was_but_for_its_weights(load, use):
    """Accelerate's casts of bf16 do not stay on it: plain calls compute in fp32."""
    model = load()
    rows = encode(model.tokenizer, TEXTS, 16)
    use(model, rows, make_trial(precision="bf16"))
    stock = type(model.classifier)(model.classifier.config).eval()
    stock.load_state_dict(model.classifier.state_dict())
    assert {weight.dtype for weight in model.classifier.parameters()} == {torch.float32}
    batch = pad(rows, model.tokenizer.pad_token_id)
    with torch.no_grad():
        assert torch.equal(model.classifier.eval()(**batch).logits, stock(**batch).logits)


def test_another_seed_gives_other_bits(load):
    assert not np.array_equal(trained(load(), make_trial())[1], trained(load(seed=1), make_trial(seed=1))[1])


def test_precision_reaches_the_forward_pass(load):
    assert not np.array_equal(trained(load(), make_trial())[1], trained(load(), make_trial(precision="bf16"))[1])


def test_micro_batches_give_the_gradient_of_the_whole_batch(load):
    """Without dropout, which draws by the forward pass."""
    outcomes = []
    for size in (None, 3, 8):
        outcomes.append(trained(without_dropout(load()), make_trial(micro_batch_size=size, learning_rate=1e-3), 4)[1])
    np.testing.assert_allclose(outcomes[1], outcomes[0], atol=1e-4)
    np.testing.assert_allclose(outcomes[2], outcomes[0], atol=1e-6)


def test_a_batch_of_long_texts_is_taken_in_parts_of_at_most_that_many_tokens():
    """Each example once; of 3 x 9 tokens, of 16, and one text that is longer than allowed."""
    batch, lengths = [10, 11, 12, 13, 14], [5, 9, 9, 16, 40]
    assert finetune.micro_batches(batch, lengths, None, 32) == [[10, 11, 12], [13], [14]]
    assert finetune.micro_batches(batch, lengths, None, 1000) == [batch]
    assert finetune.micro_batches(batch, lengths, 2, 32) == [[10, 11], [12, 13], [14]]


def test_parts_under_the_budget_give_the_gradient_of_the_whole_batch(load, monkeypatch):
    """Without dropout; at width 16, 512 values are 32 tokens, and 16 are less than a text has."""
    outcomes = []
    for most in (16, 512, 2**20):
        monkeypatch.setitem(finetune.TRAINING_VALUES, "cpu", most)
        outcomes.append(trained(without_dropout(load()), make_trial(learning_rate=1e-3), 4)[1])
    assert not np.array_equal(outcomes[0], outcomes[2])  # else it was not taken in parts
    for outcome in outcomes[:2]:
        np.testing.assert_allclose(outcome, outcomes[2], atol=1e-4)


def test_only_the_classifier_learns(load):
    model = load()
    head = {name: weight.clone() for name, weight in model.lm.lm_head.named_parameters() if "decoder" not in name}
    trained(model, make_trial())
    assert all(torch.equal(head[name], weight) for name, weight in model.lm.lm_head.named_parameters() if name in head)


def test_the_curve_has_the_schedule(load):
    curve, _ = trained(load(), make_trial(warmup=0.1), 20)
    assert [step.step for step in curve] == [10, 20]
    assert curve[0].learning_rate > curve[1].learning_rate > 0


@pytest.mark.filterwarnings("ignore:Seems like .optimizer.step")  # Accelerate replaces it while the scaler asks
def test_the_schedule_waits_while_the_scaler_skips_steps(load, monkeypatch):
    """fp16's scaler starts too high here, skips steps and halves its scale until no gradient overflows."""
    stock, scales = finetune._accelerator, list[float]()

    @contextmanager
    def scaled(trial, device):
        with stock(trial, device) as accelerator:
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=10**6)
            yield accelerator
            scales.append(accelerator.scaler.get_scale())

    monkeypatch.setattr(finetune, "RECORD_EVERY", 1)
    plain = [step.learning_rate for step in trained(load(), make_trial(), 12)[0]]
    monkeypatch.setattr(finetune, "_accelerator", scaled)
    model = load()
    next(model.classifier.parameters()).register_hook(lambda gradient: gradient * 2.0**6)
    rates = [step.learning_rate for step in trained(model, make_trial(), 12)[0]]
    skipped = round(127 - math.log2(scales[0]))
    assert 0 < skipped < 12
    assert rates == [plain[0]] * skipped + plain[: 12 - skipped]


def test_a_loss_that_is_not_finite_stops_the_trial(load):
    model = load()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(finetune.TrainingDiverged, match="loss is nan at step 10"):
        trained(model, make_trial())


def test_predictions_keep_the_order_and_do_not_depend_on_the_batch(load):
    model, trial = load(), make_trial()
    rows = encode(model.tokenizer, [text * (1 + number % 5) for number, text in enumerate(TEXTS)], 32)
    together = finetune.predict(model, rows, trial, "cpu")
    with torch.no_grad():
        alone = [model.classifier(**pad([row], model.tokenizer.pad_token_id)).logits[0].numpy() for row in rows]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    assert together.dtype == np.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, where fp16 is allowed")
def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(UserError, match="Allowed without one: fp32, bf16"):
        finetune.check_precision(make_trial(precision="fp16"))


@pytest.mark.parametrize(
    ("able", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bf16_on_a_cpu_without_it_is_reported(able, slow, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert bool(finetune.slow_precision(make_trial(precision="bf16"))) == slow
    assert finetune.slow_precision(make_trial()) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert finetune.slow_precision(make_trial(precision="bf16")) is None


@pytest.mark.parametrize(
    ("epochs", "examples", "steps"), [(1, 32, 4), (1, 33, 5), (2, 33, 10), (0.5, 33, 3), (0.01, 8, 1)]
)
def test_steps_by_hand(epochs, examples, steps):
    assert finetune.steps(make_trial(epochs=epochs), examples) == steps
