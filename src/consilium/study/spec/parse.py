"""From a study file to a :class:`~consilium.study.spec.spec.Spec`; what is wrong is one line that names the place."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from consilium.attack.backdoor_success import BackdoorSuccess
from consilium.core.attack import Attack
from consilium.core.catalogue import nearest
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.plain import Json, read_toml
from consilium.core.threat import CanaryView
from consilium.learn.models.file import File

from .arms import arm_name
from .axes import axes_of, of_study
from .code_tables import with_folders
from .data_table import division_of
from .federation_table import federation_of
from .fine_tuning import ModelSpec, model_of
from .model_axis import inheriting
from .placeholders import refuse_placeholders
from .spec import (
    JUDGED,
    AttackSpec,
    CanarySpec,
    Choice,
    CorruptionSpec,
    Spec,
    StudyHead,
    Threshold,
    TrainedModelSpec,
    TrainingSpec,
)
from .thresholds import thresholds_of
from .toml_binding import (
    STRICT,
    as_mapping,
    as_sequence,
    as_table,
    check_count,
    entry,
    place,
    plain_name,
    refuse_twice,
    refuse_unknown,
    shown,
    value,
)
from .trained_model import refuse_training, without_algorithms
from .unread_parameters import check_read

__all__ = ["parse", "read"]

_MAX_ADVERSARIES = 1000
_MAX_CELLS = 50_000
_ATTACKS = (
    "attack/evasion",
    "attack/membership",
    "attack/shift",
    "attack/attribute",
    "attack/reconstruction",
    "attack/extraction",
    "attack/linkage",
)
_SYNTAX = "write that line as in docs/how-to/write-a-study.md"
_AUDIT = "one-run-audit"
_TABLES = ("data", "model", "federation", "vary", "attacks", "corruptions", "audit", "accept")


def read(path: Path) -> dict[str, Json]:
    """The tables of a study file.

    Raises Refused: the file cannot be read, is larger than 1 MB, is not TOML, or has a line that is to be filled in.
    """
    try:
        tables = read_toml(path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise Refused("a study file is at most 1 MB", where=str(path)) from None
        raise Refused(f"cannot read {path}: {error.strerror}", remedy="give the path of a study file") from None
    except ValueError as error:  # what tomllib and int() make of text that nobody vouches for
        reason = " ".join(str(error).split())
        raise Refused(f"not TOML: {reason}{_line(path, reason)}", remedy=_SYNTAX, where=str(path)) from None
    refuse_placeholders(tables, path)
    return tables


def _line(path: Path, reason: str) -> str:
    """The line that ``reason`` names, as it stands in the file."""
    place = re.search(r"at line (\d+)", reason)
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    number = int(place[1]) if place else len(lines) if "end of document" in reason else 0
    return f": {shown(lines[number - 1].strip())}" if 0 < number <= len(lines) else ""


def parse(tables: Mapping[str, Any], folders: Sequence[Path] = ()) -> Spec:
    """Resolve the tables of a study; files of its author's own entries are looked for in ``folders`` first.

    Raises Refused: an unknown table or knob, or no name, data or model.
    """
    known = [*(f.name.replace("_", "-") for f in fields(StudyHead)), *_TABLES]
    for name in tables:
        if name not in known:
            raise Refused(f"a study has no {shown(name)}", remedy=nearest(str(name)[:80], known), where=place("", name))
    for name in ("name", "data", "model"):
        if name not in tables:
            raise Refused("missing", remedy=f"a study needs name, data and model; give {name}", where=name)
    head = value(StudyHead, {k: v for k, v in tables.items() if k not in _TABLES}, "")
    placed = with_folders(tables, folders)
    model = model_of(as_table(placed["model"], "model"), "model")
    if isinstance(model.architecture, File):
        return replace(_of_trained_model(placed, head, model.architecture), given=dict(tables))
    return replace(_of_training(placed, head, model), given=dict(tables))


def _of_training(tables: Mapping[str, Any], head: StudyHead, model: ModelSpec) -> TrainingSpec:
    federation = federation_of(as_table(tables.get("federation", "fed-avg"), "federation"))
    varied = inheriting(tables.get("vary", {}), as_table(tables["model"], "model"))
    vary = axes_of(varied, partial(of_study, federation.algorithm, model))
    check_read(as_table(tables.get("federation", "fed-avg"), "federation"), federation, vary)
    canaries = _canaries(as_mapping(tables["audit"], "audit")) if "audit" in tables else None
    corruptions = _corruptions(as_sequence(tables.get("corruptions", ()), "corruptions"), federation.shape.rounds)
    attacks = _audited(_attacks(as_sequence(tables.get("attacks", ()), "attacks"), vary), canaries)
    attacks = (*attacks, *_judged_backdoors(corruptions))
    refuse_twice([a.name for a in attacks], "attacks")
    _limit_cells(len(head.seeds), vary, len(corruptions))
    return TrainingSpec(
        data=division_of(as_table(tables["data"], "data")),
        model=model.architecture,
        fine_tuning=model.fine_tuning,
        federation=federation,
        vary=vary,
        attacks=attacks,
        corruptions=corruptions,
        canaries=canaries,
        accept=_accepted(as_sequence(tables.get("accept", ()), "accept"), vary, attacks, corruptions),
        **vars(head),
    )


def _of_trained_model(tables: Mapping[str, Any], head: StudyHead, model: File) -> TrainedModelSpec:
    refuse_training(tables, as_sequence(tables.get("corruptions", ()), "corruptions"))
    vary = axes_of(tables.get("vary", {}), without_algorithms)
    attacks = _audited(_attacks(as_sequence(tables.get("attacks", ()), "attacks"), vary), None)
    _limit_cells(len(head.seeds), vary, 0)
    return TrainedModelSpec(
        data=division_of(as_table(tables["data"], "data")),
        model=model,
        vary=vary,
        attacks=attacks,
        accept=_accepted(as_sequence(tables.get("accept", ()), "accept"), vary, attacks, ()),
        **vars(head),
    )


def _attacks(raw: Sequence[object], vary: Mapping[str, tuple[Choice, ...]]) -> tuple[AttackSpec, ...]:
    check_count(raw, _MAX_ADVERSARIES, "attacks")
    specs = []
    for i, item in enumerate(raw):
        where = f"attacks[{i}]"
        table = as_table(item, where)
        name, origin = table.pop("name", None), table.pop("from", None)
        attack = entry(table, where, *_ATTACKS)
        if not isinstance(attack, Attack):
            raise Refused(f"{attack.kind()} is no attack on a trained model", where=f"{where}.kind")
        crosses = attack.threat.knowledge == "transfer"
        if crosses != (origin is not None):
            reason = "needs the arm it crafts on" if crosses else "crafts on the model itself and takes no other arm"
            raise Refused(
                f"{attack.kind()} {reason}", remedy='say from = { AXIS = "none", ... }', where=f"{where}.from"
            )
        source = None if origin is None else _arm(as_mapping(origin, f"{where}.from"), vary, f"{where}.from")
        specs.append(AttackSpec(plain_name(name, attack.kind(), where), attack, source))
        if specs[-1].name == JUDGED:
            reason = f"{JUDGED!r} names the file of the cell's own answers"
            raise Refused(reason, remedy="give the attack another name", where=f"{where}.name")
    refuse_twice([a.name for a in specs], "attacks")
    return tuple(specs)


def _canaries(knobs: Mapping[str, Any]) -> CanarySpec:
    """The table ``[audit]``."""
    refuse_unknown(knobs, [f.name for f in fields(CanarySpec)], "audit", "audit")
    return value(CanarySpec, knobs, "audit")


def _audited(attacks: tuple[AttackSpec, ...], canaries: CanarySpec | None) -> tuple[AttackSpec, ...]:
    """Canaries are there to be guessed: where no attack does, the black-box one; and none guesses without them."""
    guess = [i for i, spec in enumerate(attacks) if spec.attack.needs is CanaryView]
    if guess and canaries is None:
        remedy = "write the table [audit] with the number of canaries"
        raise Refused(
            f"{attacks[guess[0]].name} needs an audit's canaries", remedy=remedy, where=f"attacks[{guess[0]}]"
        )
    if canaries is None or guess:
        return attacks
    added = AttackSpec(_AUDIT, entry({"kind": _AUDIT}, "audit", "attack/membership"))
    refuse_twice([spec.name for spec in (*attacks, added)], "attacks")
    return (*attacks, added)


def _arm(origin: Mapping[str, Any], vary: Mapping[str, tuple[Choice, ...]], where: str) -> dict[str, str]:
    """One label per axis; an axis that is not named is its first choice; a kind stands for the one choice it begins."""
    for axis in origin:
        if axis not in vary:
            remedy = nearest(str(axis)[:80], list(vary)) if vary else "add it under [vary]"
            raise Refused(f"the study varies no {shown(axis)}", remedy=remedy, where=place(where, axis))
    labels = {}
    for axis, choices in vary.items():
        label = origin.get(axis, choices[0].label)
        matches = [c.label for c in choices if c.label == label]
        matches = matches or [c.label for c in choices if c.label.startswith(f"{label}(")]
        if len(matches) != 1:
            number = f"{len(matches)} choices that begin with" if matches else "no choice"
            raise Refused(
                f"axis {axis} has {number} {shown(label)}",
                remedy=nearest(str(label)[:80], matches or [c.label for c in choices]),
                where=f"{where}.{axis}",
            )
        labels[axis] = matches[0]
    return labels


def _accepted(
    raw: Sequence[object],
    vary: Mapping[str, tuple[Choice, ...]],
    attacks: Sequence[AttackSpec],
    corruptions: Sequence[CorruptionSpec],
) -> tuple[Threshold, ...]:
    """The tables ``[[accept]]``; an arm is named as in the report, or by its choices."""
    check_count(raw, _MAX_ADVERSARIES, "accept")
    origins = {i: one["arm"] for i, one in enumerate(raw) if isinstance(one, Mapping) and "arm" in one}
    named = {
        i: arm_name(list(_arm(origin, vary, f"accept[{i}].arm").values()))
        for i, origin in origins.items()
        if isinstance(origin, Mapping)
    }
    return thresholds_of(raw, named, vary, attacks, corruptions)


def _limit_cells(seeds: int, vary: Mapping[str, Sequence[Choice]], corruptions: int) -> None:
    arms = math.prod(len(choices) for choices in vary.values())
    if (cells := seeds * arms * (1 + corruptions)) > _MAX_CELLS:
        raise Refused(
            f"{seeds} seeds x {arms} arms x {1 + corruptions} infections are {cells} models, more than {_MAX_CELLS}",
            remedy="use fewer seeds or choices, or split the study",
        )


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


def _corruptions(raw: Sequence[object], rounds: int) -> tuple[CorruptionSpec, ...]:
    """The corruptions of a study of so many ``rounds``.

        rounds = [8]                       the corrupted sites are honest in all others
        rounds = { first = 3, last = 8 }   one end may be left out
        site-share = 0.2                   instead of a number of sites

    Raises Refused: an unknown kind or knob, rounds that the study does not have, or two numbers of corrupted sites.
    """
    check_count(raw, _MAX_ADVERSARIES, "corruptions")
    specs = tuple(_corruption(as_table(item, f"corruptions[{i}]"), rounds, i) for i, item in enumerate(raw))
    refuse_twice([c.name for c in specs], "corruptions")
    return specs


def _judged_backdoors(corruptions: Sequence[CorruptionSpec]) -> tuple[AttackSpec, ...]:
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
