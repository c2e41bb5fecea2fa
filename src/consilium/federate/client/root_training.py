"""The server's own update of a round, on public records: what a rule that trusts no site measures the sites by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from consilium.core.algorithm import Server
from consilium.core.records import Pools, Records, Site
from consilium.core.update import Payload

from .participant import Participant, SiteState
from .participation import Participation

__all__ = ["RootTraining"]


@dataclass(frozen=True, eq=False)
class RootTraining:
    """Local work as a site does it, by ``participant``, whose records are the public ones; it keeps no state."""

    participant: Participant

    @classmethod
    def of(cls, like: Participant, public: Records) -> RootTraining:
        """Work as that of ``like`` on the ``public`` records: undefended, never absent and never slow."""
        nothing = public.select(torch.arange(0))
        site = Site("root", Pools(public, nothing, nothing))
        return cls(replace(like, site=site, train=public, defences=(), participation=Participation()))

    def __call__(self, server: Server) -> Payload:
        """The payload of one round's work from ``server``: the same parts as a site's, the same bits at each call."""
        broadcast = self.participant.algorithm.broadcast(server)
        return self.participant.work(broadcast, SiteState())[0].payload
