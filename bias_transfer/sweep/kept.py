"""What a sweep tells of results that are not in the store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from bias_transfer.tracking import store
from bias_transfer.console import tell
from bias_transfer.tracking.delivery import Outcome
from bias_transfer.tracking.delivery import Sent
from bias_transfer.sweep.plan import Plan


def show_undone(plan: Plan, outcomes: Mapping[str, Outcome]) -> None:
    """Each trial that ended without a result through no fault of its own, and why."""
    undone = {key: outcome.why for key, outcome in outcomes.items() if outcome.state == "undone"}
    for key, why in undone.items():
        tell(f"UNDONE {key} {plan.names[key]}: {why}")
    if undone:
        tell(f"{len(undone)} undone. Mend it, then start the sweep again: it runs them.")


def show_sent(sent: Sent) -> None:
    """What the outbox held when the sweep ended."""
    if sent.sent:
        tell(f"Sent {sent.sent} results that had been kept while the store was away.")
    for line in sent.left:
        tell(f"NOT SENT {line}")


def show_kept(plan: Plan, kept: Sequence[Outcome], uri: str) -> None:
    """How many results wait, where, and how they are sent."""
    if not kept:
        return
    places = sorted({outcome.place for outcome in kept})
    command = f"python -m bias_transfer.sync {shlex.quote(plan.experiment)}{store.option(uri)}"
    tell(
        f"{len(kept)} results are not in the store, which could not be reached ({kept[0].why}). They are kept in "
        f"{', '.join(places)}. When it is back, send them: {command} (or start the sweep again: it "
        f"sends them first, and does not run them again)."
    )


def show_away(plan: Plan, kept: Sequence[Outcome], uri: str, why: str) -> None:
    """The sweep ended, and its store is not there to say how it stands."""
    tell(f"All that was to run has ended, but the store {store.shown(uri)} cannot be reached: {why}")
    show_kept(plan, kept, uri)
    if not kept:
        tell(
            "Nothing is lost: all results were recorded before. Start the sweep again when it is back, for its tables."
        )
