"""python -m benchmarks.performance.prompt_prefix: prompts about phrases, whose shots are read once, against whole prompts."""

from __future__ import annotations

import os
import platform
import time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import LlamaConfig

from benchmarks import docs_blocks
from bias_transfer.console import application, console, tell, user_errors
from bias_transfer.determinism import seeded, using_threads
from bias_transfer.memory import load_splits
from bias_transfer.models import language_model, start_token
from bias_transfer.models.batching import equal_length_batches
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.resolved import resolve
from bias_transfer.spec import Trial, parse_trial
from bias_transfer.tasks.wiki.probe_sets import phrases
from bias_transfer.training import finetune, lm_training, prompt
from bias_transfer.training.tuning import PromptOptions

SHAPE: dict[str, Any] = {
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
}
"""SmolLM2's (135 million parameters), but for the number of layers."""


def main(
    count: Annotated[int, typer.Option("--phrases", min=1, help="Identity phrases.")] = 300,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the model (SmolLM2: 30).")] = 6,
    shots: Annotated[int, typer.Option(min=0, help="Comments of each class before each phrase.")] = 4,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Time both on a llama with random weights, in the same process, with the same batches of one length.

    \b
    python -m benchmarks.performance.prompt_prefix --write
    python -m benchmarks.performance.prompt_prefix --phrases 40 --layers 2      # a quick look
    """
    with user_errors(), using_threads(1), torch.inference_mode():
        trial = resolve(parse_trial({"tuning": "prompt", "tuning.shots": shots, "precision": precision}))
        splits, texts = load_splits(trial), phrases().shuffle(seed=0)["text"][:count]
        model = fresh(splits.pretraining, layers)
        built = prompt.build(
            model, splits.train, prompt.Asked(trial.task.asks, PromptOptions(shots=shots)), trial.trial
        )
        start = time.process_time()
        reused = prompt.prompted(model, built, trial.trial, "cpu").logits(texts)
        half = time.process_time()
        whole = plainly(model, built, texts, trial.trial)
        seconds = half - start, time.process_time() - half
    text = (
        f"{platform.machine()} CPU with {os.cpu_count()} cores, 1 thread, {precision}. Written by `python -m "
        f"benchmarks.performance.prompt_prefix --write`.\n\n"
        "| model | shots per class | tokens before the phrase | phrases | whole prompts, CPU s | shots read once, CPU s "
        "| factor | largest difference of logits |\n| --- | --: | --: | --: | --: | --: | --: | --: |\n"
        f"| llama ({layers} x {SHAPE['hidden_size']}) | {shots} | {len(built.before)} | {len(texts)} | {seconds[1]:.1f} | "
        f"{seconds[0]:.1f} | {seconds[1] / seconds[0]:.1f} | {np.abs(whole - reused).max():.1e} |"
    )
    console().print(text)
    if keep:
        docs_blocks.put("prompt prefix", text, docs_blocks.PERFORMANCE)
        tell(f"Wrote the table into {docs_blocks.PERFORMANCE}.")


def fresh(texts: tuple[str, ...], layers: int) -> LanguageModel:
    """A llama of SmolLM2's width with random weights and a tokenizer of the texts."""
    tokenizer = lm_training.train_tokenizer(texts, 8000)
    start_token.put(tokenizer, None, len(tokenizer))
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=layers, **SHAPE)
    with seeded(0), language_model.quiet():
        lm = language_model.AUTO["causal"].from_config(config, dtype=torch.float32).eval()
    return LanguageModel(tokenizer, lm, None, "causal")


def plainly(model: LanguageModel, built: prompt.Built, texts: list[str], trial: Trial) -> np.ndarray:
    """The same logits by whole prompts, of which the last token alone goes through the language-model head."""
    rows = built.prompt.rows(model.tokenizer, texts)
    first = [tail[0] for tail in built.answers.tails]
    found = np.empty((len(rows), len(first)), np.float32)
    with finetune.evaluating(model.lm, trial, "cpu") as tokens:
        for chosen in equal_length_batches([*map(len, rows)], lambda length: max(1, tokens // length)):
            logits = model.lm(torch.tensor([rows[index] for index in chosen]), use_cache=False, logits_to_keep=1).logits
            found[chosen] = logits[:, -1].float().log_softmax(dim=-1)[:, first].numpy()
    return built.answers.logits(found)


if __name__ == "__main__":
    application(main)()
