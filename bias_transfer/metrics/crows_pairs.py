"""CrowS-Pairs (Nangia et al. 2020): does a masked LM find the more stereotyping of two sentences more likely?

The pairs are read from a CSV file in the published form, crows_pairs_anonymized.csv. They are disputed (Blodgett et al. 2021):
read this measure next to others.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bias_transfer.errors import UserError
from bias_transfer.models.batching import Tokens, encode, length_batches, pad
from bias_transfer.models.embeddings import MOST_TOKENS, framing_ids
from bias_transfer.models.hub import did_you_mean
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
"""The columns that are read; the published file has further ones, which are ignored."""

DIRECTIONS = ("stereo", "antistereo")


class Pair(NamedTuple):
    """Two sentences that differ only in the group they are about."""

    more: str
    """The more stereotyping sentence: about the disadvantaged group where the direction is stereo."""
    less: str
    direction: str
    """stereo: the pair expresses a stereotype; antistereo: it violates one."""
    bias_type: str


def of_file(model: LanguageModel, path: str, digest: str | None) -> list[Measure]:
    """`crows_pairs` on the pairs of a file. digest: `content_digest` at the time when the trial was resolved.

    Raises UserError for a file that has changed since then, or that is not in the published form.
    """
    if content_digest(path) != digest:
        raise UserError(f"{path} has changed since the trial was resolved. Start the trial again.")
    return crows_pairs(model, read_pairs(path))


def crows_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> list[Measure]:
    """The score of Nangia et al. 2020 over all pairs and per bias type (the group): `crows_pairs`, the share of pairs whose
    more stereotyping sentence has the higher pseudo-log-likelihood, and `crows_pairs_difference`, the mean of the differences
    (more - less, in nats).

    Over all pairs also the same share among the pairs that express a stereotype (`crows_pairs_stereo`) and among those that
    violate one (`crows_pairs_antistereo`), as published, and the share of ties (`crows_pairs_ties`). A tie does not count as
    stereotyping, as in the published score; unlike there, scores are not rounded before they are compared (ours). value: rates
    in [0, 1]; n: pairs. NaN with n = 0 where there is no pair, and where a likelihood is not finite.
    """
    likelihoods = pseudo_log_likelihoods(model, [(pair.more, pair.less) for pair in pairs])
    difference = likelihoods[:, 0] - likelihoods[:, 1]
    directions, types = (np.array([getattr(pair, name) for pair in pairs]) for name in ("direction", "bias_type"))
    groups = {"": np.full(len(pairs), True)} | {str(name): types == name for name in sorted({*types})}
    measures = []
    for group, members in groups.items():
        measures.append(_mean("crows_pairs", group, difference[members], difference[members] > 0))
        measures.append(_mean("crows_pairs_difference", group, difference[members], difference[members]))
    for direction in DIRECTIONS:
        of_direction = difference[directions == direction]
        measures.append(_mean(f"crows_pairs_{direction}", "", of_direction, of_direction > 0))
    return [*measures, _mean("crows_pairs_ties", "", difference, difference == 0)]


def _mean(metric: str, group: str, difference: np.ndarray, values: np.ndarray) -> Measure:
    if len(difference) == 0 or not np.isfinite(difference).all():
        return Measure("upstream", metric, group, "", math.nan, 0)
    return Measure("upstream", metric, group, "", float(values.mean()), len(values))


def shared_places(more: Sequence[int], less: Sequence[int], framing: set[int]) -> list[tuple[int, int]]:
    """Positions, in both sentences, of the tokens that they share: those of the longest matching runs, without framing tokens.

    more, less: token ids of the whole sentences, so that a word is compared in the form that its position gives it ("She" is
    not " she").
    """
    runs = difflib.SequenceMatcher(None, more, less, autojunk=False).get_matching_blocks()
    places = [(run.a + step, run.b + step) for run in runs for step in range(run.size)]
    return [(first, second) for first, second in places if more[first] not in framing]


@torch.no_grad()
def pseudo_log_likelihoods(
    model: LanguageModel, pairs: Sequence[tuple[str, str]], batch_tokens: int = 2048
) -> np.ndarray:
    """(pairs, 2), in nats: for both sentences of a pair, the sum over the tokens that they share of ln p(token | the sentence
    with this token masked) (Nangia et al. 2020, section 3).

    batch_tokens: tokens per forward pass; no result depends on it.
    """
    rows = encode(model.tokenizer, [text for pair in pairs for text in pair], MOST_TOKENS)
    framing = framing_ids(model.tokenizer)
    masked = [  # (row, position): a pair's two sentences are neighbouring rows
        (2 * number + side, place)
        for number in range(len(pairs))
        for both in shared_places(rows[2 * number], rows[2 * number + 1], framing)
        for side, place in enumerate(both)
    ]
    totals = np.zeros(len(rows))
    for chosen in length_batches([len(rows[row]) for row, _ in masked], batch_tokens):
        batch = [masked[index] for index in chosen]
        # Not `totals[rows] += ...`, which would add only once for a row that occurs several times in the batch.
        np.add.at(totals, [row for row, _ in batch], _log_probabilities(model, rows, batch))
    return totals.reshape(-1, 2)


def _log_probabilities(model: LanguageModel, rows: Tokens, masked: Sequence[tuple[int, int]]) -> np.ndarray:
    """(masked,): ln p of the token at each (row, position), when it is masked."""
    masked_lm, mask = model.masked_lm.eval(), model.tokenizer.mask_token_id
    inputs = [[*rows[row][:place], mask, *rows[row][place + 1 :]] for row, place in masked]
    batch = {name: value.to(masked_lm.device) for name, value in pad(inputs, model.tokenizer.pad_token_id).items()}
    logits = masked_lm(**batch).logits[range(len(masked)), [place for _, place in masked]]
    right = torch.tensor([[rows[row][place]] for row, place in masked], device=logits.device)
    return np.asarray(logits.double().log_softmax(dim=-1).gather(1, right)[:, 0].cpu().numpy())


def content_digest(path: str) -> str:
    """SHA-256 of the file's bytes. Raises UserError for a file that does not exist."""
    return hashlib.sha256(_content(path)).hexdigest()


def read_pairs(path: str) -> tuple[Pair, ...]:
    """The pairs in the file's order. Raises UserError, naming the line, for a file that is not in the published form."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if missing := [name for name in COLUMNS if header.count(name) != 1]:
            raise UserError(
                f"{path}: {', '.join(missing)} must each be one column. Needed: {', '.join(COLUMNS)}, as in "
                "crows_pairs_anonymized.csv."
            )
        places = [header.index(name) for name in COLUMNS]
        pairs = [_pair(f"{path}: line {reader.line_num}", row, len(header), places) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} ends a row that cannot be read: {error}.") from None
    if not pairs:
        raise UserError(f"{path}: no pair in it. The file needs a header and at least one row.")
    return tuple(pairs)


def _pair(where: str, row: Sequence[str], width: int, places: Sequence[int]) -> Pair:
    if len(row) != width:
        raise UserError(f"{where} ends a row of {len(row)} fields; the header has {width}.")
    pair = Pair(*(row[place].strip() for place in places))
    if empty := [name for name, cell in zip(COLUMNS, pair, strict=True) if not cell]:
        raise UserError(f"{where} ends a row without {', '.join(empty)}. Every pair needs all four columns.")
    if pair.direction not in DIRECTIONS:
        raise UserError(f"{where}: unknown value in stereo_antistereo. Allowed: {', '.join(DIRECTIONS)}.")
    if pair.more == pair.less:
        raise UserError(
            f"{where} ends a row with two identical sentences. They must differ in the group they are about."
        )
    return pair


def _content(path: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"metric.crows_pairs: {path}: no such file.{did_you_mean(path)}")
    return Path(path).read_bytes()


def _text(path: str) -> str:
    content = _content(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None
