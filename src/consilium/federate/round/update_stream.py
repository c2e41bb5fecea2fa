"""The updates of a round on their way into the merge: admitted one at a time, and read again where that is needed.

A share is w_k / sum w, so it must be known before the first update is added who will be among them.  All that answered
are assumed to be; where one is refused, the others are read a second time and added with their true shares.  Site
functions are pure, so a second reading gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from consilium.core.errors import Refused
from consilium.core.update import Update

__all__ = ["Incoming"]


class Incoming:
    """The result of ``admit`` for each of ``updates``, computed again at every iteration, in the order of the roster.

    ``weights`` are those of the admitted sites, and ``refused`` the reasons of the others by site: both are final after
    the first reading.  With ``weights`` None they are read off the updates, which are then all read and kept in memory:
    so they are for rules and observers that must see each.
    """

    def __init__(
        self,
        updates: Mapping[str, Update],
        admit: Callable[[str, Update], Update],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.refused: dict[str, str] = {}
        self.weights = dict.fromkeys(updates, 1.0) if weights is None else {site: weights[site] for site in updates}
        self._updates, self._admit, self._complete = updates, admit, False
        if weights is None:
            self._updates = {update.site: update for update in self}
            self._admit = lambda _, update: update
            self.weights = {site: update.weight for site, update in self._updates.items()}

    def __iter__(self) -> Iterator[Update]:
        for site, update in self._updates.items():
            if site not in self.refused:
                try:
                    admitted = self._admit(site, update)
                except Refused as error:
                    self.refused[site] = error.reason
                    del self.weights[site]
                else:
                    yield admitted
        self._complete = True

    def __len__(self) -> int:
        return len(self.weights)

    def read(self) -> None:
        """Read all of them once, for who is refused, unless that is known."""
        if not self._complete:
            for _ in self:
                pass
