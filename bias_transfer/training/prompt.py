"""Adaptation by a prompt (`tuning: prompt`): no weight changes, and the causal language model itself is asked for the class.

Examples of the treated training set stand before each text, so that a downstream arm reaches the outcome through them. What
stands before the text is read once per trial (`models.continuations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from bias_transfer.errors import UserError, first_line
from bias_transfer.hashing import derive_seed
from bias_transfer.models import continuations, prompts
from bias_transfer.models.batching import shared_beginning
from bias_transfer.models.continuations import Beginning
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.prompts import Answers, Prompt, PromptFormat
from bias_transfer.spec import Measure, Option, Trial
from bias_transfer.training import finetune
from bias_transfer.training.sampling import shuffled
from bias_transfer.training.tuning import PromptOptions

CHUNK = 4096
"""Texts that are tokenised at a time: whole prompts, the shots of which are dropped at once."""


@dataclass(frozen=True)
class Asked:
    """How a trial asks."""

    form: PromptFormat
    """With the answers of all classes."""
    options: PromptOptions


def check_shots(asked: Asked, downstream: str) -> None:
    """Raises UserError for a number of shots that no data can give, or that leaves the downstream arm without effect."""
    shots, classes = asked.options.shots, len(asked.form.answers)
    if shots == 0 and downstream != "none":
        raise UserError(
            f"tuning.shots: 0 with the downstream arm {downstream}: an arm on the training set reaches a prompt through its "
            "examples alone. Allowed: shots of 1 or more, or downstream: none."
        )
    if not asked.form.per_class and shots > classes:
        raise UserError(
            f"tuning.shots: {shots} examples, each of another class, and the task has {classes} classes. Allowed: 0 to "
            f"{classes}."
        )


@dataclass(frozen=True)
class Shots:
    """The examples that stand before each text, in their order."""

    ids: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """(text, cut to `tuning.shot_tokens`; answer)."""

    def changed(self, untreated: Shots) -> int:
        """How many of them are not among those that the untreated training set gives."""
        return (Counter(self.pairs) - Counter(untreated.pairs)).total()


def draw(model: LanguageModel, train: Dataset, asked: Asked, seed: int) -> Shots:
    """The shots from a training set, or as many of them as it has: of each class the examples with the lowest hash of (seed,
    id), in the order of another such hash.

    An example that an arm leaves alone keeps its hashes, so arms share their shots, and the order, as far as they can.
    """
    form, options, hash_seed = asked.form, asked.options, derive_seed(seed, "prompt")
    ids, labels = train["id"][:], train["label"][:]
    of_class, in_all = (options.shots, len(train)) if form.per_class else (1, options.shots)
    counted, chosen = Counter[int](), list[int]()
    for index in shuffled(ids, hash_seed, 0):
        if counted[labels[index]] < of_class and len(chosen) < in_all:
            counted[labels[index]] += 1
            chosen.append(index)
    # In the order of the first hash, the examples of a rare class would always come last, next to the text.
    chosen = [chosen[place] for place in shuffled([ids[index] for index in chosen], hash_seed, 1)]
    texts = prompts.cut(model.tokenizer, [train["text"][index] for index in chosen], options.shot_tokens)
    answers = [form.answers[labels[index]] for index in chosen]
    return Shots(tuple(ids[index] for index in chosen), tuple(zip(texts, answers, strict=True)))


def _check_drawn(shots: Shots, asked: Asked) -> None:
    """Raises UserError if the training set has fewer examples than shots are asked for."""
    wanted, counted = asked.options.shots, Counter(answer for _, answer in shots.pairs)
    if asked.form.per_class and (least := min(counted[answer] for answer in asked.form.answers)) < wanted:
        answer = next(answer for answer in asked.form.answers if counted[answer] == least)
        raise UserError(
            f"tuning.shots: {wanted} examples of each class, and the training set, after its downstream arm, has {least} whose "
            f"answer is {answer!r}. Allowed: at most {least}."
        )
    if not asked.form.per_class and counted.total() < wanted:
        raise UserError(
            f"tuning.shots: {wanted} examples, each of another class, and the training set, after its downstream arm, has "
            f"examples of {counted.total()} classes. Allowed: at most {counted.total()}."
        )


@dataclass(frozen=True)
class Built:
    """A prompt that is ready to be read."""

    asked: Asked
    prompt: Prompt
    answers: Answers
    shots: Shots
    chat: bool
    before: Sequence[int]
    """Token ids of what stands before the text, as far as they do not depend on it."""


def build(model: LanguageModel, train: Dataset, asked: Asked, trial: Trial) -> Built:
    """The trial's prompt. train: the treated training set.

    Raises UserError for shots that the set does not have, a chat template that is missing or cannot be used, answers that
    cannot be told apart, and a prompt longer than the model's context.
    """
    form, options, shots = asked.form, asked.options, draw(model, train, asked, trial.seed)
    _check_drawn(shots, asked)
    has_template = bool(model.tokenizer.chat_template)
    if options.chat is True and not has_template:
        raise UserError(f"tuning.chat: the tokenizer of {trial.model} has no chat template. Leave the option out.")
    chat = has_template if options.chat == "auto" else options.chat
    prompt = _chat(model, form, shots) if chat else prompts.plain(form, shots.pairs)
    answers = prompts.answers(model.tokenizer, prompt, form)
    rows = prompt.rows(model.tokenizer, ["a", "0"])
    _check_length(model, len(rows[0]) + max(map(len, answers.tails)), trial.max_tokens)
    return Built(asked, prompt, answers, shots, chat, rows[0][: shared_beginning(rows)])


def _chat(model: LanguageModel, form: PromptFormat, shots: Shots) -> Prompt:
    try:
        return prompts.chat(model.tokenizer, form, shots.pairs)
    except Exception as error:  # a template is a program, which raises what it likes
        raise UserError(
            f"tuning.chat: the model's chat template cannot be used: {first_line(error)}. Set chat: false for a prompt without "
            "it."
        ) from error


def _check_length(model: LanguageModel, around: int, max_tokens: int) -> None:
    """around: tokens of the prompt but for the text."""
    positions = getattr(model.lm.config, "max_position_embeddings", None)
    if positions is not None and around + max_tokens > positions:
        raise UserError(
            f"tuning: prompt: with a text of max_tokens ({max_tokens}) the prompt has {around + max_tokens} tokens, which "
            f"exceeds the model's positions ({positions}). Lower tuning.shots, tuning.shot_tokens or max_tokens."
        )


@dataclass(frozen=True, eq=False)
class Prompted:
    """A language model with its prompt, which classifies texts."""

    model: LanguageModel
    built: Built
    beginning: Beginning
    trial: Trial
    device: str

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, classes), fp32: log-likelihoods of the classes' answers (`prompts.Answers.logits`)."""
        found = [self._logits(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
        return np.concatenate(found) if found else np.empty((0, len(self.built.answers.classes)), np.float32)

    def _logits(self, texts: Sequence[str]) -> np.ndarray:
        lm, tokenizer, answers = self.model.lm, self.model.tokenizer, self.built.answers
        rows = self.built.prompt.rows(tokenizer, prompts.cut(tokenizer, texts, self.trial.max_tokens))
        shared = shared_beginning([[*self.beginning.tokens], *rows])
        with finetune.evaluating(lm, self.trial, self.device) as tokens:
            # A text may be read together with the last token before it.
            whole = shared == len(self.beginning.tokens)
            beginning = self.beginning if whole else continuations.read(lm, self.beginning.tokens[:shared])
            own = [row[shared : len(row) - answers.replaced] for row in rows]
            return answers.logits(continuations.log_likelihoods(lm, beginning, own, answers.tails, tokens))


def prompted(model: LanguageModel, built: Built, trial: Trial, device: str) -> Prompted:
    """The classifier that the prompt makes of the model; what stands before the text is read here, once."""
    with finetune.evaluating(model.lm, trial, device):
        return Prompted(model, built, continuations.read(model.lm, built.before), trial, device)


def facts(built: Built, changed: int | None) -> dict[str, Option]:
    """Facts of a trial by prompt. changed: shots that its downstream arm changed or replaced; None without an arm."""
    return {
        "steps": 0,
        "tokens.prompt": len(built.before),
        "prompt.examples": ", ".join(built.shots.ids),
        "prompt.chat": built.chat,
        **({} if changed is None else {"prompt_changed": changed > 0}),
    }


def reached(built: Built, changed: int) -> Measure:
    """`prompt_changed`: the share of the shots that the downstream arm changed or replaced. n: shots."""
    count = len(built.shots.ids)
    return Measure("dataset", "prompt_changed", "", "", changed / count, count)
