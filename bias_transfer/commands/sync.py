"""`bias-transfer sync`: record in MLflow the results that wait in the outbox."""

from __future__ import annotations

from typing import Annotated

import typer

from bias_transfer.console import TrackingUri, redacted, tell, user_errors
from bias_transfer.errors import Exit, UserError


def main(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="Send only this experiment's results.", show_default=False)
    ] = "",
    tracking_uri: TrackingUri = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be sent, and stop.")] = False,
) -> None:
    """Send results from the outbox to MLflow.

    Results of trials that ended while MLflow was unreachable wait in the outbox. It is stored under BIAS_TRANSFER_STORAGE (a
    folder, or a URI such as s3://bucket/prefix), or by default in the cache. A result that MLflow has already is not sent
    again, and none is removed from the outbox before MLflow has it, so that the command can be interrupted and repeated at any
    time. The results may go to another MLflow than the sweep's.

    \b
    bias-transfer sync --dry-run
    bias-transfer sync wiki_small --tracking-uri http://127.0.0.1:5000
    """
    from bias_transfer.tracking import delivery, outbox, store

    with user_errors():
        pending = {name: outbox.ids(name) for name in outbox.experiments() if experiment in ("", name)}
        if not pending:
            of = f" of {experiment}" if experiment else ""
            tell(f"Nothing to send: no result{of} waits in {outbox.location()}.")
            return
        if dry_run:
            for name, ids in pending.items():
                tell(f"{name}: {len(ids)} to send from {outbox.location()}: {', '.join(ids)}")
            return
        uri = store.tracking_uri(tracking_uri)
        client = store.connect(uri, create=True)
        left = 0
        for name in pending:
            try:
                sent = delivery.send(client, name)
            except Exception as error:
                shown = redacted(uri)
                raise UserError(
                    f"MLflow at {shown} stopped answering: {delivery.describe(error, shown)}. What it does not have is "
                    f"still in {outbox.location()}: run this command again."
                ) from None
            left += len(sent.left)
            tell(f"{name}: {sent.sent} sent, {sent.already_recorded} were recorded already, {len(sent.left)} left")
            for line in sent.left:
                tell(f"  NOT SENT {line}")
        tell(
            f"Runs: in {redacted(uri)}. Next: rerun the sweep (it runs only what is missing), or bias-transfer analyse "
            f"EXPERIMENT"
        )
    raise typer.Exit(Exit.PENDING if left else Exit.DONE)
