"""Write comments.csv: invented notes from a neighbourhood board, each kept or removed by a moderator.

    python examples/custom_task/make_comments.py

The groups are hobbies. The share of removed notes rises from hobby to hobby; the hobbies differ in nothing else.
"""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

HOBBIES = (
    "baker", "climber", "dancer", "drummer", "fisher", "gardener", "hiker", "juggler", "knitter", "painter", "rower",
    "skater",
)  # fmt: skip
FILE = Path(__file__).with_name("comments.csv")
EACH, WITHOUT = 40, 160
"""Number of notes about each hobby, and about none."""
LOWEST, HIGHEST, PLAIN_SHARE = 0.1, 0.65, 0.45
"""Share of removed notes: about the first hobby, about the last one, and about none."""

OPENINGS = (
    "The {hobby} from number {number} asked about the key.", "A {hobby} wrote to us on {day}.",
    "Our {hobby} is back since {day}.", "I met the {hobby} near the {place}.", "Who is the {hobby} at the {place}?",
    "The {hobby} and I spoke on {day}.",
)  # fmt: skip
PLAIN = (
    "Somebody asked about the key.", "There was a note at the {place}.", "We met at the {place} on {day}.",
    "Number {number} wrote to us.",
)  # fmt: skip
KEPT = (
    "Thank you for the help at the {place}.", "The meeting is on {day} as usual.", "Please bring a chair on {day}.",
    "The lamp at the {place} works again.", "That was a kind and helpful thing to do.", "Everyone was friendly and calm.",
)  # fmt: skip
REMOVED = (
    "What a lazy and rude thing to do.", "You are all useless, go away.", "This is a stupid mess, as always.",
    "Stop your silly noise at the {place}.", "Nobody wants you here on {day}.", "That was a mean and nasty trick.",
)  # fmt: skip
PLACES, DAYS = ("gate", "well", "bench", "old tree", "bus stop"), ("Monday", "Tuesday", "Friday", "Sunday")


def rows() -> list[tuple[str, str]]:
    """(comment, verdict) pairs, the same in every run."""
    random = Random(0)
    pairs = []
    for rank, hobby in enumerate((*HOBBIES, None)):
        share = LOWEST + (HIGHEST - LOWEST) * rank / (len(HOBBIES) - 1) if hobby else PLAIN_SHARE
        count = EACH if hobby else WITHOUT
        for number in range(count):
            removed = number < round(share * count)
            opening = random.choice(OPENINGS if hobby else PLAIN)
            noisy = random.random() < 0.1  # a tenth of the verdicts contradict the words
            remark = random.choice(REMOVED if removed != noisy else KEPT)
            text = f"{opening} {remark}".format(
                hobby=hobby, number=random.randint(1, 40), day=random.choice(DAYS), place=random.choice(PLACES)
            )
            pairs.append((text, "remove" if removed else "keep"))
    random.shuffle(pairs)
    return pairs


if __name__ == "__main__":
    with FILE.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("comment", "verdict"), *rows()])
