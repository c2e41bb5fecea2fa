"""Tables and lines as a terminal gets them: no text of a user's module, site or file is markup, or steers it."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from consilium.core.terminal import visible

__all__ = ["Visible", "draw"]

_WIDTH = 160
"""Where standard output is no terminal."""


class Visible:
    """A renderable with every character that a terminal would obey as an escape, but those of rich itself."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def draw(what: RenderableType) -> None:
    """On standard output."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, width=_WIDTH)
    console.print(Visible(what))
