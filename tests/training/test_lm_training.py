"""Language-model pre-training: deterministic, cached by content, and run by the command `pretrain`."""

from __future__ import annotations

import shutil

import pytest
import torch
from typer.testing import CliRunner

from bias_transfer import determinism
from bias_transfer.commands import pretrain
from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.models import language_model
from bias_transfer.models.batching import pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.training import lm_training

app = application(pretrain.main)

OPTIONS = lm_training.TinyOptions(steps=30, width=16, layers=1, vocabulary=340, tokens_per_step=200)


def weights(folder) -> dict[str, torch.Tensor]:
    return dict(language_model.load_lm(str(folder), None).lm.named_parameters())


def test_the_same_texts_give_the_same_tokenizer(sentences):
    first, again = (lm_training.train_tokenizer(sentences * 3, 340).backend_tokenizer.to_str() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("text", ["the {} sat", "the old {}.", "the {}, and the dog"])
def test_a_mask_stands_for_a_word_and_changes_no_token_next_to_it(text, tokenizer):
    """With add_prefix_space, the word after the mask became a token that was never seen in training."""
    masked, filled = (tokenizer(text.format(word))["input_ids"] for word in ("<mask>", "cat"))
    assert len(masked) == len(filled)
    assert [a for a, b in zip(masked, filled, strict=True) if a != b] == [tokenizer.mask_token_id]


def test_corruption_has_berts_shares():
    ids, special = torch.full((400, 100), 7), torch.zeros(400, 100, dtype=torch.bool)
    special[:, 0] = True
    inputs, targets = lm_training.corrupt(ids, special, 4, 1000, torch.Generator().manual_seed(0))
    chosen = targets != -100
    assert not chosen[:, 0].any()
    assert float(chosen[:, 1:].float().mean()) == pytest.approx(0.15, abs=0.005)
    assert (targets[chosen] == 7).all()
    assert (inputs[~chosen] == 7).all()
    assert float((inputs[chosen] == 4).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((inputs[chosen] == 7).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_long_texts_are_cut_in_rows_and_nothing_is_lost(tokenizer):
    text = "the cat sat on the mat " * 30
    rows = lm_training.segments(tokenizer, [text], 16)
    whole = tokenizer(text)["input_ids"][1:-1]
    assert [token for row in rows for token in row[1:-1]] == whole
    assert all(len(row) <= 16 and (row[0], row[-1]) == (0, 2) for row in rows)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_training_learns(kind, sentences):
    texts = sentences * 20
    with determinism.using_threads(1):
        model = lm_training.begin(None, texts, OPTIONS.model_copy(update={"kind": kind}))
        rows = [model.tokenizer(text)["input_ids"] for text in sentences]
        before = loss(model, rows)
        lm_training.train(model, texts, OPTIONS, lambda *_: None)
        assert loss(model, rows) < before - 0.3


def test_a_loss_that_is_not_finite_is_reported(sentences):
    model = lm_training.begin(None, sentences, OPTIONS)
    with torch.no_grad():
        next(model.lm.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 30; lower the learning rate"):
        lm_training.train(model, sentences, OPTIONS, lambda *_: None)


def test_no_text_is_reported(tokenizer):
    with pytest.raises(UserError, match="no text to learn from"):
        lm_training.train(LanguageModel(tokenizer, None, None), [" "], OPTIONS, lambda *_: None)


@torch.no_grad()
def loss(model, rows) -> float:
    compute, generator = lm_training.LOSSES[model.kind], torch.Generator().manual_seed(1)
    return float(compute(model.lm.eval(), model.tokenizer, rows, generator))


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_a_head_that_is_run_on_the_chosen_tokens_alone_gives_the_same_loss(family, load, sentences, monkeypatch):
    """Some families' heads are run on the chosen tokens only; the loss is that of the whole model's logits."""
    model, drawn = load(family), {}
    rows = [model.tokenizer(text)["input_ids"] for text in sentences]
    corrupt = lm_training.corrupt

    def seen(*given):
        drawn["inputs"], drawn["targets"] = corrupt(*given)
        return drawn["inputs"], drawn["targets"]

    monkeypatch.setattr(lm_training, "corrupt", seen)
    computed = loss(model, rows)
    attended = pad(rows, model.tokenizer.pad_token_id)["attention_mask"]
    with torch.no_grad():
        logits = model.lm(input_ids=drawn["inputs"], attention_mask=attended).logits
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), drawn["targets"].flatten())
    assert computed == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("family", language_model.CAUSAL_FAMILIES)
def test_a_causal_model_trains_on_every_token_but_the_first(family, load, sentences):
    """The loss is transformers' own, of texts that it reads one by one."""
    model = load(family)
    rows = [model.tokenizer(text)["input_ids"] for text in sentences]
    whole = 0.0
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            whole += float(model.lm.eval()(input_ids=ids, labels=ids).loss) * (len(row) - 1)
    assert loss(model, rows) == pytest.approx(whole / sum(len(row) - 1 for row in rows), rel=1e-5)


def test_tiny_is_masked_unless_it_is_called_causal(sentences, tmp_path):
    masked, causal = OPTIONS.model_copy(update={"kind": None}), OPTIONS.model_copy(update={"kind": "causal"})
    assert lm_training.TinyOptions(kind="masked") == lm_training.TinyOptions()
    folders = [lm_training.tiny(sentences * 5, options, tmp_path, lambda *_: None) for options in (masked, causal)]
    assert [language_model.load(str(folder), None, 2, 0).kind for folder in folders] == ["masked", "causal"]
    model = language_model.load_lm(str(folders[1]), None)
    assert model.tokenizer("the cat")["input_ids"][0] == model.tokenizer.bos_token_id


def test_tiny_is_made_once_and_the_same_again(sentences, tmp_path):
    reports = list[int]()

    def report(what, done, total):
        reports.append(done)

    folder = lm_training.tiny(sentences * 5, OPTIONS, tmp_path, report)
    first, made = weights(folder), len(reports)
    assert made
    assert lm_training.tiny(sentences * 5, OPTIONS, tmp_path, report) == folder
    assert len(reports) == made
    shutil.rmtree(tmp_path / "tiny")
    lm_training.tiny(sentences * 5, OPTIONS, tmp_path, report)
    assert all(torch.equal(first[name], weight) for name, weight in weights(folder).items())


def test_another_text_option_or_machine_is_another_model(sentences, tmp_path, monkeypatch):
    other = OPTIONS.model_copy(update={"seed": 1})
    folders = [
        lm_training.tiny(sentences * 5, OPTIONS, tmp_path, lambda *_: None),
        lm_training.tiny(sentences * 6, OPTIONS, tmp_path, lambda *_: None),
        lm_training.tiny(sentences * 5, other, tmp_path, lambda *_: None),
    ]
    monkeypatch.setattr(lm_training.fingerprint, "hardware", lambda device: "another CPU")
    folders.append(lm_training.tiny(sentences * 5, OPTIONS, tmp_path, lambda *_: None))
    assert len(set(folders)) == 4


SMALL = ["--steps", "3", "--width", "16", "--layers", "1", "--vocabulary", "340"]


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_command_from_scratch_then_continued(kind, sentences, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(sentences * 10))
    words = ["--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "model"), "--kind", kind, *SMALL]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"Held-out {kind}-LM loss" in done.output
    words = ["--from", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt"), "--steps", "3"]
    more = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "more")])
    assert more.exit_code == 0, more.output
    first, second = weights(tmp_path / "model"), weights(tmp_path / "more")
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_command_gives_a_head_to_a_checkpoint_that_has_none(load, sentences, tmp_path):
    model = load("bert")
    model.encoder.save_pretrained(tmp_path / "bare")
    model.tokenizer.save_pretrained(tmp_path / "bare")
    (tmp_path / "text.txt").write_text("\n".join(sentences * 10))
    words = ["--from", str(tmp_path / "bare"), "--text", str(tmp_path / "text.txt"), "--steps", "2"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "whole")])
    assert done.exit_code == 0, done.output
    assert language_model.load(str(tmp_path / "whole"), None, 2, 0).family == "bert"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "./nowhere"], "does not exist"),
        (["--text", "nowhere.csv"], "no such file"),
        (["--text", "nowhere.txt"], "cannot be read"),
        (["--kind", "causl"], "kind: Input should be 'masked' or 'causal' (got 'causl')"),
    ],
)
def test_command_refuses_bad_input_and_writes_nothing(words, message, sentences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n".join(sentences * 10))
    failed = CliRunner().invoke(app, [*words, "--text", "text.txt", "--out", "model", *SMALL])
    assert failed.exit_code == 2, failed.output
    assert message in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
