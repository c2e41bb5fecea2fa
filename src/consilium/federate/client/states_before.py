"""Every site's state before a phase, read when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from consilium.core.exchange import SiteState

__all__ = ["StatesOrFresh"]


class StatesOrFresh(Mapping[str, SiteState]):
    """``states``, and for a site that is new a ``fresh`` one."""

    def __init__(self, states: Mapping[str, SiteState], fresh: Callable[[], SiteState]) -> None:
        self._states, self._fresh = states, fresh

    def __getitem__(self, site: str) -> SiteState:
        return self._states[site] if site in self._states else self._fresh()

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)
