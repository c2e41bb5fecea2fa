"""Late sites: which sites a request still waits for, logged once for each site and request.

A wait is worth a line after ten seconds, or after twice the shortest time in which every site has answered so far:
rounds that take minutes are not called late in their first seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["Lateness", "waiting_line"]

_FAIR = 10.0
_NAMES = 5


class Lateness:
    """Called every second of a wait with the question's name, who has not answered, and for how long; () at its end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._usual = math.inf
        self._asked, self._told = "", set[str]()

    def __call__(self, question: str, sites: Sequence[str], seconds: float) -> None:
        """Log the late sites that were not logged yet."""
        if question != self._asked:
            self._asked, self._told = question, set()
        if not sites:
            self._usual = min(self._usual, seconds)
            return
        late = [site for site in sites if site not in self._told]
        if late and seconds >= self._fair():
            self._told |= set(late)
            self._say(waiting_line(question, late, seconds))

    def _fair(self) -> float:
        return _FAIR if math.isinf(self._usual) else max(_FAIR, 2 * self._usual)


def waiting_line(question: str, sites: Sequence[str], seconds: float) -> str:
    """``round 3: no answer yet from site-2 after 12 s``; the first few by name."""
    more = [f"{len(sites) - _NAMES} more"] if len(sites) > _NAMES else []
    return f"{question}: no answer yet from {', '.join([*sites[:_NAMES], *more])} after {seconds:.0f} s"
