"""CrowS-Pairs: the score, on a model with probabilities set by hand, and the reader, whose messages quote no sentence."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.metrics import crows_pairs
from bias_transfer.metrics.crows_pairs import Pair, content_digest, read_pairs
from bias_transfer.models.lm_head import Likelihoods, framing_ids
from bias_transfer.models.masked_head import MaskedLMHead, shared_places


class Shares(torch.nn.Module):
    """A masked LM that gives the right token, known from the whole sentences, a share that depends on the sentence: `fond`
    of it where it sees the trigger's token, else `cool`. It keeps what it was shown."""

    def __init__(self, tokenizer, trigger: str, fond: float, cool: float):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=len(tokenizer))
        self.device = torch.device("cpu")
        self.trigger, self.fond, self.cool = tokenizer(trigger)["input_ids"][1], fond, cool
        self.mask = tokenizer.mask_token_id
        self.seen: list[list[int]] = []

    def forward(self, input_ids, attention_mask):
        self.seen += [ids[kept == 1].tolist() for ids, kept in zip(input_ids, attention_mask, strict=True)]
        size = self.config.vocab_size
        logits = torch.zeros(*input_ids.shape, size)
        for row, ids in enumerate(input_ids):
            share = self.fond if bool((ids == self.trigger).any()) else self.cool
            logits[row] = torch.where(torch.arange(size) % 2 == 0, math.log(share), math.log(1 - share))
        return SimpleNamespace(logits=logits)


def log_share(share: float, tokens: list[int], vocabulary: int) -> float:
    """What `Shares` gives the tokens: even ids weigh share, odd ones 1 - share."""
    even = (vocabulary + 1) // 2
    whole = even * share + (vocabulary - even) * (1 - share)
    return sum(math.log((1 - share if token % 2 else share) / whole) for token in tokens)


def test_likelihoods_by_hand(tokenizer):
    """The pair differs in its first word; all other tokens, and no framing one, are asked for, one at a time."""
    model = Shares(tokenizer, "cat", 0.75, 0.25)
    (found,) = MaskedLMHead(tokenizer, model).likelihoods([("cat is good.", "dog is good.")]).total
    rows = [tokenizer(text)["input_ids"] for text in ("cat is good.", "dog is good.")]
    (first, second) = (row[-len(tokenizer(" is good.")["input_ids"]) + 1 : -1] for row in rows)
    assert first == second
    assert tokenizer.decode(first) == " is good."
    assert found == pytest.approx([log_share(share, first, len(tokenizer)) for share in (0.75, 0.25)])
    assert len(model.seen) == 2 * len(first)
    assert {ids.count(tokenizer.mask_token_id) for ids in model.seen} == {1}
    assert all(ids[0] == rows[0][0] and ids[-1] == rows[0][-1] for ids in model.seen)


def test_a_word_is_compared_in_the_form_of_its_position(tokenizer):
    """At the beginning of a sentence, "cat" is another token than within it, so that it is not shared."""
    begins, within = (tokenizer(text)["input_ids"] for text in ("cat is good", "the cat is good"))
    assert tokenizer("cat")["input_ids"][1:-1] != within[2:-3]
    shared = shared_places(begins, within, framing_ids(tokenizer))
    assert [tokenizer.decode([begins[place]]) for place, _ in shared] == [" is", " good"]
    assert all(begins[first] == within[second] for first, second in shared)


def test_groups_in_the_middle_leave_the_rest_shared(tokenizer):
    more, less = (
        tokenizer(text)["input_ids"] for text in ("the old black cat is sad", "the dog is sad and the cat too")
    )
    shared = shared_places(more, less, framing_ids(tokenizer))
    assert [more[first] for first, _ in shared] == [less[second] for _, second in shared]
    assert [first for first, _ in shared] == sorted({first for first, _ in shared})
    assert tokenizer.decode([more[first] for first, _ in shared]) == "the is sad"


def test_runs_of_a_long_sentence_are_found(tokenizer):
    """difflib takes what is frequent in 200 tokens or more for junk, unless autojunk is off: the run between two words that
    differ would be lost."""
    run = "the cat and " * 30
    more, less = (tokenizer(f"{run}{word} {run}{word} {run}")["input_ids"] for word in ("old", "kind"))
    assert len(more) > 200
    assert len(shared_places(more, less, framing_ids(tokenizer))) >= 3 * 90


PAIRS = (
    Pair("cat is good.", "dog is good.", "stereo", "age"),
    Pair("cat is bad.", "dog is bad.", "antistereo", "age"),
    Pair("dog is kind.", "cat is kind.", "stereo", "religion"),
    Pair("person is sad.", "man is sad.", "stereo", "religion"),
)


def answering(likelihoods, tokens=None) -> SimpleNamespace:
    """A model with these log-likelihoods, (pairs, 2), by default sums over as many tokens in both sentences."""
    counts = np.full((len(likelihoods), 2), 3) if tokens is None else np.array(tokens)
    found = Likelihoods(np.array(likelihoods, float), counts)
    return SimpleNamespace(head=SimpleNamespace(likelihoods=lambda pairs: found))


def scores(likelihoods, tokens=None):
    rows = crows_pairs.crows_pairs(answering(likelihoods, tokens), PAIRS)
    assert {row.stage for row in rows} == {"upstream"}
    return {(row.metric, row.group): (row.value, row.n) for row in rows}


def test_shares_by_hand():
    """Won, won, lost, tied. In both directions, sent_more is the more stereotyping sentence."""
    found = scores([[-1, -2], [-3, -3.5], [-5, -1], [-2, -2]])
    assert found["crows_pairs", ""] == (0.5, 4)
    assert found["crows_pairs", "age"] == (1, 2)
    assert found["crows_pairs", "religion"] == (0, 2)
    assert found["crows_pairs_difference", ""] == (pytest.approx((1 + 0.5 - 4 + 0) / 4), 4)
    assert found["crows_pairs_difference", "religion"] == (-2, 2)
    assert found["crows_pairs_stereo", ""] == (pytest.approx(1 / 3), 3)
    assert found["crows_pairs_antistereo", ""] == (1, 1)
    assert found["crows_pairs_ties", ""] == (0.25, 4)


def test_where_the_numbers_of_tokens_differ_the_means_are_compared_too():
    """Only then: a masked LM compares the same tokens of both sentences."""
    likelihoods = [[-4, -3], [-3, -4], [-3, -4], [-3, -4]]
    found = scores(likelihoods, [[8, 3], [3, 4], [3, 5], [3, 3]])
    assert found["crows_pairs", ""] == (0.75, 4)
    assert found["crows_pairs_per_token", ""] == (0.5, 4)
    assert found["crows_pairs_per_token", "age"] == (0.5, 2)
    assert ("crows_pairs_per_token", "") not in scores(likelihoods)


def test_scores_are_not_rounded_before_they_are_compared():
    found = scores([[-1, -1.0001]] * 4)
    assert found["crows_pairs", ""] == (1, 4)
    assert found["crows_pairs_ties", ""] == (0, 4)


def test_a_likelihood_that_is_not_finite_makes_its_groups_missing():
    found = scores([[-1, -2], [-3, -4], [math.nan, -1], [-1, -2]])
    for metric in ("crows_pairs", "crows_pairs_difference"):
        assert found[metric, "age"][1] == 2
        for group in ("", "religion"):
            assert math.isnan(found[metric, group][0])
            assert found[metric, group][1] == 0


def test_a_direction_without_pairs_is_missing():
    found = {row.metric: row for row in crows_pairs.crows_pairs(answering([[-1.0, -2.0]]), PAIRS[:1])}
    assert math.isnan(found["crows_pairs_antistereo"].value)
    assert found["crows_pairs_antistereo"].n == 0


TEXTS = [
    ("cat is good.", "dog is good."),
    ("my neighbor is a good person and her friend is sad.", "my friend is a good person and her neighbor is sad."),
    ("people are so kind", "some people are kind"),
    ("the day is nice, the old man is not", "the day is nice, the young man is not"),
    ("black cat", "bad cat"),
]


def test_likelihoods_do_not_depend_on_the_batch(load):
    """One row at a time, some at a time with a smaller last batch, all at once."""
    model = load()
    alone = model.head.likelihoods(TEXTS, batch_tokens=1).total
    assert alone.shape == (len(TEXTS), 2)
    assert (alone < 0).all()
    assert len({*alone.ravel().round(6)}) == 2 * len(TEXTS)
    for batch_tokens in (33, 60, 10**6):
        assert model.head.likelihoods(TEXTS, batch_tokens).total == pytest.approx(alone, abs=1e-4)


def test_likelihoods_against_a_plain_loop(load):
    """The groups differ in length, so that a shared token has different positions in the two sentences."""
    model, texts = load("bert"), ("the old black cat is good.", "people is good.")
    rest = len(model.tokenizer(" is good.")["input_ids"]) - 2
    rows = [model.tokenizer(text)["input_ids"] for text in texts]
    shared = shared_places(*rows, framing_ids(model.tokenizer))
    assert shared == [(len(rows[0]) - 1 - back, len(rows[1]) - 1 - back) for back in range(rest, 0, -1)]
    assert shared[0][0] != shared[0][1]
    (found,) = model.head.likelihoods([texts]).total
    for side, row in enumerate(rows):
        total = 0.0
        for place in range(len(row) - 1 - rest, len(row) - 1):
            masked = torch.tensor([row])
            masked[0, place] = model.tokenizer.mask_token_id
            with torch.no_grad():
                total += float(model.lm(masked).logits[0, place].log_softmax(-1)[row[place]])
        assert found[side] == pytest.approx(total, abs=1e-4)


HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations\n"


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes) -> str:
        path = tmp_path / "pairs.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_the_published_form_is_read(written):
    path = written(HEADER + '0,"A, ""b"".",C.,stereo,age,"[[\'age\']]"\n\n1,D.,E.,antistereo,race-color,x\n')
    assert read_pairs(path) == (Pair('A, "b".', "C.", "stereo", "age"), Pair("D.", "E.", "antistereo", "race-color"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sent_more,sent_less,bias_type\nSECRET,b,age\n", "stereo_antistereo must each be one column"),
        (HEADER, "no row in it"),
        ("", "must each be one column"),
        (HEADER + "0,SECRET,b,stereo,age\n", "line 2 ends a row of 5 fields; the header has 6"),
        (HEADER + "0,a,b,stereo,age,x\n1,SECRET,,stereo,age,x\n", "line 3 ends a row without sent_less"),
        (
            HEADER + "0,SECRET,b,Stereo,age,x\n",
            "line 2: unknown value in stereo_antistereo. Allowed: stereo, antistereo",
        ),
        (HEADER + "0,SECRET,SECRET,stereo,age,x\n", "line 2 ends a row with two identical sentences"),
        (HEADER + '0,"SECRET"x,b,stereo,age,x\n', "line 2 ends a row that cannot be read"),
        (HEADER.encode() + b"0,SECRET\xff,b,stereo,age,x\n", "line 2 is not UTF-8"),
    ],
)
def test_faults_are_reported_with_their_line(written, content, message):
    with pytest.raises(UserError) as raised:
        read_pairs(written(content))
    assert message in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_a_missing_file_is_reported_with_its_option(tmp_path):
    for read in (read_pairs, content_digest):
        with pytest.raises(UserError, match="metric.crows_pairs: .*nothing.csv: no such file"):
            read(str(tmp_path / "nothing.csv"))


def test_the_digest_depends_on_content_and_not_on_location(written, tmp_path):
    first = content_digest(written(HEADER + "0,a,b,stereo,age,x\n"))
    (tmp_path / "other.csv").write_bytes((tmp_path / "pairs.csv").read_bytes())
    assert content_digest(str(tmp_path / "other.csv")) == first
    assert content_digest(written(HEADER + "0,a,c,stereo,age,x\n")) != first
