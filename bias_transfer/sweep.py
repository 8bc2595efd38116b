"""A grid of trials, scheduled by Ray Tune and recorded in MLflow.

python -m bias_transfer.sweep tune_configs/wiki_small.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer import estimate, grid, remote
from bias_transfer.console import CheckpointMinutes, TrackingUri, tell, user_errors
from bias_transfer.ray_access import cluster_address
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.sweep_plan import Wanted, check_all, make_plan, resolve_all, slow_here, unreachable
from bias_transfer.sweep_ray import Resources, check_address
from bias_transfer.sweep_report import show_estimate, show_plan, show_unresolved
from bias_transfer.sweep_worker import PATIENCE

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
    ] = estimate.TERAFLOPS,
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
            raise typer.Exit(remote.run(cluster, config, remote.words(context)))
        from bias_transfer import tracking

        uri, read = tracking.tracking_uri(tracking_uri), grid.load(config)
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
        if hint := remote.hint(config, address):
            tell(hint)
        if plan.todo:
            check_address(address)
            check_all(plan.todo)
            if not cluster_address(address) and (slow := slow_here(plan.todo)):
                tell(slow)
        from bias_transfer.sweep_run import run

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
