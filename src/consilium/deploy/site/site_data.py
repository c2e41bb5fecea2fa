"""A site's records: its own, or in a rehearsal its share of the study's own data.

    study          the study's source, divided as a simulation divides it; this site takes its own part
    FILE.toml      [data] kind = "npz", path = ..., shares of validation and non-members: records of this site alone

A rehearsal gives bit for bit the model of a simulation, over real machines; it takes bundled data only, so that a
server cannot make a site open a file that the server names.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.data.division.sites import gather
from consilium.data.partitions.iid import IID
from consilium.data.source import Source
from consilium.deploy.protocol.description import DescribedStudy
from consilium.study.build.factory import consortium
from consilium.study.spec.parse import read
from consilium.study.spec.toml_binding import as_table, card_of, entry, refuse_unknown

from .worker import Holding

__all__ = ["REHEARSAL", "holding_of"]

REHEARSAL = "study"
_SHARES = {"validation": 0.1, "non-members": 0.1, "test": 0.1}


def holding_of(data: str) -> Holding:
    """The data that ``--data`` names: the word ``study``, or a file with a table ``[data]``."""
    if data == REHEARSAL:
        return Holding(_rehearsed, own=False)
    source, shares, shared = _own_table(Path(data))

    def gather_own(study: DescribedStudy, site: str) -> Consortium:
        consortium = gather(
            source,
            IID(),
            study.task,
            sites=1,
            public=0.0,
            validation=shares["validation"],
            test=shares["test"],
            non_members=shares["non-members"],
            stream=Stream(study.seed).child("data", site),
            shared_patients=shared,
            testless=True,
        )
        return replace(consortium, sites=(replace(consortium.sites[0], id=site),))

    return Holding(gather_own, own=True)


def _rehearsed(study: DescribedStudy, site: str) -> Consortium:
    source = study.spec.data.source
    if any("path" in knob or "folder" in knob for knob in source.configuration()):
        raise Refused(
            "a rehearsal does not open files that the server names", remedy="start the site with its own --data FILE"
        )
    whole = consortium(study.spec, study.seed)
    if not whole.bundled:
        raise Refused(
            f"{whole.name} is not a bundled data set, and a rehearsal uses bundled data only",
            remedy="start the site with its own --data FILE",
        )
    return replace(whole, sites=tuple(s for s in whole.sites if s.id == site))


def _own_table(path: Path) -> tuple[Source, dict[str, float], bool]:
    tables = read(path)
    refuse_unknown(tables, ["data"], str(path), "a site's data file")
    table = as_table(tables.get("data", {}), "data")
    shares = {name: _share(table.pop(name, default), name) for name, default in _SHARES.items()}
    shared = table.pop("shared-patients", False)
    if not isinstance(shared, bool):
        raise Refused(f"shared-patients is {shared!r}", remedy="use true or false", where="shared-patients")
    card_of(table, "data", "data/sources")
    return entry(table, "data", "data/sources"), shares, shared


def _share(value: Json, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{value!r} is out of range", remedy="use a share from 0 to 1", where=name)
    return float(value)
