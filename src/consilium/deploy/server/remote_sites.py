"""A consortium whose sites are other machines: the server has their declarations only.

Test set and public slice are the server's own, from the study's data; the records of that source that a simulation
would divide are not used.  In place of each site's records the server has their number: enough for weights, schedules
and claims, and nothing that could be looked at.  It takes no memory, whatever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from consilium.core.records import Consortium, Pools, Records, Site
from consilium.deploy.protocol.enrolment import Enrolment

__all__ = ["elsewhere"]


def elsewhere(data: Consortium, enrolled: Sequence[Enrolment]) -> Consortium:
    """``data`` with the sites that enrolled in place of its own."""
    sites = tuple(
        Site(one.site, Pools(_declared(one.train, one.units), _declared(one.validation), _declared(0)))
        for one in enrolled
    )
    notes = (
        *(note for note in data.notes if "held out" in note),
        f"test set: {len(data.test)} records of the server's own {data.name}; the sites' records were never on "
        "the server",
        "the sites are machines: numbers of records as they declared them, accuracy as they reported it",
        *(f"inputs agreed by every site: sha256 {digest}" for digest in {one.inputs for one in enrolled} if digest),
    )
    cautions = _equal_numbers(enrolled)
    return replace(data, sites=sites, notes=(*notes, *cautions), removed={}, cautions=cautions, declared=True)


def _equal_numbers(enrolled: Sequence[Enrolment]) -> tuple[str, ...]:
    """A caution about sites with records of their own that declare the same numbers, as two with one file would.

    The server knows nothing else that would tell: a digest of records would be a test of who is among them.
    """
    sites: dict[tuple[int, int, int], list[str]] = {}
    for one in enrolled:
        if one.own:
            sites.setdefault((one.train, one.validation, one.units), []).append(one.site)
    return tuple(
        f"{' and '.join(names)} declare the same numbers, {train} training and {validation} validation records: was "
        "one file given to each? Records that stand at two sites count twice, and no claim covers that"
        for (train, validation, _), names in sites.items()
        if len(names) > 1
    )


@dataclass(frozen=True, eq=False)
class _DeclaredRecords(Records):
    """A number of records, of ``owners`` units: every tensor is one element that is read n times."""

    owners: int = 0

    def unit_count(self) -> int:
        """As declared."""
        return self.owners


def _declared(n: int, units: int = 0) -> Records:
    """``n`` records of so many units, 0 for each its own."""
    nothing = torch.zeros(1, dtype=torch.long).expand(n)
    return _DeclaredRecords(torch.zeros(1, 0).expand(n, 0), nothing, nothing, nothing, units or n)
