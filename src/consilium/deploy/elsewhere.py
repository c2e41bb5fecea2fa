"""A consortium whose sites are other machines: what the server knows of them is what they declared, and no more.

Test set and public slice are the server's own, from the study's data; the records of that source that a simulation
would divide are not used.  In the place of each site's records stand as many empty ones as it declared: enough for
weights, schedules and claims, and nothing that could be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from consilium.core.records import Consortium, Pools, Records, Site

from .enrolment import Enrolment

__all__ = ["elsewhere"]


def elsewhere(data: Consortium, enrolled: Sequence[Enrolment]) -> Consortium:
    """``data`` with the sites that declared themselves in the place of its own."""
    sites = tuple(
        Site(one.site, Pools(_numbered(one.train, one.units), _numbered(one.validation), _numbered(0)))
        for one in enrolled
    )
    notes = (
        *(note for note in data.notes if "held out" in note),
        f"test set: {len(data.test)} records of the server's own {data.name}; the sites' records were never there",
        "the sites are machines: numbers of records as they declared them, accuracy as they told it",
        *(f"inputs agreed by every site: sha256 {digest}" for digest in {one.inputs for one in enrolled} if digest),
    )
    return replace(data, sites=sites, notes=notes, removed={}, declared=True)


def _numbered(n: int, units: int = 0) -> Records:
    """``n`` empty records of so many units, 0 for each its own."""
    ids = torch.arange(n)
    return Records(torch.zeros(n, 0), torch.zeros(n, dtype=torch.long), ids, ids.clamp(max=units - 1) if units else ids)
