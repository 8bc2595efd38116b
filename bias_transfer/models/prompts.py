"""Prompts: how a causal language model is asked for the class of a text, and what of its answer is scored.

The words of the prompts are ours (docs/science.md, "Adaptation").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.models.batching import Tokens, shared_beginning

TEXT = "{text}"
"""The place of the text in a question."""

FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Goes before a chat template: some of them tell the model today's date, and the same trial would give other numbers
tomorrow. (It is the date that Llama's templates name where they cannot ask for today's.)"""


@dataclass(frozen=True)
class PromptFormat:
    """How a task asks for the class of a text."""

    question: str = f"Text: {TEXT}\nClass:"
    """The text, and what stands before its answer."""
    answers: tuple[str, ...] = ()
    """The answer of each class; none: the classes' names."""
    forms: tuple[tuple[str, ...], ...] = ()
    """The forms of each class's answer whose first tokens are scored, their probabilities added up; none: answers are scored
    whole, by the mean log-likelihood of their tokens."""
    per_class: bool = False
    """Whether k shots are k examples of each class; else they are k in all, each of another class."""

    def asked(self, text: str) -> str:
        """The question about a text."""
        return self.question.replace(TEXT, text)


@dataclass(frozen=True)
class Prompt:
    """What stands around each text."""

    before: str
    after: str
    lead: str
    """What is between the question and its answer."""

    def rows(self, tokenizer: Any, texts: Sequence[str]) -> Tokens:
        """Token ids of the whole prompt with each text in it."""
        whole = [self.before + text + self.after for text in texts]
        # verbose would say that prompts are long
        return list(tokenizer(whole, return_attention_mask=False, verbose=False)["input_ids"])


def plain(form: PromptFormat, shots: Sequence[tuple[str, str]]) -> Prompt:
    """Questions with their answers, separated by a blank line, and the question about the text. shots: (text, answer)."""
    answered = "".join(f"{form.asked(text)} {answer}\n\n" for text, answer in shots)
    start, _, end = form.question.partition(TEXT)
    return Prompt(answered + start, end, " ")


def chat(tokenizer: Any, form: PromptFormat, shots: Sequence[tuple[str, str]]) -> Prompt:
    """The same by the model's own chat template: each question is a turn of the user, each answer one of the assistant.

    Raises ValueError for a template that leaves the question, an example or an answer out, and whatever the template raises.
    """
    turns = [turn for text, answer in shots for turn in _turns(form.asked(text), answer)]
    turns.append({"role": "user", "content": form.question})
    rendered = tokenizer.apply_chat_template(
        turns,
        chat_template=FIXED_DATE + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,  # a model that thinks before it answers is asked to answer at once
    )
    _check_rendered(rendered, turns)
    # Each turn after the system's has its question; the last {text} is that of the question that awaits an answer.
    before, _, after = rendered.rpartition(TEXT)
    # The tokenizer puts the start token before every text, and some templates write it too.
    start = "".join(tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"]))
    return Prompt(before.removeprefix(start), after, "")


def _check_rendered(rendered: str, turns: Sequence[Mapping[str, str]]) -> None:
    """Raises ValueError for a turn of which the template leaves something out; space around it may go."""
    place = 0
    for turn in turns:
        start = rendered.find(turn["content"].strip(), place)
        if start < 0:
            part = {"user": "the question", "assistant": "the answer of an example"}[turn["role"]]
            raise ValueError(f"it leaves out, or rewrites, {part} {turn['content']!r}")
        place = start + len(turn["content"].strip())


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def cut(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """The beginning of each text, of at most `tokens` tokens; special tokens do not count."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, truncation=True, max_length=tokens + 1, return_offsets_mapping=True
    )
    return [
        text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]
        for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
    ]


@dataclass(frozen=True)
class Answers:
    """What may follow a prompt, as tokens."""

    replaced: int
    """Number of a prompt's last tokens that are read otherwise where an answer follows; mostly 0."""
    tails: Tokens
    """What may stand in their place."""
    classes: Sequence[Sequence[int]]
    """The tails of each class."""
    whole: bool
    """Whether a tail is a whole answer, and not the beginning of one."""

    def logits(self, likelihoods: np.ndarray) -> np.ndarray:
        """(texts, classes), fp32, of the log-likelihoods of the tails, (texts, tails): whole answers by their mean over tokens,
        beginnings by ln of their summed probability."""
        lengths = np.array([len(tail) if self.whole else 1 for tail in self.tails])
        scores = likelihoods / lengths
        summed = [np.logaddexp.reduce(scores[:, list(numbers)], axis=1) for numbers in self.classes]
        return np.stack(summed, axis=1).astype(np.float32)


def answers(tokenizer: Any, prompt: Prompt, form: PromptFormat) -> Answers:
    """The tokens of all answers, read in their place after a prompt.

    Of forms, beginnings that are equal count once, and those that two classes share are dropped. Raises UserError for answers
    that the tokenizer does not know or cannot tell apart.
    """
    written = [[lead + word for word in words for lead in ("", " ")] for words in form.forms]
    written = written or [[prompt.lead + answer] for answer in form.answers]
    replaced, tails = _tails(tokenizer, prompt, [text for texts in written for text in texts], bool(form.forms))
    remaining = iter(tails)
    by_class = [list(dict.fromkeys(next(remaining) for _ in texts)) for texts in written]
    counted = Counter(tail for tails in by_class for tail in tails)
    if not form.forms:
        _check_whole(form.answers, by_class, counted, tokenizer.unk_token_id)
    own = [[tail for tail in tails if counted[tail] == 1] for tails in by_class]
    if not all(own):
        raise UserError(
            f"tuning: prompt: the tokenizer begins all forms of the answers {' and '.join(form.answers)} alike, so that they "
            "cannot be told apart by their first tokens. Use a model with another tokenizer."
        )
    number = {tail: place for place, tail in enumerate(tail for tails in own for tail in tails)}
    classes = [[number[tail] for tail in tails] for tails in own]
    return Answers(replaced, [list(tail) for tail in number], classes, not form.forms)


def _tails(tokenizer: Any, prompt: Prompt, texts: Sequence[str], first: bool) -> tuple[int, list[tuple[int, ...]]]:
    """How many of a prompt's last tokens are read otherwise where one of the texts follows, and the tokens of each text with
    what stands in their place. first: up to the text's first token."""
    asked = f"{prompt.before}a{prompt.after}"
    (row,) = prompt.rows(tokenizer, ["a"])
    encoded = tokenizer([asked + text for text in texts], return_offsets_mapping=True, verbose=False)
    kept = min(shared_beginning([row, other]) for other in encoded["input_ids"])
    tails = []
    for other, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        place = next(place for place, (_, end) in enumerate(offsets) if end > len(asked))
        tails.append(tuple(other[kept : place + 1 if first else len(other)]))
    return len(row) - kept, tails


def _check_whole(
    names: Sequence[str],
    by_class: Sequence[list[tuple[int, ...]]],
    counted: Counter[tuple[int, ...]],
    unknown: int | None,
) -> None:
    for name, (tail,) in zip(names, by_class, strict=True):
        if unknown is not None and unknown in tail:
            raise UserError(
                f"tuning: prompt: the tokenizer's vocabulary has no entry for a part of the answer {name!r}. Use another model."
            )
        if counted[tail] > 1:
            raise UserError(
                f"tuning: prompt: the tokenizer reads the answer {name!r} as the same tokens as that of another class. Use a "
                "model with another tokenizer, or other names of the classes."
            )
