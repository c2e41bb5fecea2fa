"""Records that a model or weights were trained on, by their recipe, found again among those of a study.

    the same file, another share, partition, patient column      records are compared by their inputs
    another file of records with the same inputs                 likewise, unless as many may be alike by chance

The recipe names the data and the seed; these are divided again.  Where the file cannot be read, or is another by now,
what is found is refused, and what is not found is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.records import Consortium, Records
from consilium.data.checks.duplicates import input_digests
from consilium.study.build.factory import divided
from consilium.study.spec.data_table import DataSpec, division_of
from consilium.study.spec.spec import Spec

__all__ = ["asks_membership", "refuse_trained_records", "same_source", "unknown_training_note"]

_Gathered = Callable[[int], Consortium]
_Fingerprint = Callable[[Consortium], str]
_FEW = 3
"""So many times as many records as were duplicates may be alike by chance in another file."""


@dataclass(frozen=True)
class _Earlier:
    """The training records by the digests of their inputs; ``complete``: these are all, and no others."""

    inputs: frozenset[bytes]
    duplicates: int
    complete: bool
    same_file: bool


def asks_membership(spec: Spec) -> bool:
    """Whether an attack of ``spec`` asks who was trained on."""
    return any(attack.attack.threat.aim == "membership" for attack in spec.attacks)


def same_source(spec: Spec, recipe: Mapping[str, Any]) -> bool:
    """Whether ``recipe`` names a seed, and the very source that ``spec`` reads."""
    data, source = recipe.get("data"), _plain(spec.data.source.configuration())
    seeded = isinstance(recipe.get("seed"), int)
    return seeded and isinstance(data, Mapping) and all(data.get(knob) == value for knob, value in source.items())


def unknown_training_note(spec: Spec, recipe: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """A caution where nothing tells which records ``what`` was trained on; nothing where its ``recipe`` does."""
    if same_source(spec, recipe):
        return ()
    return (
        f"Caution: which records the {what} trained on is not known. Accuracy and robustness are right only if no "
        "held-out test record is among them, and membership figures only if no non-member is.",
    )


def refuse_trained_records(
    spec: Spec, recipe: Mapping[str, Any], gathered: _Gathered, where: str, fingerprint: _Fingerprint | None = None
) -> None:
    """Refuse held-out records that the weights were trained on, by their ``recipe``; non-members, where they count.

    ``fingerprint`` of a division, as the recipe has it, is given where the study's members are to be those of the
    weights: none may be a record that they were not trained on.

    Raises Refused: with their number, and how its training divided the data.
    """
    here, there = _plain(spec.data.configuration()), recipe.get("data")
    if not isinstance(there, Mapping) or not isinstance(recipe.get("seed"), int):
        return
    seed, odd = recipe["seed"], [knob for knob in {**here, **there} if there.get(knob) != here.get(knob)]
    others = [other for other in spec.seeds if odd or other != seed]
    if not others or gathered(others[0]).declared:
        return
    earlier = _earlier(spec.data, recipe, gathered if not odd else None, fingerprint)
    if earlier is None:
        return
    for other in others:
        _refuse(spec, gathered(other), earlier, where, _Words(other, seed, odd, there, here))


@dataclass(frozen=True)
class _Words:
    """What a refusal says of both divisions."""

    seed: int
    earlier_seed: int
    odd: Sequence[str]
    there: Mapping[str, Any]
    here: Mapping[str, Any]

    def refusal(self, what: str, where: str) -> Refused:
        """Of ``what`` is wrong with the records."""
        knobs = "".join(f", {knob} = {self.there.get(knob)!r}" for knob in self.odd if knob in self.here)
        returned = ", and divide the data as that training did" if self.odd else ""
        return Refused(
            f"the weights {what}: their training had seed {self.earlier_seed}{knobs} (recipe.json beside them)",
            remedy=f"write seeds = [{self.earlier_seed}]{returned}",
            where=where,
        )


def _refuse(spec: Spec, data: Consortium, earlier: _Earlier, where: str, words: _Words) -> None:
    membership = asks_membership(spec)
    outside = [site.records.non_members for site in data.sites] if membership else []
    tested, others = _count(data.test, earlier), sum(_count(records, earlier) for records in outside)
    by_chance = 0 if earlier.same_file else _FEW * (1 + earlier.duplicates + sum(data.removed.values()))
    if tested + others > by_chance:
        of_these = f" ({others} of {sum(map(len, outside))} non-members)" if others else ""
        what = f"were trained on {tested + others} of the records that seed {words.seed} holds out here{of_these}"
        raise words.refusal(what, where)
    if membership and earlier.complete:
        pool = [data.natural(site.records.train) for site in data.sites]
        strange = sum(len(records) - _count(records, earlier) for records in pool)
        if strange:
            of_these = f"{strange} of the {sum(map(len, pool))} records that seed {words.seed} calls members"
            raise words.refusal(f"were not trained on {of_these}", where)


def _count(records: Records, earlier: _Earlier) -> int:
    return sum(digest in earlier.inputs for digest in input_digests(records))


def _earlier(
    data: DataSpec, recipe: Mapping[str, Any], gathered: _Gathered | None, fingerprint: _Fingerprint | None
) -> _Earlier | None:
    """The training records of ``recipe``; None where its data cannot be read, or are of another kind of source.

    ``gathered`` divides the study's own data, where they are divided as those were.
    """
    there, source = recipe["data"], _plain(data.source.configuration())
    if there.get("kind") != source["kind"]:
        return None
    same_file = there.get("path") == _plain(data.configuration()).get("path")
    try:
        division = division_of(there)
        if same_file and hasattr(data.source, "path"):  # of a stored input the recipe has the name alone
            source_there: Any = division.source
            division = replace(division, source=replace(source_there, path=data.source.path))
        whole = divided(division, None, recipe["seed"]) if gathered is None else gathered(recipe["seed"])
    except (ConsiliumError, OSError):
        return None
    trained = Records.joined([whole.natural(site.records.train) for site in whole.sites])
    complete = fingerprint is not None and fingerprint(whole) == recipe.get("fingerprint")
    return _Earlier(frozenset(input_digests(trained)), sum(whole.removed.values()), complete, same_file)


def _plain(table: Any) -> Mapping[str, Any]:
    return dict(json.loads(json.dumps(table)))
