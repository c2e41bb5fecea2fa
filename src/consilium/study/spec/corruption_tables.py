"""The tables ``[[corruptions]]``: who is malicious, how many sites it holds, and in which rounds.

rounds = [8]                       the corrupted sites are honest in all others
rounds = { first = 3, last = 8 }   one end may be left out
site-share = 0.2                   instead of a number of sites
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from consilium.attack.backdoor_success import BackdoorSuccess
from consilium.core.entry import check
from consilium.core.errors import Refused

from .spec import AttackSpec, CorruptionSpec
from .toml_binding import (
    STRICT,
    as_table,
    check_count,
    entry,
    plain_name,
    refuse_twice,
    refuse_unknown,
    shown,
    value,
)

__all__ = ["corruptions_of", "judged_backdoors"]

_MOST = 1000


@dataclass(frozen=True)
class _Share:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    site_share: float | None = None

    def __post_init__(self) -> None:
        share = self.site_share
        check(share is None or 0 < share < 1, "site_share", share, "a share above 0 and below 1")


@dataclass(frozen=True)
class _Rounds:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rounds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Stretch:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    first: int = 1
    last: int | None = None


def corruptions_of(raw: Sequence[object], rounds: int) -> tuple[CorruptionSpec, ...]:
    """The corruptions of a study of so many ``rounds``.

    Raises Refused: an unknown kind or knob, rounds that the study does not have, or two numbers of corrupted sites.
    """
    check_count(raw, _MOST, "corruptions")
    specs = tuple(_corruption(as_table(item, f"corruptions[{i}]"), rounds, i) for i, item in enumerate(raw))
    refuse_twice([c.name for c in specs], "corruptions")
    return specs


def judged_backdoors(corruptions: Sequence[CorruptionSpec]) -> tuple[AttackSpec, ...]:
    """For each backdoor what counts its success, on every model of the study; called after its corruption."""
    planted = [(one.name, one.corruption.backdoor()) for one in corruptions]
    return tuple(
        AttackSpec(f"{name}.success", BackdoorSuccess(backdoor)) for name, backdoor in planted if backdoor is not None
    )


def _corruption(table: dict[str, Any], rounds: int, number: int) -> CorruptionSpec:
    where = f"corruptions[{number}]"
    name, acting = table.pop("name", None), table.pop("rounds", None)
    share = value(_Share, {k: table.pop(k) for k in ("site-share",) if k in table}, where).site_share
    if share is not None and "sites" in table:
        reason = f"sites = {shown(table['sites'])} and site-share = {share:g} are two numbers of corrupted sites"
        raise Refused(reason, remedy="leave one of them out", where=f"{where}.site-share")
    corruption = entry(table, where, "attack/poisoning")
    among = () if acting is None else _acting(acting, rounds, where)
    return CorruptionSpec(plain_name(name, corruption.kind(), where), corruption, among, share)


def _acting(raw: object, rounds: int, where: str) -> tuple[int, ...]:
    """The rounds named, in order; of all rounds of the study none need be named."""
    place = f"{where}.rounds"
    if isinstance(raw, Mapping):
        refuse_unknown(raw, ["first", "last"], place, "rounds")
        stretch = value(_Stretch, raw, place)
        last = rounds if stretch.last is None else stretch.last
        named = _within((stretch.first, last), rounds, place)
        if stretch.first > last:
            reason = f"first = {stretch.first} is after last = {last}"
            raise Refused(reason, remedy="give first at most last", where=place)
        named = tuple(range(stretch.first, last + 1))
    else:
        named = _within(value(_Rounds, {"rounds": raw}, where).rounds, rounds, place)
        if not named:
            raise Refused("no round is named", remedy="name some, or leave rounds out for all", where=place)
    return () if len(set(named)) == rounds else tuple(sorted(set(named)))


def _within(named: Sequence[int], rounds: int, where: str) -> tuple[int, ...]:
    beyond = [number for number in named if not 1 <= number <= rounds]
    if beyond:
        raise Refused(f"the study has no round {beyond[0]}", remedy=f"use 1 to {rounds}", where=where)
    return tuple(named)
