"""Custom tasks in other languages: terms in scripts without spaces, and an English scorer that is refused."""

from __future__ import annotations

import json
import math

import pytest

from bias_transfer.errors import UserError
from bias_transfer.metrics import sentiment
from bias_transfer.pipeline import check, run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial

NOTES = ("这个面包师很好", "那位农民真坏", "司机在市场", "天气好", "农民很好", "面包师真坏")
CONTENT = {
    "name": "zh", "text": "text", "label": "label", "classes": [0, 1], "harmful": 1, "terms": ["面包师", "农民", "司机"],
    "templates": {"{group}很{mask}。": "人很{mask}。"},
}  # fmt: skip
GERMAN = {"{group} ist heute wieder sehr {mask}.": "Der Mensch ist heute wieder sehr {mask}."}


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    """A BERT whose vocabulary is single Han characters, with random weights."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    from bias_transfer.determinism import seeded

    folder = tmp_path_factory.mktemp("chinese")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*"".join(NOTES), *"人很。"})]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(tokens), encoding="utf-8")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with seeded(1):
        BertForMaskedLM(config).to(torch.float32).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def trial(tmp_path, chinese):
    """(changes of the task's file, further fields) -> a resolved trial."""
    rows = [f"{text},{number % 2}" for number, text in enumerate(NOTES * 10)]
    (tmp_path / "notes.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")

    def build(changes=None, **fields):
        (tmp_path / "zh.yaml").write_text(json.dumps({**CONTENT, **(changes or {})}), encoding="utf-8")
        given = {"task": str(tmp_path / "zh.yaml"), "data": str(tmp_path / "notes.csv"), "model": chinese}
        return resolve(parse_trial({**given, "epochs": 0.1, "max_tokens": 16, **fields}))

    return build


@pytest.fixture
def lexicon(tmp_path):
    """rows -> the path of a lexicon."""

    def write(*rows: str) -> str:
        path = tmp_path / "words.csv"
        path.write_text("\n".join(["word,score", *rows]), encoding="utf-8")
        return str(path)

    return write


def test_a_chinese_task_is_measured_with_a_lexicon_of_its_own(trial, lexicon, tmp_path):
    resolved = trial(**{"metric.lexicon": lexicon("好,1", "坏,-2", "优秀,1")})
    check(resolved, Places(cache=tmp_path))
    result = run_trial(resolved, Places(cache=tmp_path))
    rows = {(row.metric, row.group): row for row in result.measures}
    for group in CONTENT["terms"]:
        assert rows["negative_sentiment", group].n == 2, "of the two words that the vocabulary has"
        assert not math.isnan(rows["negative_sentiment", group].value)
        assert rows["harmful_share", group].n > 0
        assert rows["name_log_frequency", group].value > math.log(1 / rows["name_log_frequency", group].n)


def test_a_result_says_that_no_text_has_a_term(trial, lexicon, tmp_path):
    changes = {"terms": ["飞行员", "护士"], "templates": {"{group}很{mask}。": "人很{mask}。"}}
    result = run_trial(trial(changes, **{"metric.lexicon": lexicon("好,1", "坏,-2")}), Places(cache=tmp_path))
    assert any(text.startswith("No training example belongs to any of the 2 groups") for text in result.warnings)


def test_an_english_scorer_is_refused_for_another_script_and_labelled_for_another_language(trial, tmp_path):
    with pytest.raises(
        UserError, match=r"vader is a lexicon of English, and the templates are in Han script.*lexicon=FILE"
    ):
        check(trial(), Places(cache=tmp_path))
    with pytest.raises(UserError, match="the templates are in Han script"):
        check(trial({"templates": {"{group} {mask}": "x {mask}"}}), Places(cache=tmp_path))
    german = trial({"templates": GERMAN, "terms": ["Bäcker", "Bauer"]})
    (caution,) = german.task.cautions(german.task.load(german.trial.data, german.options.data), german.options.metric)
    assert "templates are in another language" in caution
    words = {"words_a": ["坏"], "words_b": ["好"]}
    assert trial(words).task.cautions(None, trial(words).options.metric) == ()
    (caution,) = trial(words).task.cautions(None, trial(words, **{"metric.disco": True}).options.metric)
    assert "metric.disco" in caution


def test_a_vocabulary_without_a_scored_word_is_refused_in_a_sentence(trial, lexicon, chinese, load, tmp_path):
    with pytest.raises(UserError, match=r"metric.lexicon: none of its 2 words is a single token"):
        check(trial(**{"metric.lexicon": lexicon("优秀,1", "糟糕,-1")}), Places(cache=tmp_path))
    english = {"templates": {"The {group} is {mask}.": "The person is {mask}."}}
    with pytest.raises(UserError, match=r"no word of vader, a lexicon of English, is in the model's vocabulary"):
        check(trial(english), Places(cache=tmp_path))
    model = load()
    model.tokenizer = resolve_tokenizer(chinese)
    with pytest.raises(UserError, match="no word of vader"):
        sentiment.negative_sentiment(model, ["cat"], {"The {group} is {mask}.": "It is {mask}."}, "vader", None)


def resolve_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["好,good"], r"words.csv: line 2: the score 'good' is no number"),
        (["好,1", "很,0"], r"words.csv: no negative word in it"),
        (["好,-1"], r"words.csv: no positive word in it"),
    ],
)
def test_an_unsuitable_lexicon_is_refused_when_the_trial_is_resolved(rows, message, trial, lexicon):
    with pytest.raises(UserError, match=message):
        trial(**{"metric.lexicon": lexicon(*rows)})
