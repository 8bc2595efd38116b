"""What upstream metrics read of a causal model: by hand on two layers, and against transformers' own loss as an oracle."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import GPT2Config, GPT2LMHeadModel
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from bias_transfer import determinism
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.metrics import (
    crows_pairs,
    disco,
    mask_filling,
    mdl_probe,
    pronoun_ranking,
    seat,
    sentiment,
    word_preference,
)
from bias_transfer.metrics.crows_pairs import Pair
from bias_transfer.models import language_model, start_token
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.vocabulary import whole_words
from bias_transfer.tasks.bios.occupations import OCCUPATIONS
from bias_transfer.tasks.bios.task import OCCUPATION_NAMES, READINGS, TEMPLATES
from bias_transfer.training.lm_training import train_tokenizer

TEXT = (
    "she is a nurse. he is a nurse. the nurse said that she was good and he said that he was a bad person, the doctor",
    "the doctor said she is kind and he is terrible. a person is good, and he wants to become a doctor as well as a nurse",
    "the cat is happy and sad. the dog is bad. mary likes a cat, john likes a dog. she works as a doctor, he works as well",
)
OCCUPATION = {"nurse": ("a", "nurse"), "doctor": ("a", "doctor")}


@pytest.fixture(scope="module", name="vocabulary")
def tokenizer_of_the_text():
    made = train_tokenizer(TEXT * 20, 440)
    start_token.put(made, None, len(made))
    assert {"she", "he", "Ġshe", "Ġhe", "Ġnurse", "Ġgood", "Ġbad"} <= made.get_vocab().keys()
    return made


def decoder(tokenizer) -> GPT2LMHeadModel:
    with determinism.seeded(4):
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3,
                bos_token_id=0, eos_token_id=2,
            )
        ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def bigrams(vocabulary) -> tuple[LanguageModel, np.ndarray]:
    """A model of two layers that add nothing to the embeddings, and its ln p(next token | token), by hand."""
    lm = decoder(vocabulary)
    with torch.no_grad():
        lm.transformer.wpe.weight.zero_()
        for layer in lm.transformer.h:
            for part in (layer.attn.c_proj, layer.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
    embedded = lm.transformer.wte.weight.detach().double().numpy()
    centred = embedded - embedded.mean(axis=1, keepdims=True)
    states = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    logits = states @ embedded.T
    table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return LanguageModel(vocabulary, lm, None, "causal"), table


def chain(tokenizer, table: np.ndarray, text: str) -> float:
    row = tokenizer(text)["input_ids"]
    return sum(table[first, second] for first, second in zip(row, row[1:], strict=False))


def values(rows) -> dict[tuple[str, str, str], float]:
    return {(row.metric, row.group, row.template): row.value for row in rows}


def test_a_pronoun_that_comes_next_by_hand(bigrams, vocabulary):
    model, table = bigrams
    ids = vocabulary.get_vocab()
    template = "the {occupation} {pronoun}"
    found = values(pronoun_ranking.pronoun_ranking(model, OCCUPATION, [template]))
    for word in OCCUPATION:
        logit, prior = (
            table[ids[f"Ġ{name}"], ids["Ġshe"]] - table[ids[f"Ġ{name}"], ids["Ġhe"]] for name in (word, "person")
        )
        assert found["pronoun_logit", word, template] == pytest.approx(logit, abs=1e-5)
        assert found["pronoun_prior", word, template] == pytest.approx(prior, abs=1e-5)
        assert found["pronoun_score", word, template] == pytest.approx(logit - prior, abs=1e-5)


def test_a_pronoun_that_comes_first_by_hand(bigrams, vocabulary):
    """The start token stands before it, and what follows it counts."""
    model, table = bigrams
    found = values(pronoun_ranking.pronoun_ranking(model, OCCUPATION, TEMPLATES[:1], "pronoun_first"))
    for word in OCCUPATION:
        logit, prior = (
            chain(vocabulary, table, f"She is a {name}.") - chain(vocabulary, table, f"He is a {name}.")
            for name in (word, "person")
        )
        assert abs(logit) > 0.1
        assert found["pronoun_first_logit", word, TEMPLATES[0]] == pytest.approx(logit, abs=1e-5)
        assert found["pronoun_first_prior", word, TEMPLATES[0]] == pytest.approx(prior, abs=1e-5)


def test_another_start_token_gives_another_score_and_none_leaves_the_first_word_out(bigrams, vocabulary):
    model, table = bigrams
    ids, other = vocabulary.get_vocab(), train_tokenizer(TEXT * 20, 440)
    scores = []
    for token in (None, "</s>", "none"):
        start_token.put(other, token, len(other))
        scores.append(LanguageModel(other, model.lm, None, "causal").head.log_odds(["{mask} is"], ["she"], ["he"])[0])
    rest = table[ids["she"], ids["Ġis"]] - table[ids["he"], ids["Ġis"]]
    for score, start in zip(scores[:2], (0, 2), strict=True):
        assert score == pytest.approx(table[start, ids["she"]] - table[start, ids["he"]] + rest, abs=1e-5)
    assert scores[2] == pytest.approx(rest, abs=1e-5)


def test_words_of_several_tokens_are_compared_by_the_chain_rule(bigrams, vocabulary):
    model, table = bigrams
    assert len(vocabulary(" terribly")["input_ids"]) > 2
    (found,) = model.head.log_odds(["the nurse is {mask}"], ["terribly", "sad"], ["good"])
    likelihoods = [chain(vocabulary, table, f"the nurse is {word}") for word in ("terribly", "sad", "good")]
    assert found == pytest.approx(np.logaddexp(*likelihoods[:2]) - likelihoods[2], abs=1e-5)


def test_negative_sentiment_of_the_next_word_by_hand(bigrams, vocabulary):
    """What stands after the slot is not read."""
    model, table = bigrams
    words = whole_words(vocabulary)
    verdicts = dict(zip(words, sentiment.vader([*words.values()]), strict=True))
    negative, positive = ([index for index in words if verdicts[index] == sign] for sign in (-1, 1))
    assert len(negative) > 1
    assert len(positive) > 1

    def share(last: str) -> float:
        bad, good = (np.exp(table[vocabulary.get_vocab()[f"Ġ{last}"]][side]).sum() for side in (negative, positive))
        return float(bad / (bad + good))

    templates = {"that {group} {mask} is here.": "that person {mask} is here."}
    found = values(sentiment.negative_sentiment(model, ["cat", "dog"], templates, "vader", None))
    for group in ("cat", "dog"):
        expected = share(group) - share("person")
        assert found["negative_sentiment", group, "that {group} {mask} is here."] == pytest.approx(expected, abs=1e-6)


def test_words_of_several_tokens_count_by_the_chain_rule_if_asked_for(bigrams, vocabulary, monkeypatch):
    model, table = bigrams
    judged = {"bad": -1, "good": 1, "bads": -1, "goods": 1, "cats": 1}
    monkeypatch.setitem(sentiment.SCORERS, "toy", lambda words: np.array([judged.get(word, 0) for word in words]))
    monkeypatch.setitem(sentiment.LEXICONS, "toy", lambda: [*judged])
    words = whole_words(vocabulary)
    longer = [word for word in judged if word not in words.values()]
    assert longer == ["bads", "goods", "cats"]
    assert len(vocabulary(" bads")["input_ids"]) == 3
    verdicts = np.array([judged.get(word, 0) for word in (*words.values(), *longer)])
    templates = {"that {group} {mask}": "that person {mask}"}

    def share(about: str) -> float:
        start = f"that {about}"
        whole = chain(vocabulary, table, start)
        probabilities = np.array(
            [math.exp(table[vocabulary(start)["input_ids"][-1], index]) for index in words]
            + [math.exp(chain(vocabulary, table, f"{start} {word}") - whole) for word in longer]
        )
        return float(probabilities[verdicts < 0].sum() / probabilities[verdicts != 0].sum())

    for multi_token in (True, False):
        found = values(sentiment.negative_sentiment(model, ["dog"], templates, "toy", None, multi_token))
        right = found["negative_sentiment", "dog", "that {group} {mask}"] == pytest.approx(
            share("dog") - share("person"), abs=1e-6
        )
        assert right == multi_token


@pytest.mark.parametrize("family", language_model.CAUSAL_FAMILIES)
def test_a_words_probability_by_reused_keys_and_values_against_the_oracle(family, load):
    """Whose loss is that of the text with the word, less that of the text without it."""
    model = load(family)
    texts, words = ["the cat is {mask} and", "a {mask}"], ["terrible", "kindly", "good", "goodness", "sad", "terribly"]
    found = model.head.word_probabilities(texts, words)
    expected = [
        [oracle_likelihood(model, f"{text} {word}") - oracle_likelihood(model, text) for word in words]
        for text in ("the cat is", "a")
    ]
    agree(f"ln p(word of several tokens), {family}", np.log(found), expected, 1e-4)


def test_a_slot_with_nothing_before_it_has_no_next_word(bigrams):
    with pytest.raises(UserError, match=r"nothing stands before the slot in '\{mask\} people'"):
        bigrams[0].head.distribution(["the {mask}", "{mask} people"])


def test_crows_pairs_by_hand(bigrams, vocabulary):
    model, table = bigrams
    pairs = [
        Pair("the nurse is bad.", "the doctor is bad.", "stereo", "job"),
        Pair("the cat sat", "the dog", "stereo", "pet"),
    ]
    likelihoods = model.head.likelihoods([(pair.more, pair.less) for pair in pairs])
    sums = np.array([[chain(vocabulary, table, text) for text in (pair.more, pair.less)] for pair in pairs])
    counts = np.array([[len(vocabulary(text)["input_ids"]) - 1 for text in (pair.more, pair.less)] for pair in pairs])
    assert likelihoods.total == pytest.approx(sums, abs=1e-5)
    assert likelihoods.tokens.tolist() == counts.tolist()
    found = values(crows_pairs.crows_pairs(model, pairs))
    assert found["crows_pairs_difference", "", ""] == pytest.approx((sums[:, 0] - sums[:, 1]).mean(), abs=1e-5)
    per_token = sums / counts
    assert found["crows_pairs_per_token", "", ""] == (per_token[:, 0] > per_token[:, 1]).mean()


def test_held_out_loss_by_hand(bigrams, vocabulary):
    model, table = bigrams
    heldout = ["the nurse is kind", "he", "", "she said that the cat is a person and the dog is a cat " * 9]
    rows = [vocabulary(text)["input_ids"][: mask_filling.HELDOUT_TOKENS] for text in heldout]
    asked = [(first, second) for row in rows for first, second in zip(row, row[1:], strict=False)]
    loss, unigram = mask_filling.heldout_loss(model, heldout, TEXT)
    assert (loss.metric, unigram.metric) == ("causal_lm_loss", "unigram_loss")
    assert loss.n == unigram.n == len(asked)
    assert loss.value == pytest.approx(-np.mean([table[pair] for pair in asked]), abs=1e-5)
    counts = Counter(token for text in TEXT for token in vocabulary(text)["input_ids"][1 : mask_filling.HELDOUT_TOKENS])
    shares = [(counts[token] + 1) / (counts.total() + len(vocabulary)) for _, token in asked]
    assert unigram.value == pytest.approx(-np.log(shares).mean())


@pytest.fixture(scope="module")
def whole(vocabulary) -> LanguageModel:
    """Two layers that do read what stands before."""
    return LanguageModel(vocabulary, decoder(vocabulary), None, "causal")


def oracle_likelihood(model: LanguageModel, text: str) -> float:
    """torch's cross-entropy of one text, unpadded, in fp64. It is transformers' own loss, which is rounded to fp32."""
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        answer = model.lm.double()(input_ids=ids, labels=ids)
    total = float(torch.nn.functional.cross_entropy(answer.logits[0, :-1], ids[0, 1:], reduction="sum"))
    assert total == pytest.approx(float(answer.loss) * (ids.shape[1] - 1), rel=1e-6)
    return -total


def oracle_next(model: LanguageModel, text: str) -> np.ndarray:
    """The scores of transformers' own generation of one token after one text, in fp64."""
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    made = model.lm.double().generate(
        ids, max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True, pad_token_id=1
    )
    return made.scores[0][0].softmax(dim=-1).numpy()


def agree(what: str, found, expected, within: float) -> None:
    """The largest difference is printed, for the table of docs/science.md: `pytest -s -k oracle` on this file."""
    difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    print(f"\n{what}: {difference:.0e} (largest value {np.abs(expected).max():.2g})")
    assert difference <= within


@pytest.mark.parametrize("name", READINGS["causal"])
def test_pronoun_ranking_against_the_oracle(name, whole):
    whole.lm.float()
    few = {name: OCCUPATION_NAMES[name] for name in OCCUPATIONS[::9]}
    rows = pronoun_ranking.pronoun_ranking(whole, few, READINGS["causal"][name], name)
    scores = {key[1:]: value for key, value in values(rows).items() if key[0] == f"{name}_score"}
    expected = []
    for group, template in scores:
        texts = []
        for article, named in (few[group], ("a", "person")):
            for word in ("she", "he"):
                said = word.capitalize() if template.startswith("{pronoun}") else word
                texts.append(template.format(pronoun=said, article=article, occupation=named))
        she, he, prior_she, prior_he = (oracle_likelihood(whole, text) for text in texts)
        expected.append(she - he - prior_she + prior_he)
    assert len(expected) == 4 * {"pronoun": 17, "pronoun_first": 5}[name]
    agree(f"{name}_score", [*scores.values()], expected, 2e-5)


TEXTS = [text[:length] for text in TEXT for length in (9, 31, 60, 100)]
"""Of many lengths, so that batches are padded."""


def test_crows_pairs_against_the_oracle(whole):
    whole.lm.float()
    pairs = [Pair(more, less, "stereo", str(number)) for number, (more, less) in enumerate(itertools.pairwise(TEXTS))]
    found = values(crows_pairs.crows_pairs(whole, pairs))
    expected = np.diff([oracle_likelihood(whole, text) for text in TEXTS])
    of_pairs = [found["crows_pairs_difference", pair.bias_type, ""] for pair in pairs]
    agree("crows_pairs_difference, per pair", of_pairs, -expected, 1e-4)
    assert found["crows_pairs", "", ""] == (expected < 0).mean()


def test_next_words_against_the_oracle_whatever_the_batch(whole):
    whole.lm.float()
    fills = whole.head.distribution([f"{text} {{mask}} and more" for text in TEXTS])
    assert fills.sum(axis=1) == pytest.approx(1)
    agree("p(next token)", fills, [oracle_next(whole, text.rstrip()) for text in TEXTS], 1e-6)


def test_negative_sentiment_against_the_oracle(whole):
    whole.lm.float()
    templates = {"that {group} is {mask} here": "that person is {mask} here", "my {group} {mask}.": "my person {mask}."}
    groups = ["cat", "dog", "nurse"]
    found = values(sentiment.negative_sentiment(whole, groups, templates, "vader", None))
    judge, own = SentimentIntensityAnalyzer(), {*groups}
    words = {index: word for index, word in whole_words(whole.tokenizer).items() if word not in own}
    signs = {index: judge.polarity_scores(f"A person is {word}.")["compound"] for index, word in words.items()}

    def share(text: str) -> float:
        p = oracle_next(whole, text.partition(" {mask}")[0])
        bad, good = (sum(p[index] for index, sign in signs.items() if side * sign >= 0.05) for side in (-1, 1))
        return float(bad / (bad + good))

    keys = [(group, template) for template in templates for group in groups]
    expected = [share(template.replace("{group}", group)) - share(templates[template]) for group, template in keys]
    agree("negative_sentiment", [found["negative_sentiment", *key] for key in keys], expected, 1e-6)


def test_held_out_loss_against_the_oracle(whole):
    """In nats per token, of texts that are cut at the limit."""
    whole.lm.float()
    loss, _ = mask_filling.heldout_loss(whole, [*TEXTS, TEXT[1] * 4], TEXT)
    cut = whole.tokenizer.decode(whole.tokenizer(TEXT[1] * 4)["input_ids"][1 : mask_filling.HELDOUT_TOKENS])
    total = sum(oracle_likelihood(whole, text) for text in (*TEXTS, cut))
    agree("causal_lm_loss", loss.value, -total / loss.n, 1e-5)


def test_a_comparison_of_word_lists_against_the_oracle(whole):
    whole.lm.float()
    templates = {"the {group} is {mask} to me": "the person is {mask} to me"}
    lists = (("bad", "terrible"), ("good", "kind", "happy"))
    found = values(word_preference.word_comparison(whole, {"pets": "dog"}, templates, *lists))

    def odds(about: str) -> float:
        sides = [[oracle_likelihood(whole, f"the {about} is {word} to me") for word in words] for words in lists]
        return float(np.logaddexp.reduce(sides[0]) - np.logaddexp.reduce(sides[1]))

    (template,) = templates
    agree("word_score", found["word_score", "pets", template], odds("dog") - odds("person"), 2e-5)


def test_disco_against_the_oracle(whole):
    whole.lm.float()
    before = ["the", "a", "he", "she", "good", "john", "mary", "kind", "bad", "sad", "happy", "as"]
    persons = tuple(tuple(f"{word} {last}" for word in before) for last in ("cat", "nurse"))
    templates = ("{person} {mask}.", "{person} likes {mask}.", "{person} is {mask} at work.")
    found = values(disco.disco(whole, {"pair": persons}, templates))
    words = np.array([*whole_words(whole.tokenizer)])
    tests, p_values = 0, dict[str, list[float]]()
    for template in templates:
        starts = [[template.format(person=name, mask="|").partition(" |")[0] for name in side] for side in persons]
        tops = [[{*words[np.argsort(-oracle_next(whole, text)[words])[:3]]} for text in side] for side in starts]
        p_values[template] = []
        for word in set().union(*tops[0], *tops[1]):
            counts = [sum(word in top for top in side) for side in tops]
            tests += 1
            everyone = counts == [12, 12]
            table = [[count, 12 - count] for count in counts]
            p_values[template].append(1.0 if everyone else chi2_contingency(table, correction=False).pvalue)
    expected = [sum(p * tests < disco.SIGNIFICANT for p in of_template) for of_template in p_values.values()]
    assert any(expected)
    agree("disco, a count", [found["disco", "pair", template] for template in p_values], expected, 0)


@pytest.mark.parametrize("position", ["last", "mean"])
def test_seat_against_the_oracle(position, whole):
    whole.lm.float()
    test = seat.AssociationTest((("cat", "dog"), ("nurse", "doctor")), (("good", "kind"), ("bad", "terrible")))
    found = values(seat.association(whole, {"t": test}, position, "upstream"))
    vectors = {
        word: np.mean(
            [oracle_state(whole, position, template.format(word=word)) for template in seat.TEMPLATES], axis=0
        )
        for side in (*test.targets, *test.attributes)
        for word in side
    }

    def cosine(first: str, second: str) -> float:
        left, right = vectors[first], vectors[second]
        return float(left @ right / math.sqrt((left @ left) * (right @ right)))

    bias = [
        [
            np.mean([cosine(word, other) for other in test.attributes[0]])
            - np.mean([cosine(word, other) for other in test.attributes[1]])
            for word in side
        ]
        for side in test.targets
    ]
    effect = (np.mean(bias[0]) - np.mean(bias[1])) / np.std([*bias[0], *bias[1]], ddof=1)
    agree(f"seat, {position}", found["seat", "t", ""], effect, 1e-4)


@pytest.mark.parametrize("position", ["last", "mean"])
def test_the_probe_against_the_oracle(position, whole):
    """The state stands before the slot. Ten twins are two portions: a bit for each of the first ten labels, and for the others
    what scikit-learn's probabilities cost, mixed over the strengths and the uniform code."""
    whole.lm.float()
    twins = [(f"{text} he {{mask}} x", f"{text} she {{mask}} x") for text in TEXT[0].split(" ")[:10]]
    rows = mdl_probe.probe(whole, {"gender": twins}, "upstream")
    assert {row.template for row in rows} == {"last", "mean"}
    order = np.random.default_rng(derive_seed(0, "probe", "gender")).permutation(10)
    sides = [
        [oracle_state(whole, position, twins[at][side].partition(" {mask}")[0]) for at in order] for side in (0, 1)
    ]
    seen, unseen = (np.array([*sides[0][part], *sides[1][part]]) for part in (slice(5), slice(5, 10)))
    scaler, codes = StandardScaler().fit(seen), [20.0]
    for strength in mdl_probe.STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(seen), [0] * 5 + [1] * 5)
        p = fitted.predict_proba(scaler.transform(unseen))
        codes.append(10 - float(np.log2([*p[:5, 0], *p[5:, 1]]).sum()))
    bits = -math.log2(np.mean([2.0**-code for code in codes]))
    agree(f"probe_codelength, {position}", values(rows)["probe_codelength", "gender", position], bits, 1e-2)


def oracle_state(model: LanguageModel, position: str, text: str) -> np.ndarray:
    """The last hidden state of transformers' own pass over one text, in fp64."""
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        states = model.lm.double()(ids, output_hidden_states=True).hidden_states[-1][0].numpy()
    return np.asarray(states[-1] if position == "last" else states[1:].mean(axis=0))


def test_words_that_cannot_be_told_apart_are_refused(whole):
    with pytest.raises(UserError, match="two words as the same tokens in 'the cat is"):
        whole.head.check_words(["the cat is {mask}"], ["sad", "SAD"])
    whole.head.check_words(["the cat is {mask}"], ["sad", "terribly"])
