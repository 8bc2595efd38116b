"""The model card of an exported checkpoint: which trial it is of, what was measured, what it is not, and how it is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bias_transfer.models import hub
from bias_transfer.models.language_model import Kind
from bias_transfer.spec import HELDOUT_LOSSES, NUMERICS, Measure, Trial
from bias_transfer.tasks.base import by_group

Stage = Literal["upstream", "finetuned"]

CLASSES = {
    ("upstream", "masked"): ("AutoModelForMaskedLM", "fill-mask"),
    ("upstream", "causal"): ("AutoModelForCausalLM", "text-generation"),
    ("finetuned", "masked"): ("AutoModelForSequenceClassification", "text-classification"),
    ("finetuned", "causal"): ("AutoModelForSequenceClassification", "text-classification"),
}
"""(stage, kind) -> transformers' class, and the hub's name for what the model does."""

PACKAGED = {"smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Model that a package brings -> (its hub id, its license)."""

UNKNOWN = "No finished run of this trial was found in MLflow, so its measures are not known here."

UTILITY = ("accuracy", "macro_f1", "roc_auc")


@dataclass(frozen=True)
class Exported:
    """What a card is about."""

    trial: Trial
    """Resolved."""
    name: str
    stage: Stage
    kind: Kind
    start: str | None
    """The token that a causal model reads before a text, if it reads one."""
    folded: bool
    """Whether a projection was folded into the head."""


def card(exported: Exported, measures: Sequence[Measure], primary: Mapping[str, str]) -> str:
    """The card as Markdown with its YAML front matter. measures: of the trial, if they are known; primary: the task's, stage ->
    metric."""
    parts = [
        _front_matter(exported),
        f"# {_plain(exported.name)}",
        _introduction(exported),
        "## Trial",
        _fields(exported.trial),
        "## Measures",
        _measures(exported, measures, primary) if measures else UNKNOWN,
        "## Limits",
        "\n".join(f"- {text}" for text in _limits(exported)),
        "## Use",
        _use(exported),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(exported: Exported) -> str:
    trial = exported.trial
    base, license_ = _base(trial.model)
    tags = ["bias-transfer", *(name for name in (trial.upstream, trial.downstream) if name != "none")]
    lines = {
        "license": license_,
        **({"base_model": base} if base else {}),
        "library_name": "transformers",
        "pipeline_tag": CLASSES[exported.stage, exported.kind][1],
    }
    text = [f"{key}: {json.dumps(value)}" for key, value in lines.items()]
    return "\n".join(["---", *text, "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---"])


def _base(model: str) -> tuple[str, str]:
    """(hub id of the model that the trial started from, its license); empty for a model that is not on the hub."""
    if model in PACKAGED:
        return PACKAGED[model]
    path = Path(model)
    if path.exists() or model == "tiny" or not hub.HUB_ID.fullmatch(model):
        return "", _license(path / "README.md")
    return model.partition("@")[0], "unknown"


def _license(readme: Path) -> str:
    """The license that a checkpoint folder's own card names."""
    try:
        front = readme.read_text(encoding="utf-8").split("---")[1]
    except (OSError, UnicodeDecodeError, IndexError):
        return "unknown"
    found = re.search(r"^license:\s*([\w.-]+)\s*$", front, re.MULTILINE)
    return found[1] if found else "unknown"


def _introduction(exported: Exported) -> str:
    trial, model = exported.trial, _code(_short(exported.trial.model))
    arms = {"upstream": trial.upstream, "downstream": trial.downstream}
    if exported.stage == "upstream":
        what = f"The language model {model} after the upstream intervention {_code(arms['upstream'])}, before any fine-tuning."
        if arms["upstream"] == "none":
            what = f"The language model {model} as it was before fine-tuning; the trial has no upstream intervention."
    else:
        what = (
            f"A classifier of the task {_code(_short(trial.task))}, fine-tuned from {model} with the upstream intervention "
            f"{_code(arms['upstream'])} and the downstream intervention {_code(arms['downstream'])}."
        )
    return (
        f"{what} It was exported by bias-transfer, a platform that tests whether the biases of a pre-trained model become harm "
        "after fine-tuning (after Steed et al., [ACL 2022](https://doi.org/10.18653/v1/2022.acl-long.247))."
    )


def _fields(trial: Trial) -> str:
    values = {key: value for key, value in trial.model_dump(exclude_none=True).items() if key != "options"}
    shown = {name: _short(str(values[name])) if name in ("task", "data", "model") else values[name] for name in values}
    options = {key: value for key, value in trial.options.items() if not isinstance(value, str) or "/" not in value}
    rows = {"id": trial.id, "numerics": NUMERICS, **shown, **options}
    return "\n".join(
        ["| field | value |", "| --- | --- |", *(f"| {_plain(key)} | {_code(value)} |" for key, value in rows.items())]
    )


def _measures(exported: Exported, measures: Sequence[Measure], primary: Mapping[str, str]) -> str:
    stages = ("upstream",) if exported.stage == "upstream" else ("upstream", "dataset", "downstream")
    rows = [row for stage in stages if stage in primary for row in _over_groups(stage, primary[stage], measures)]
    overall = [row for row in measures if not row.group and not row.template]
    wanted = HELDOUT_LOSSES if exported.stage == "upstream" else (*HELDOUT_LOSSES, *UTILITY)
    rows += [
        (row.stage, row.metric, row.value, f"{row.n} {'tokens' if row.metric in HELDOUT_LOSSES else 'examples'}")
        for row in overall
        if row.metric in wanted
    ]
    lines = [f"| {stage} | {_plain(metric)} | {_number(value)} | {n} |" for stage, metric, value, n in rows]
    return "\n".join(
        [
            "As the trial recorded them in MLflow. Means and SDs are over groups (identity terms or occupations).",
            "",
            "| stage | metric | value | n |",
            "| --- | --- | --: | --- |",
            *lines,
        ]
    )


def _over_groups(stage: str, metric: str, measures: Sequence[Measure]) -> list[tuple[str, str, float, str]]:
    values = [value for value in by_group(measures, stage, metric).values() if not math.isnan(value)]
    mean = math.fsum(values) / len(values) if values else math.nan
    spread = (
        math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        if len(values) > 1
        else math.nan
    )
    return [
        (stage, f"{metric}, {name}", value, f"{len(values)} groups") for name, value in (("mean", mean), ("SD", spread))
    ]


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.4g}"


def _limits(exported: Exported) -> list[str]:
    trial = exported.trial
    texts = [
        "It is one trial of an experiment: one seed, one checkpoint, one set of training settings. A claim about an "
        "intervention takes the experiment's paired seeds, and a claim about pre-training several pre-trained models.",
        "It was made to study bias and may hold more of it than other models. A measure near zero is no evidence that a model "
        "is free of bias. Do not use it to judge people.",
        "The license is that of the base model and the data, which has to be looked up where it is given as unknown.",
    ]
    if trial.model == "tiny":
        texts.append(
            "`tiny` is a stand-in that was pre-trained on the task's own text: its scores say nothing of real models."
        )
    if exported.stage == "upstream":
        texts.append(
            "The intervention was applied again for this export: the same bits only on the same kind of machine."
        )
    if trial.precision != "fp32" and exported.stage == "finetuned":
        texts.append(
            f"The trial computed in {trial.precision} autocast, and here the weights run in fp32: logits differ by rounding."
        )
    if exported.folded:
        texts.append(
            "A projection of the last hidden states is folded into the first layer of the head: the classifier computes what "
            "the trial's did, but the encoder's own states are those before the projection."
        )
    if exported.kind == "causal":
        first = f"`{exported.start}`, which the tokenizer puts before each text" if exported.start else "no start token"
        texts.append(f"The model was measured with {first}. Keep it that way (`add_special_tokens`).")
    if (exported.stage, exported.kind) == ("finetuned", "causal"):
        texts.append(
            "The classifier reads the last token of a text that is not the padding token, found by its id: pad on the right, "
            "and do not end a text with that token."
        )
    return texts


def _use(exported: Exported) -> str:
    auto = CLASSES[exported.stage, exported.kind][0]
    cut = "truncation=True, " if exported.stage == "finetuned" else ""  # to the length that the tokenizer has
    return "\n".join(
        [
            "```python",
            f"from transformers import {auto}, AutoTokenizer",
            "",
            f'tokenizer, model = AutoTokenizer.from_pretrained("FOLDER"), {auto}.from_pretrained("FOLDER")',
            f'batch = tokenizer(["a text", "another"], {cut}padding=True, return_tensors="pt")',
            "logits = model(**batch).logits",
            "```",
        ]
    )


def _short(name: str) -> str:
    """A name without the folders that it is stored in: of a file its name, of a folder or a hub id the last two parts."""
    return Path(name).name if Path(name).is_file() else "/".join(Path(name).parts[-2:])


def _code(value: object) -> str:
    return f"`{_plain(str(value))}`"


def _plain(text: str) -> str:
    """Text that ends no code span, no cell of a table and no line."""
    return re.sub(r"[`|\x00-\x1f\x7f]", " ", text)
