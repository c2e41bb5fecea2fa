"""What a site holds: records, the pools they are kept apart in, and the site itself.

Inputs are raw, float32 in [0, 1]; normalisation is a layer of the model, so that a radius means what the
literature means by it.  Words are tokens, int64 ids.  A *unit* is what a record belongs to (a patient); by default
every record is its own unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .attribute import Attribute, joined_attributes
from .errors import Refused
from .inputs import Inputs
from .task import Task

__all__ = ["Canaries", "Consortium", "Limits", "Omission", "Pools", "Records", "Site"]


@dataclass(frozen=True, eq=False)
class Records:
    """Labelled examples.

    x: float32 ``(n, *shape)`` in [0, 1], or tokens int64 ``(n, length)``; y ``(n, ...)`` as the task has it (one class:
    int64 ``(n,)``); ids: int64 ``(n,)``, unique in a data set; units: int64 ``(n,)``; attributes: what else is known of
    each, never an input.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    units: Tensor
    attributes: tuple[Attribute, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        n = len(self.x)
        if not (self.y.shape[:1] == self.ids.shape == self.units.shape == (n,)):
            raise Refused(f"records disagree on n: x {n}, y {tuple(self.y.shape)}, ids {tuple(self.ids.shape)}")
        for attribute in self.attributes:
            if attribute.codes.shape != (n,):
                reason = f"records disagree on n: x {n}, attribute {attribute.name!r} {tuple(attribute.codes.shape)}"
                raise Refused(reason, remedy="give one value a record", where="attributes")

    @classmethod
    def of(
        cls, x: Tensor, y: Tensor, units: Tensor | None = None, *, attributes: tuple[Attribute, ...] = ()
    ) -> Records:
        """Records numbered from 0; each is its own unit unless ``units`` says otherwise."""
        ids = torch.arange(len(x))
        return cls(x, y, ids, ids if units is None else units, attributes=attributes)

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """All records of ``parts``, one after the other."""
        fields = [(p.x, p.y, p.ids, p.units) for p in parts]
        attributes = joined_attributes([p.attributes for p in parts], [len(p) for p in parts])
        return cls(*(torch.cat(column) for column in zip(*fields, strict=True)), attributes=attributes)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of shape {tuple(self.x.shape[1:])})"

    def unit_count(self) -> int:
        """How many units the records are of."""
        return len(torch.unique(self.units))

    def select(self, index: Tensor) -> Records:
        """The records at ``index`` (positions or a boolean mask), in that order."""
        attributes = tuple(attribute.select(index) for attribute in self.attributes)
        return Records(self.x[index], self.y[index], self.ids[index], self.units[index], attributes=attributes)

    def split(self, sizes: list[int]) -> list[Records]:
        """Consecutive pieces of those ``sizes``, which add up to all records; tensors are views."""
        parts = zip(*(torch.split(t, sizes) for t in (self.x, self.y, self.ids, self.units)), strict=True)
        if not self.attributes:
            return [Records(*part) for part in parts]
        codes = zip(*(torch.split(attribute.codes, sizes) for attribute in self.attributes), strict=True)
        return [
            Records(*part, attributes=tuple(replace(a, codes=c) for a, c in zip(self.attributes, pieces, strict=True)))
            for part, pieces in zip(parts, codes, strict=True)
        ]

    def bare(self) -> Records:
        """The same records without their attributes, which an adversary is not granted."""
        return replace(self, attributes=()) if self.attributes else self

    def relabelled(self, y: Tensor) -> Records:
        """The same records under other labels."""
        return replace(self, y=y)


@dataclass(frozen=True, eq=False)
class Pools:
    """One site's records, kept apart before anything else happens (LAWS 17).

    ``train`` is learned from, ``validation`` assessed on between rounds, ``non_members`` come from the same
    pool as ``train`` and are never learned from: membership attacks are judged against them.
    """

    train: Records
    validation: Records
    non_members: Records


@dataclass(frozen=True)
class Limits:
    """A site's own requirements, whatever the server requests.

    ``minimum_count``: no aggregate over fewer records leaves; ``consent``: whether assessments leave at all.
    """

    minimum_count: int = 5
    consent: bool = True


@dataclass(frozen=True, eq=False)
class Site:
    """A participant.  Its records never leave it: server code is handed updates and assessments only."""

    id: str
    records: Pools
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, eq=False)
class Canaries:
    """Records made for an audit; each was put among the training records of its site by an independent fair coin.

    records: m of them; site: int64 ``(m,)``, the number of each one's site; included: bool ``(m,)``, the coins.
    """

    records: Records
    site: Tensor
    included: Tensor

    def among(self, records: Records) -> Tensor:
        """Which of ``records`` are canaries, bool ``(n,)``."""
        return torch.isin(records.ids, self.records.ids)


@dataclass(frozen=True)
class Omission:
    """The part of a source's data that is not used unchanged: ``count`` of ``what``, with a few ``examples`` by name.

    ``site`` is the natural site (hospital) that it came from, empty where the source names none.
    """

    what: str
    count: int
    site: str = ""
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """In a line: ``3 rows with a gap (site b): chol (2), thal (1)``."""
        examples = f": {', '.join(self.examples)}" if self.examples else ""
        return f"{self.count} {self.what}{f' (site {self.site})' if self.site else ''}{examples}"


@dataclass(frozen=True, eq=False)
class Consortium:
    """A data set as a study uses it: its sites, the test set, the public slice, and where it came from.

    ``task`` is what is asked of it, and ``classes`` name its labels. ``shape`` is that of one input; ``provenance``
    says which file was used; ``bundled`` is True for data that anyone may see (it ships with a package);
    ``removed`` counts exact duplicates dropped, by place, and ``omitted`` everything of the source that is not used
    as it stands, by natural site. ``fitted_on_private`` is True where ranges or category lists were read from the
    records themselves: they are not public and carry no charge, so a claim of differential privacy cannot stand on
    them (LAWS 9). ``declared`` is True where the sites are other machines: of their records only the numbers are
    known here. ``canaries`` are those planted for an audit: the ones that are in stand in their sites' training
    records too. ``inputs`` says what the numbers of an input mean. ``cautions`` are those of the ``notes`` that are
    printed before anything trains.
    """

    name: str
    sites: tuple[Site, ...]
    test: Records
    public: Records
    classes: tuple[str, ...]
    task: Task
    shape: tuple[int, ...]
    provenance: str
    bundled: bool
    removed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fitted_on_private: bool = False
    declared: bool = False
    canaries: Canaries | None = None
    omitted: tuple[Omission, ...] = ()
    inputs: Inputs = field(default_factory=Inputs)
    cautions: tuple[str, ...] = ()

    def natural(self, records: Records) -> Records:
        """The ``records`` that were not made for an audit."""
        return records if self.canaries is None else records.select(~self.canaries.among(records))
