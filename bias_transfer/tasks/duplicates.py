"""Texts that occur more than once: counted within and between splits, and dropped where `data.deduplicate` says so.

Two texts are equal if all their characters are. Only counts are shown, never a text.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bias_transfer.errors import UserError

MOST = 0.5
"""Dev or test sets of which a larger share is in train are refused (ours)."""

REMEDY = (
    "data.deduplicate=true drops later copies within train, and the rows of train whose text is in dev or test; dev and test "
    "stay as they are."
)


def count(frames: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Split -> its rows whose text an earlier row of it has; SPLIT_in_OTHER -> rows of a split whose text is in another one;
    contradicting -> rows whose text another row has with another label.

    frames: split -> its examples, with the columns text and label.
    """
    texts = {name: frame["text"].tolist() for name, frame in frames.items()}  # far faster than pandas' own look-up
    different = {name: set(each) for name, each in texts.items()}
    counts = {name: len(each) - len(different[name]) for name, each in texts.items()}
    counts["contradicting"] = contradicting(frames)
    for name, other in (("dev", "train"), ("test", "train"), ("test", "dev")):
        counts[f"{name}_in_{other}"] = sum(text in different[other] for text in texts[name])
    return counts


def contradicting(frames: Mapping[str, pd.DataFrame]) -> int:
    """Rows, of all splits, whose text also has another label."""
    labels = labels_by_text(frames)
    return sum(len(labels[text]) > 1 for frame in frames.values() for text in frame["text"].tolist())


def labels_by_text(frames: Mapping[str, pd.DataFrame]) -> dict[str, set[int]]:
    """Text -> the labels of its rows, of all splits."""
    labels = dict[str, set[int]]()
    for frame in frames.values():
        for text, label in zip(frame["text"].tolist(), frame["label"].tolist(), strict=True):
            labels.setdefault(text, set()).add(label)
    return labels


def drop(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The splits without what `REMEDY` names; of a single table that still has to be split, its later copies."""
    held = {text for name in ("dev", "test") if name in frames for text in frames[name]["text"].tolist()}

    def thinned(frame: pd.DataFrame) -> pd.DataFrame:
        seen, kept = set(held), list[bool]()
        for text in frame["text"].tolist():
            kept.append(text not in seen)
            seen.add(text)
        return frame[kept]

    return {name: frame if name in ("dev", "test") else thinned(frame) for name, frame in frames.items()}


def warning(data: str, counts: Mapping[str, int], dropped: bool) -> str | None:
    """What to say of the counts, which were taken after `drop` if it was `dropped`; None where no text occurs twice."""
    within = [f"{counts[name]} in {name}" for name in ("train", "dev", "test") if counts[name]]
    between = [
        f"{number} of {key.replace('_in_', ' in ')}" for key, number in counts.items() if number and "_in_" in key
    ]
    parts = [f"rows that repeat an earlier text of their split ({', '.join(within)})"] if within else []
    parts += [f"rows whose text is also in another split ({', '.join(between)})"] if between else []
    if not parts:
        return None
    contradictions = counts["contradicting"]
    labels = f" {contradictions} rows have a text that also has another label." if contradictions else ""
    left = "data.deduplicate leaves dev and test as they are." if dropped else REMEDY
    return f"{data} has {' and '.join(parts)}.{labels} {left}"


def check_leakage(data: str, frames: Mapping[str, pd.DataFrame], counts: Mapping[str, int]) -> None:
    """Raises UserError if more than `MOST` of the rows of test or dev are in train."""
    shared = {name: counts[f"{name}_in_train"] for name in ("test", "dev")}
    if any(number > MOST * len(frames[name]) for name, number in shared.items()):
        listed = " and ".join(f"{number} of the {len(frames[name])} rows of {name}" for name, number in shared.items())
        raise UserError(
            f"{data}: {listed} have a text that is also in train, where {MOST:.0%} is allowed: a classifier is not tested on "
            f"what it was trained on. Give each split texts of its own. {REMEDY}"
        )
