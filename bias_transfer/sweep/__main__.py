"""A grid of trials, scheduled by Ray Tune and recorded in MLflow.

python -m bias_transfer.sweep tune_configs/wiki_small.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.config import cost
from bias_transfer.config import grid
from bias_transfer.cluster import submit
from bias_transfer.console import CheckpointMinutes
from bias_transfer.console import TrackingUri
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.sweep.ray_cluster import cluster_address
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.sweep.plan import Wanted
from bias_transfer.sweep.plan import check_all
from bias_transfer.sweep.plan import make_plan
from bias_transfer.sweep.plan import resolve_all
from bias_transfer.sweep.plan import slow_here
from bias_transfer.sweep.plan import unreachable
from bias_transfer.sweep.tune import Resources
from bias_transfer.sweep.tune import check_address
from bias_transfer.sweep.display import show_estimate
from bias_transfer.sweep.display import show_plan
from bias_transfer.sweep.display import show_unresolved
from bias_transfer.sweep.worker import PATIENCE

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

QUICKSTART = Path(__file__).parents[1] / "tune_configs" / "quickstart.yaml"


@app.command(context_settings={"max_content_width": 110})
def main(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Argument(
            metavar="[CONFIG]",
            help="A YAML grid; its name is the experiment's.",
            show_default="tune_configs/quickstart.yaml",
        ),
    ] = QUICKSTART,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials (done, to do, failed) and the GPU-hours, and stop.")
    ] = False,
    teraflops: Annotated[
        float, typer.Option(min=0.001, help="With --dry-run: what one GPU sustains, for the estimate of GPU-hours.")
    ] = cost.TERAFLOPS,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most so many trials now.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Keep only the trials that match; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field of every trial; repeatable."),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run trials again that failed before.")] = False,
    tracking_uri: TrackingUri = None,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster: auto or HOST:PORT (default: RAY_ADDRESS, or one started here)."),
    ] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(min=0, help="Cores a trial (default: its threads).")] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="GPUs a trial; fractions share one (default: 1 where there are any).")
    ] = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    patience: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long a result waits for a store that is away before it is kept on disk."
        ),
    ] = PATIENCE,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Run at most so many trials at a time.")] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Run it on the cluster that `ray up FILE` started, and follow it."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Whether a complete sweep ends with its report.")
    ] = True,
) -> None:
    """Run a grid of trials; a second start runs only what is missing.

    \b
    python -m bias_transfer.sweep                                   # the embedded quickstart
    python -m bias_transfer.sweep tune_configs/wiki_small.yaml --set data=FOLDER --dry-run
    python -m bias_transfer.sweep CONFIG --only upstream=perturb --only seed=0 --limit 2
    python -m bias_transfer.sweep --cluster cluster.yaml CONFIG --gpus-per-trial 0.25
    """
    with user_errors():
        if cluster:
            raise typer.Exit(submit.run(cluster, config, submit.words(context)))
        from bias_transfer.tracking import store

        uri, read = store.tracking_uri(tracking_uri), grid.load(config)
        trials = grid.override(read.trials, set_ or [])
        if dry_run and (why := unreachable(trials)):
            show_unresolved(config.stem, grid.only(trials, only) if only else trials, why, teraflops)
            return
        wanted = Wanted(config.stem, resolve_all(trials), read.analysis, tuple(only or ()), limit, retry_failed)
        plan = make_plan(wanted, uri)
        if dry_run:
            show_plan(plan)
            show_estimate(plan.todo, teraflops)
            return
        if hint := submit.hint(config, address):
            tell(hint)
        if plan.todo:
            check_address(address)
            check_all(plan.todo)
            if not cluster_address(address) and (slow := slow_here(plan.todo)):
                tell(slow)
        from bias_transfer.sweep.driver import run

        resources = Resources(
            address,
            cpus_per_trial,
            gpus_per_trial,
            fail_fast,
            uri,
            report,
            patience,
            checkpoint_minutes,
            max_concurrent,
        )
        status = run(wanted, resources, config, set_ or [])
    raise typer.Exit(status)


if __name__ == "__main__":
    app()
