"""The site half of a federated round: every participant's local work, one at a time or many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from consilium.core.algorithm import Broadcast
from consilium.core.errors import Refused
from consilium.core.exchange import SiteHalf
from consilium.core.update import Update

from .participant import Participant, SiteState
from .vectorised_clients import VectorisedClients, why_not_vectorised

__all__ = ["LocalRounds"]


class LocalRounds(SiteHalf[SiteState, Broadcast, Update]):
    """Local work of ``participants``, by site; ``compiled`` fuses the kernels of a stack's steps.

    In round r a site of ``substitutes[r]`` works as that participant instead: one that an adversary holds then.
    """

    def __init__(
        self,
        participants: Mapping[str, Participant],
        compiled: bool = False,
        substitutes: Mapping[int, Mapping[str, Participant]] | None = None,
    ) -> None:
        self.participants, self._compiled, self._substitutes = participants, compiled, substitutes or {}

    @cached_property
    def _stack(self) -> VectorisedClients:
        """Made where it is used, in a worker perhaps; refused if some site cannot be stacked."""
        if (refusal := self.why_not_together()) is not None:
            raise refusal
        return VectorisedClients(next(iter(self.participants.values())), self._compiled)

    def site(self, phase: str, site: str, inbox: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """Local work."""
        return self._participant(site, inbox.round).work(inbox, state)

    def together(
        self, phase: str, sites: Sequence[str], inbox: Broadcast, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Update], dict[str, SiteState]]:
        """Local work of many at once."""
        results = self._stack.work([self._participant(site, inbox.round) for site in sites], inbox, states)
        updates = {site: update for site, (update, _) in results.items()}
        return updates, {site: after for site, (_, after) in results.items()}

    def why_not_together(self) -> Refused | None:
        """By what each site trains, and how."""
        substitutes = (person for people in self._substitutes.values() for person in people.values())
        return why_not_vectorised((*self.participants.values(), *substitutes))

    def _participant(self, site: str, number: int) -> Participant:
        """Who does the work of ``site`` in round ``number``."""
        return self._substitutes.get(number, {}).get(site) or self.participants[site]
