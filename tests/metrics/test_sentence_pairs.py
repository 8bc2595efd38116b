"""Any pairs of sentences by a mapping of columns, and AUL with AULA: by hand, and against independent implementations."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.metrics import crows_pairs, sentence_pairs
from bias_transfer.metrics.sentence_pairs import Columns, Pair, read_pairs
from bias_transfer.models import language_model
from bias_transfer.models.lm_head import framing_ids
from bias_transfer.models.masked_head import MaskedLMHead

COLUMNS = Columns("pro", "anti", "occupation")
PAIRS = (
    Pair("The cook said that she is late.", "The cook said that he is late.", "", "cook"),
    Pair("my neighbor is a good person", "my friend is a good person", "", "friend"),
    Pair("he sat", "she sat on the mat, and the old man looked at the dog", "", "cook"),
)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_file_is_read_by_a_mapping_of_its_columns(suffix, tmp_path):
    path = tmp_path / f"winogender{suffix}"
    rows = pd.DataFrame({"id": [1, 2], "pro": ['A, "b"', "D"], "anti": ["C", "E\u2028F"], "occupation": ["x", "y"]})
    if suffix == ".jsonl":
        rows.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        rows.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    pairs = read_pairs(str(path), COLUMNS)
    assert pairs == (Pair('A, "b"', "C", "", "x"), Pair("D", "E\u2028F", "", "y"))
    assert {pair.bias_type for pair in read_pairs(str(path), Columns("pro", "anti"))} == {""}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "pro,anti\nSECRET,b\n", "occupation must each be one column. Needed: pro, anti, occupation"),
        ("a.csv", "pro,anti,occupation\nSECRET,,c\n", "line 2 ends a row without anti"),
        ("a.csv", "pro,anti,occupation\nSECRET,SECRET,c\n", "line 2 ends a row with two identical sentences"),
        ("a.csv", "pro,anti,occupation\n", "no row in it"),
        ("a.jsonl", '{"pro": "SECRET"}', "line 1: anti, occupation must each be one column"),
        ("a.jsonl", "\n[1]", "line 2 is no JSON object"),
        ("a.jsonl", '{"pro": "SECRET", "anti": 1, "occupation": "c"}', "line 1: .* must be texts"),
        ("a.xlsx", "", "unknown kind of file '.xlsx'"),
    ],
)
def test_faults_are_reported_with_their_line(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        read_pairs(str(path), COLUMNS)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_pairs_are_scored_as_crows_pairs_are(family, load):
    model = load(family)
    found = {row.metric: row for row in sentence_pairs.scores(model, PAIRS, "pairs") if not row.group}
    directed = [pair._replace(direction="stereo") for pair in PAIRS]
    published = {row.metric: row for row in crows_pairs.crows_pairs(model, directed) if not row.group}
    for suffix in ("", "_difference", "_ties", *(["_per_token"] if family == "gpt2" else [])):
        assert found[f"pairs{suffix}"].value == published[f"crows_pairs{suffix}"].value
    assert "pairs_stereo" not in found
    assert {row.group for row in sentence_pairs.scores(model, PAIRS, "pairs")} == {"", "cook", "friend"}


class Attentive(torch.nn.Module):
    """A masked LM that gives even tokens a share of 3 and odd ones of 1, and whose tokens attend to the first two alone, by
    halves. It notes by what kind of attention it was asked."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocabulary, _attn_implementation="sdpa")
        self.device = torch.device("cpu")
        self.asked: list[str] = []

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, input_ids, attention_mask, output_attentions):
        self.asked.append(self.config._attn_implementation)
        texts, width = input_ids.shape
        logits = torch.where(torch.arange(self.config.vocab_size) % 2 == 0, math.log(3), 0.0)
        attention = torch.zeros(texts, 1, width, width)
        attention[..., :2] = 0.5
        attention[attention_mask[:, None, :] == 0] = math.nan
        return SimpleNamespace(logits=logits.expand(texts, width, -1), attentions=(attention,) * 2)


def test_aul_and_aula_by_hand(tokenizer):
    """AUL is the mean of ln p; all attention goes to the start token and to the first of the text's own, by halves. What
    padding attends to counts nowhere."""
    model = Attentive(len(tokenizer))
    texts = ["a good cat", "the old man looked at the dog and sat"]
    found = MaskedLMHead(tokenizer, model).unmasked(texts)
    whole = 3 * -(-len(tokenizer) // 2) + len(tokenizer) // 2
    for text, plain, attended in zip(texts, found.plain, found.attended, strict=True):
        own = tokenizer(text)["input_ids"][1:-1]
        log_p = [math.log((1 if token % 2 else 3) / whole) for token in own]
        assert plain == pytest.approx(np.mean(log_p))
        assert attended == pytest.approx(log_p[0] / 2 / len(own))
    assert model.asked == ["eager"]
    assert model.config._attn_implementation == "sdpa"


def independent(model, text: str) -> tuple[float, float]:
    """AUL and AULA of one text, one token at a time, without batch and padding."""
    row = model.tokenizer(text)["input_ids"]
    before = model.lm.config._attn_implementation
    model.lm.set_attn_implementation("eager")
    with torch.no_grad():
        output = model.lm.eval()(torch.tensor([row]), output_attentions=True)
    model.lm.set_attn_implementation(before)
    own = [place for place in range(len(row)) if row[place] not in framing_ids(model.tokenizer)]
    plain, attended = 0.0, 0.0
    for place in own:
        log_p = float(torch.log_softmax(output.logits[0, place].double(), 0)[row[place]])
        received = [
            float(layer[0, head, query, place])
            for layer in output.attentions
            for head in range(layer.shape[1])
            for query in range(len(row))
        ]
        plain += log_p / len(own)
        attended += log_p * sum(received) / len(received) / len(own)
    return plain, attended


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_aul_and_aula_on_every_family_against_a_plain_loop(family, load, outputs):
    """And the model computes the same bits afterwards."""
    model = load(family)
    texts = [text for pair in PAIRS for text in (pair.more, pair.less)]
    before = outputs(model)
    found = model.head.unmasked(texts)
    for text, plain, attended in zip(texts, found.plain, found.attended, strict=True):
        assert (plain, attended) == pytest.approx(independent(model, text), abs=1e-5)
    assert all(torch.equal(one, other) for one, other in zip(before, outputs(model), strict=True))


def test_mlm_bias_gives_the_same(load):
    """Its class initialises the model at random, so that its functions are called with ours."""
    measures = pytest.importorskip("mlm_bias.utils.measures", reason="the package mlm-bias is not installed")
    experiments = pytest.importorskip("mlm_bias.utils.experiments")
    model = load("bert")
    unmasked = model.head.unmasked([text for pair in PAIRS for text in (pair.more, pair.less)])
    likelihoods = model.head.likelihoods([(pair.more, pair.less) for pair in PAIRS])
    model.lm.set_attn_implementation("eager")
    model.lm.config.output_attentions = True
    model.lm.config.return_dict = True
    for number, pair in enumerate(PAIRS):
        rows = [torch.tensor([model.tokenizer(text)["input_ids"]]) for text in (pair.more, pair.less)]
        spans = experiments.get_span(rows[0][0], rows[1][0], "equal")
        for side in (0, 1):
            theirs = measures.compute_aul(model.lm.eval(), rows[side])
            assert unmasked.plain[2 * number + side] == pytest.approx(theirs["aul"], abs=1e-5)
            assert unmasked.attended[2 * number + side] == pytest.approx(theirs["aula"], abs=1e-5)
            total = measures.compute_csps(model.lm, rows[side], spans[side], model.tokenizer.mask_token_id)
            assert likelihoods.total[number, side] == pytest.approx(total["csps"], abs=1e-4)


def test_aul_is_compared_by_pair_and_bias_type(load):
    model = load()
    rows = sentence_pairs.scores(model, PAIRS, "pairs", unmasked=True)
    found = {(row.metric, row.group): (row.value, row.n) for row in rows}
    for metric, values in zip(("pairs_aul", "pairs_aula"), zip(*(
        np.subtract(independent(model, pair.more), independent(model, pair.less)) for pair in PAIRS
    ), strict=True), strict=True):  # fmt: skip
        values = np.array(values)
        assert found[metric, ""] == ((values > 0).mean(), 3)
        assert found[metric, "cook"] == ((values[[0, 2]] > 0).mean(), 2)
        assert found[f"{metric}_difference", "friend"] == (pytest.approx(values[1], abs=1e-5), 1)


def test_a_causal_model_has_no_aul(load):
    with pytest.raises(UserError, match="metric.aul: a causal language model"):
        sentence_pairs.scores(load("gpt2"), PAIRS, "pairs", unmasked=True)
