"""What both tables of this plugin could share: a module of the plugin's own package enters ids with it."""

from __future__ import annotations

from collections.abc import Sequence

from bias_transfer.tasks.base import Span

MASK = "_"


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with `MASK` in place of what each span mentions."""
    for start, end, _ in sorted(spans, reverse=True):
        text = f"{text[:start]}{MASK}{text[end:]}"
    return text
