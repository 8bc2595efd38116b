"""What a sweep prints: the plan, the results, the failures, and what to do next."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from bias_transfer.config import cost, grid, modules
from bias_transfer.console import console, redacted, tell
from bias_transfer.spec import Trial
from bias_transfer.storage.cache import default_folder
from bias_transfer.sweep.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from bias_transfer.resolved import ResolvedTrial
    from bias_transfer.tracking.delivery import Sent, TrialEnd


def show_plugins(trials: Sequence[Trial]) -> None:
    """Each plugin with its file and digest."""
    named = sorted({trial.plugins for trial in trials if trial.plugins})
    for plugin in dict.fromkeys(plugin.described for given in named for plugin in modules.find_all(given)):
        tell(f"Plugin {plugin}")


def show_dry_run(plan: Plan, teraflops: float) -> None:
    """The trials as a table with their states, and what running them takes."""
    show_plan(plan)
    show_estimate(plan.todo, teraflops)


def show_plan(plan: Plan) -> None:
    """The trials as a table with their states."""
    table, states = Table("id", "trial", "state", title=f"{plan.experiment}: {len(plan.trials)} trials"), plan.states()
    for key, state in states.items():
        table.add_row(key, plan.labels[key].name, state)
    console().print(table)
    counts = [*states.values()]
    console().print(", ".join(f"{counts.count(state)} {state}" for state in ("done", "to do", "failed", "left out")))


def show_unresolved(experiment: str, trials: Sequence[Trial], why: str, teraflops: float) -> None:
    """The trials of a grid whose data or model is on a hub that cannot be reached: named and counted, without ids."""
    table = Table("trial", title=f"{experiment}: {len(trials)} trials")
    for name in grid.names(trials):
        table.add_row(name)
    console().print(table)
    tell(f"{len(trials)} trials. Their ids, and which of them are done, cannot be known here: {why}")
    show_estimate(trials, teraflops)


def show_estimate(trials: Sequence[Trial], teraflops: float) -> None:
    """GPU-hours of the trials, what the figure rests on, and what options add to it or save."""
    if any(trial.options.get("metric.multi_token") for trial in trials):
        tell(MULTI_TOKEN)
    further = {str(_further_files(trial)): further_texts(trial) for trial in trials}
    estimate = cost.gpu_hours(trials, teraflops, lambda trial: further[str(_further_files(trial))])
    fewer = [trial for trial in trials if cost.PER_TERM in trial.options]
    for trial in {(trial.options[cost.PER_TERM], trial.model): trial for trial in fewer}.values():
        _show_saving(trial, teraflops)
    if estimate is None:
        return
    assumed = f" {', '.join(estimate.unknown)} is taken for a base model." if estimate.unknown else ""
    tell(
        f"About {estimate.hours:.1f} GPU-hours ({60 * estimate.per_trial:.1f} minutes per trial on average): fine-tuning and "
        f"prediction on the task's published data, {_further_in_words([*further.values()])}and upstream arms that train, at "
        f"{estimate.teraflops:g} TFLOP/s sustained, which is assumed, not measured (--teraflops)." + assumed
    )


MULTI_TOKEN = (
    "metric.multi_token: VADER's lexicon has 4,904 words that are several tokens for SmolLM2, and they take half a million "
    "forward passes of a few tokens (2,074 for each of WIKI's 255 texts), about 50 minutes on one CPU core. That is once per "
    "model and upstream arm: further trials find the scores in the cache."
)


def _further_files(trial: Trial) -> tuple[object, ...]:
    """The task and the options that say which files `further_texts` reads."""
    return trial.task, trial.options_of("evaluate"), trial.options.get("metric.bbq")


def further_texts(trial: Trial) -> cost.FurtherTexts:
    """The words of each text of a trial's evaluation sets, and of BBQ's questions with each answer. Raises UserError for files
    that cannot be read."""
    evaluate, asked = trial.options_of("evaluate"), trial.options.get("metric.bbq")
    if not evaluate and asked is None:
        return cost.NOTHING_FURTHER  # without an import
    from bias_transfer.metrics import bbq  # late: these load torch, which --help does not wait for
    from bias_transfer.tasks import registry
    from bias_transfer.tasks.evaluation import reading

    task = registry.find(trial.task)[0]
    sets = reading.load(reading.resolve(evaluate, task), task).values()
    texts = [text for each in sets for text in each.examples["text"][:]]
    questions = bbq.read_questions(str(asked)) if asked is not None else ()
    pairs = [f"{question.prompt} {answer}" for question in questions for answer in question.answers]
    return cost.FurtherTexts(*(tuple(len(text.split()) for text in each) for each in (texts, pairs)))


def _further_in_words(further: Sequence[cost.FurtherTexts]) -> str:
    """What the estimate counts in addition to the task's own data; empty where that is nothing."""
    evaluated, asked = max(len(each.evaluated) for each in further), max(len(each.asked) for each in further)
    parts = [f"prediction of {evaluated:,} texts of evaluation sets, "] if evaluated else []
    if asked:
        parts.append(f"BBQ's {asked // 3:,} questions with three answers each, once per model and upstream arm, ")
    return "".join(parts)


def _show_saving(trial: Trial, teraflops: float) -> None:
    """What `metric.phrases_per_term` saves each trial with its value and model, and what it leaves out."""
    from bias_transfer.tasks.wiki.probe_sets import too_few  # late: it loads torch, which --help does not wait for

    asked, per_term = cost.phrases(trial), int(trial.options[cost.PER_TERM])
    text = (
        f"metric.phrases_per_term={per_term}: {asked:,} of the {cost.PHRASES:,} published identity and neutral phrases "
        f"({100 * asked / cost.PHRASES:.1f} %), the same in all arms and seeds."
    )
    if trial.model != "tiny":
        saved = cost.saved_operations(trial) / 1e12
        text += (
            f" Per trial of {trial.model} this saves {saved:.0f} x 10^12 operations: {saved / teraflops:.1f} s at "
            f"{teraflops:g} TFLOP/s, about {saved / cost.CPU_TERAFLOPS / 60:.1f} minutes on two CPU cores."
        )
    tell(" ".join([text, *too_few(per_term)]))


SHOWN = ("roc_auc", "accuracy", "upstream_mean", "dataset_mean", "downstream_mean", "downstream_sd")
"""Columns of the table of results."""

SHORT = 30
"""Longest arm name, in characters, that is kept on one line; a longer one is folded, so that no column of numbers is cut."""

REPORT, ANSWER = "report.html", "answer.txt"


def show_results(plan: Plan, headlines: pd.DataFrame) -> None:
    """Mean and SD over seeds of the headline metrics, one row per arm, and a simple baseline to compare them with."""
    if headlines.empty:
        return
    frame = headlines.assign(setting=_settings(headlines))
    # Settings are never averaged over: a LoRA trial and a full one of the same arm are different rows.
    keys = ["setting", "data", "model", "arm"]
    names = [name for name in SHOWN if name in headlines]
    table = Table(title="Mean over seeds (SD in brackets); by stage: mean and SD over groups of the primary measure")
    several = frame[keys[:3]].drop_duplicates().shape[0] > 1
    if several:
        table.add_column("setting", overflow="fold")
    short = headlines["arm"].str.len().max() <= SHORT
    table.add_column("arm", overflow="fold", no_wrap=short and not several)
    for name in ("seeds", *names):
        table.add_column(name.replace("_", "\n"), min_width=7)
    for key, rows in frame.groupby(keys, sort=False):
        cells = [_mean_sd(rows[name]) for name in names]
        table.add_row(*([str(key[0])] if several else []), str(key[3]), str(len(rows)), *cells)
    console().print(table)
    for warning in sorted({text for texts in headlines[headlines.upstream == "none"]["warnings"] for text in texts}):
        console().print(f"Warning: {warning}")


def _settings(headlines: pd.DataFrame) -> pd.Series[str]:
    """Task, model and tuning, and the data where they differ."""
    if len(set(headlines["data"])) == 1:
        return headlines["setting"]
    return headlines["setting"] + " " + headlines["data"].str.rstrip("/").str.rsplit("/", n=1).str[-1]


def _mean_sd(values: pd.Series[float]) -> str:
    mean = f"{values.mean():.3f}" if values.notna().any() else "missing"
    return f"{mean} ({values.std():.3f})" if values.notna().sum() > 1 else mean


def show_baselines(resolved: Sequence[ResolvedTrial]) -> None:
    """What a simple baseline reaches: one line per name of data, with a range where its options make several data sets."""
    from bias_transfer.memory import load_splits
    from bias_transfer.tasks.baseline import roc_auc

    aucs: dict[str, list[tuple[float, int]]] = {}
    for entry in {entry.keys.splits: entry for entry in resolved}.values():
        auc = roc_auc(entry.trial, partial(load_splits, entry), default_folder())
        aucs.setdefault(f"{entry.trial.task} {entry.trial.data}", []).append(auc)
    for name, values in aucs.items():
        low, high = f"{min(values)[0]:.3f}", f"{max(values)[0]:.3f}"
        shown = low if low == high else f"{low} to {high} over {len(values)} data sets"
        sizes = " or ".join(map(str, sorted({n for _, n in values})))
        tell(f"Baseline, TF-IDF and logistic regression on {name}: ROC AUC {shown} (n = {sizes})")


def show_failures(plan: Plan, failed: Mapping[str, str], command: str) -> None:
    """Each failed trial with its error and the command that runs it alone; command: what starts the sweep again."""
    trials = {trial.id: trial for trial in plan.trials}
    for trial_id, error in failed.items():
        tell(f"FAILED {trial_id} {plan.labels[trial_id].name}: {error.splitlines()[0]}")
        words = ["bias-transfer", "trial", *grid.command_line(trials[trial_id])]
        tell(f"  reproduce: {shlex.join(words)}")
    if failed:
        trials_failed = "1 trial" if len(failed) == 1 else f"{len(failed)} trials"
        tell(f"{trials_failed} failed. Fix the cause, then rerun: {command} --retry-failed")


def show_report(plan: Plan, uri: str, attached: Sequence[str]) -> None:
    """Make the report of a complete sweep, unless its parent run has it already, and say where it is.

    A separate process makes it, since `analysis` is a package that knows nothing of running trials. If that process fails, its
    error is printed, and the sweep still counts as complete.
    """
    where = f"with the parent run in MLflow: report/{REPORT}"
    if REPORT in attached:
        tell(f"Report: {where} (bias-transfer analyse {plan.experiment} makes it again)")
        return
    out = Path("results") / plan.experiment
    console(stderr=True).print("Making the report ...")
    words = [sys.executable, "-m", "analysis", plan.experiment, "--out", str(out), "--attach"]
    # The URI may hold a password: in the environment, since other users can read the words of a command.
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our words
    if ended.returncode:
        reason = (ended.stderr.strip() or "no message").splitlines()[-1]
        tell(f"The report could not be made: {reason}")
    else:
        tell(f"\n{(out / ANSWER).read_text(encoding='utf-8')}")
        tell(f"Report: {out / REPORT} (open it in a browser; figures and tables are next to it), and {where}")


def show_next(plan: Plan, uri: str, missing: int) -> None:
    """Where the results are, and what to do next."""
    from bias_transfer.tracking import store  # it loads MLflow, which --help does not wait for

    shown = redacted(uri)
    local = not shown.startswith("http")
    hint = f" (to browse them: mlflow ui --backend-store-uri {shown})" if local else ""
    flag = " --allow-missing" if missing else ""
    tell(f"Runs: experiment {plan.experiment!r} in {shown}{hint}")
    if missing:
        console().print(f"Missing: {missing} of {len(plan.trials)} trials; start the sweep again to run them")
    command = f"bias-transfer analyse {plan.experiment}{flag}{store.option(uri)}"
    tell(f"Analysis: {command} (writes the report, figures and tables of all measures)")


def show_incomplete(plan: Plan, outcomes: Mapping[str, TrialEnd]) -> None:
    """Each trial that ended without a result because of its machine (a full disk, a lost process), and why."""
    incomplete = {key: outcome.why for key, outcome in outcomes.items() if outcome.state == "incomplete"}
    for key, why in incomplete.items():
        tell(f"NOT RUN {key} {plan.labels[key].name}: {why}")
    if incomplete:
        tell(f"{len(incomplete)} trials were not run. Fix the cause, then start the sweep again: it runs them.")


def show_sent(sent: Sent) -> None:
    """What became of the results that waited in the outbox."""
    if sent.sent:
        tell(f"Sent {sent.sent} results that had waited in the outbox while MLflow was unreachable.")
    for line in sent.left:
        tell(f"NOT SENT {line}")


def show_pending(plan: Plan, pending: Sequence[TrialEnd], uri: str) -> None:
    """How many results wait in the outbox, where it is, and how they are sent."""
    from bias_transfer.tracking import store

    if not pending:
        return
    places = sorted({outcome.place for outcome in pending})
    command = f"bias-transfer sync {shlex.quote(plan.experiment)}{store.option(uri)}"
    tell(
        f"{len(pending)} results are pending: MLflow was unreachable ({pending[0].why}). They wait in the outbox "
        f"{', '.join(places)}. When MLflow is reachable, send them: {command} (or rerun the sweep: it sends them first, and "
        f"does not run those trials again)."
    )


def show_unreachable(plan: Plan, pending: Sequence[TrialEnd], uri: str, why: str) -> None:
    """The sweep has ended, and MLflow cannot be asked about its results."""
    tell(f"All trials have ended, but MLflow at {redacted(uri)} is unreachable: {why}")
    show_pending(plan, pending, uri)
    if not pending:
        tell(
            "Nothing is lost: all results were recorded before. Rerun the sweep when MLflow is reachable, for its tables."
        )
