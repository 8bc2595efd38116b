"""Send the results that were kept while the store was away: python -m bias_transfer.sync."""

from __future__ import annotations

from typing import Annotated

import typer

from bias_transfer.console import TrackingUri
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.errors import Exit
from bias_transfer.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"max_content_width": 110})
def main(
    experiment: Annotated[
        str, typer.Argument(metavar="[EXPERIMENT]", help="Send this experiment's alone.", show_default="all")
    ] = "",
    tracking_uri: TrackingUri = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and stop.")] = False,
) -> None:
    """Send what the outbox holds: results of trials that ended while the MLflow store was away.

    It lies under BIAS_TRANSFER_STORAGE (a folder, or a URI such as s3://bucket/prefix), else in the cache. What the store has
    already is not sent again, and nothing is removed before the store has it: it can be stopped and started at any time. The
    store may be another one than the trials were meant for.

    \b
    python -m bias_transfer.sync --dry-run
    python -m bias_transfer.sync wiki_small --tracking-uri http://127.0.0.1:5000
    """
    from bias_transfer.tracking import delivery
    from bias_transfer.tracking import outbox
    from bias_transfer.tracking import store

    with user_errors():
        waiting = {name: outbox.ids(name) for name in outbox.experiments() if experiment in ("", name)}
        if not waiting:
            of = f" of {experiment}" if experiment else ""
            tell(f"Nothing to send: no result{of} waits in {outbox.place()}.")
            return
        if dry_run:
            for name, ids in waiting.items():
                tell(f"{name}: {len(ids)} to send from {outbox.place()}: {', '.join(ids)}")
            return
        uri = store.tracking_uri(tracking_uri)
        client = store.connect(uri, create=True)
        left = 0
        for name in waiting:
            try:
                sent = delivery.send(client, name)
            except Exception as error:
                raise UserError(
                    f"the store {store.shown(uri)} stopped answering: {delivery.told(error, store.shown(uri))}. What it "
                    f"does not have is still kept in {outbox.place()}: start this again."
                ) from None
            left += len(sent.left)
            tell(f"{name}: {sent.sent} sent, {sent.there} were there already, {len(sent.left)} left")
            for line in sent.left:
                tell(f"  NOT SENT {line}")
        tell(
            f"Runs: in {store.shown(uri)}. Next: start the sweep again (it runs only what is missing), or python -m analysis"
        )
    raise typer.Exit(Exit.KEPT if left else Exit.DONE)


if __name__ == "__main__":
    app()
