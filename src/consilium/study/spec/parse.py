"""From a study file to a :class:`~consilium.study.spec.spec.Spec`; what is wrong is one line that names the place."""

from __future__ import annotations

import errno
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from consilium.core.algorithm import Algorithm
from consilium.core.attack import Attack
from consilium.core.catalogue import nearest
from consilium.core.defence import Defence
from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.plain import Json, read_toml
from consilium.core.threat import CanaryView
from consilium.federate.client.participation import Participation
from consilium.learn.architecture import Architecture

from .arms import arm_name
from .data_table import division_of
from .spec import (
    JUDGED,
    AttackSpec,
    CanarySpec,
    Choice,
    CorruptionSpec,
    FederationShape,
    FederationSpec,
    Spec,
    StudyHead,
    Threshold,
)
from .thresholds import thresholds_of
from .toml_binding import as_table, card_of, check_length, entry, place, refuse_unknown, shown, value
from .unread_parameters import check_read

__all__ = ["parse", "read"]

_MAX_ARMS = 4096
_MAX_ADVERSARIES = 1000
_MAX_CELLS = 50_000
_LONGEST_LABEL = 80
_LONGEST_AXIS = 50
_DEFENCES = ("defend/data", "defend/training", "defend/update", "defend/merge", "defend/model", "defend/answer")
_ATTACKS = (
    "attack/evasion",
    "attack/membership",
    "attack/attribute",
    "attack/reconstruction",
    "attack/extraction",
    "attack/linkage",
)
_AUDIT = "one-run-audit"
_TABLES = ("data", "model", "federation", "vary", "attacks", "corruptions", "audit", "accept")


def read(path: Path) -> dict[str, Json]:
    """The tables of a study file."""
    try:
        return read_toml(path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise Refused("a study file is at most 1 MB", where=str(path)) from None
        raise Refused(f"cannot read {path}: {error.strerror}", remedy="give the path of a study file") from None
    except ValueError as error:  # what tomllib and int() make of text that nobody vouches for
        reason = " ".join(str(error).split())
        raise Refused(f"not TOML: {reason}", remedy="see docs/how-to/write-a-study.md", where=str(path)) from None


def parse(given: Mapping[str, Any]) -> Spec:
    """Resolve the tables of a study."""
    known = [*(f.name.replace("_", "-") for f in fields(StudyHead)), *_TABLES]
    for name in given:
        if name not in known:
            raise Refused(f"a study has no {shown(name)}", remedy=nearest(str(name)[:80], known), where=place("", name))
    for name in ("name", "data", "model"):
        if name not in given:
            raise Refused("missing", remedy=f"a study needs name, data and model; give {name}", where=name)
    head = value(StudyHead, {k: v for k, v in given.items() if k not in _TABLES}, "")
    model = entry(as_table(given["model"], "model"), "model", "learn/models")
    federation = _federation(given, model)
    vary = _axes(given.get("vary", {}), federation)
    if federation is not None:
        check_read(as_table(given.get("federation", "fed-avg"), "federation"), federation, vary)
    canaries = _canaries(given, model)
    corruptions = _corruptions(_sequence(given.get("corruptions", ()), "corruptions"))
    attacks = _audited(_attacks(_sequence(given.get("attacks", ()), "attacks"), vary), canaries)
    _limit_cells(len(head.seeds), vary, len(corruptions))
    return Spec(
        data=division_of(as_table(given["data"], "data")),
        model=model,
        federation=federation,
        vary=vary,
        attacks=attacks,
        corruptions=corruptions,
        canaries=canaries,
        accept=_accepted(_sequence(given.get("accept", ()), "accept"), vary, attacks, corruptions),
        given=dict(given),
        **vars(head),
    )


def _federation(given: Mapping[str, Any], model: Architecture) -> FederationSpec | None:
    if model.kind() == "file":
        if "federation" in given:
            raise Refused(
                "a study of a trained model trains nothing",
                remedy="remove [federation], or choose a model to train",
                where="federation",
            )
        return None
    table = as_table(given.get("federation", "fed-avg"), "federation")
    card = card_of(table, "federation", "federate/algorithms")
    shape = [f.name.replace("_", "-") for f in fields(FederationShape)]
    knobs = {k: v for k, v in table.items() if k != "kind"}
    refuse_unknown(knobs, [*card.knobs, *shape], "federation", card.kind)
    own = {k: v for k, v in knobs.items() if k in card.knobs}
    presence = _participation(knobs.pop("participation", {}))
    made = value(FederationShape, {k: v for k, v in knobs.items() if k in shape}, "federation")
    algorithm = entry({"kind": card.kind, **own}, "federation", "federate/algorithms")
    try:
        return FederationSpec(algorithm, replace(made, participation=presence))
    except Refused as error:
        raise error.at("federation") from None


def _participation(raw: object) -> Participation:
    where = "federation.participation"
    knobs = _mapping(raw, where)
    refuse_unknown(knobs, [f.name.replace("_", "-") for f in fields(Participation)], where, "participation")
    return value(Participation, knobs, where)


def _axes(raw: object, federation: FederationSpec | None) -> dict[str, tuple[Choice, ...]]:
    """The axes of defences, and at most one of algorithms, which begins with the study's own."""
    axes: dict[str, tuple[Choice, ...]] = {}
    arms = 1
    for axis, choices in _mapping(raw, "vary").items():
        check_length(str(axis), _LONGEST_AXIS, "vary")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", str(axis)):
            raise Refused(f"axis {shown(axis)} is not a name of letters, digits and dashes", where="vary")
        made = _choices(_sequence(choices, f"vary.{axis}"), f"vary.{axis}")
        axes[axis] = _of_algorithms(made, federation, f"vary.{axis}")
        arms *= len(axes[axis])
    several = [axis for axis, choices in axes.items() if any(c.algorithm for c in choices)]
    if len(several) > 1:
        raise Refused(
            "a study has one axis of algorithms", remedy=f"merge it into {several[0]}", where=f"vary.{several[1]}"
        )
    if arms > _MAX_ARMS:
        raise Refused(f"{arms} arms are more than {_MAX_ARMS}", remedy="vary fewer things at once", where="vary")
    _apart([c.label for choices in axes.values() for c in choices if c.label != "none"])
    return axes


def _of_algorithms(choices: tuple[Choice, ...], federation: FederationSpec | None, where: str) -> tuple[Choice, ...]:
    """An axis of algorithms begins with the study's own under its name; other axes stay as they are."""
    chosen = [choice.algorithm is not None for choice in choices[1:]]
    if not any(chosen):
        return choices
    if federation is None:
        raise Refused(
            "a study of a trained model trains nothing, so no algorithm can be varied",
            remedy="remove the axis",
            where=where,
        )
    if not all(chosen):
        raise Refused("an axis is of algorithms or of defences", remedy="give each an axis of its own", where=where)
    own = federation.algorithm
    for choice in choices[1:]:
        if choice.algorithm == own and choice.label.partition("(")[0] != own.kind():
            reason = f"{choice.label!r} is the study's own algorithm, which an axis shows as {own.kind()!r}"
            raise Refused(reason, remedy="take it out, or its name", where=where)
    others = [choice for choice in choices[1:] if choice.algorithm != own]
    if own.kind() in [choice.label for choice in others]:
        remedy = 'give one of them a name = "..."'
        raise Refused(f"{own.kind()!r} is the study's own algorithm, with other knobs", remedy=remedy, where=where)
    return (Choice(own.kind()), *others)


def _apart(labels: list[str]) -> None:
    """An arm is named by its choices, so a choice has its name on one axis only."""
    again = [label for label, count in Counter(labels).items() if count > 1]
    if again:
        raise Refused(f"choice {again[0]!r} stands on two axes", remedy='give one another name = "..."', where="vary")


def _choices(raw: Sequence[object], where: str) -> tuple[Choice, ...]:
    """``none`` first, then each choice; choices of one kind are told apart by the knobs in which they differ."""
    _limit(raw, _MAX_ARMS, where)
    named: list[tuple[int, Choice]] = []
    made: list[tuple[int, Choice]] = []
    for i, item in enumerate(raw):
        if item == "none":
            continue
        choice = _choice(item, f"{where}[{i}]")
        (named if choice.label else made).append((i, choice))
    told = [*named, *_told_apart(made)]
    again = [label for label, count in Counter(c.label for _, c in told).items() if count > 1]
    if again:
        raise Refused(f"choice {again[0]!r} stands twice", remedy="remove one or give it a name", where=where)
    return (Choice("none"), *(choice for _, choice in sorted(told, key=lambda pair: pair[0])))


def _choice(item: object, where: str) -> Choice:
    """One choice: a defence, or a list of them; its label is the name that was given, or nothing."""
    items = item if isinstance(item, list | tuple) else [item]
    if not items:
        raise Refused("a choice names no defence", remedy='"none" is always a choice', where=where)
    places = [f"{where}[{j}]" if items is item else where for j in range(len(items))]
    tables = [as_table(one, at) for one, at in zip(items, places, strict=True)]
    names = [_name(t.pop("name"), "", at) for t, at in zip(tables, places, strict=True) if "name" in t]
    if len(names) > 1:
        raise Refused(f"one choice has {len(names)} names", remedy=f"keep {names[0]!r} alone", where=where)
    found = [entry(t, at, *_DEFENCES, "federate/algorithms") for t, at in zip(tables, places, strict=True)]
    label = names[0] if names else ""
    if isinstance(found[0], Algorithm) and len(found) == 1:
        return Choice(label, (), found[0])
    defences = tuple(one for one in found if isinstance(one, Defence))
    if len(defences) < len(found):
        raise Refused("an algorithm is a choice of its own", remedy="give it an axis of its own", where=where)
    return Choice(label, defences)


def _told_apart(choices: Sequence[tuple[int, Choice]]) -> Iterator[tuple[int, Choice]]:
    """Label choices by their kinds, and those of the same kinds by the knobs in which they differ."""
    alike: dict[str, list[tuple[int, Choice]]] = {}
    for i, choice in choices:
        alike.setdefault("+".join(d.kind() for d in _entries(choice)), []).append((i, choice))
    for label, group in alike.items():
        knobs = [{(j, k): v for j, d in enumerate(_entries(c)) for k, v in d.configuration().items()} for _, c in group]
        differ = [at for at in knobs[0] if any(own[at] != knobs[0][at] for own in knobs)]
        for (i, choice), own in zip(group, knobs, strict=True):
            told = ", ".join(f"{knob}={own[j, knob]}" for j, knob in differ if own[j, knob] is not None)
            yield i, replace(choice, label=f"{label}({told})" if told else label)


def _entries(choice: Choice) -> tuple[Entry, ...]:
    return choice.defences if choice.algorithm is None else (choice.algorithm,)


def _attacks(raw: Sequence[object], vary: Mapping[str, tuple[Choice, ...]]) -> tuple[AttackSpec, ...]:
    _limit(raw, _MAX_ADVERSARIES, "attacks")
    made = []
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
        source = None if origin is None else _arm(_mapping(origin, f"{where}.from"), vary, f"{where}.from")
        made.append(AttackSpec(_name(name, attack.kind(), where), attack, source))
        if made[-1].name == JUDGED:
            reason = f"{JUDGED!r} names the file of the cell's own answers"
            raise Refused(reason, remedy="give the attack another name", where=f"{where}.name")
    _unique([a.name for a in made], "attacks")
    return tuple(made)


def _canaries(given: Mapping[str, Any], model: Architecture) -> CanarySpec | None:
    """The table ``[audit]``."""
    if "audit" not in given:
        return None
    if model.kind() == "file":
        raise Refused(
            "canaries belong to a training, and an existing model has had its own",
            remedy="remove [audit], or train a model",
            where="audit",
        )
    knobs = _mapping(given["audit"], "audit")
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
    _unique([spec.name for spec in (*attacks, added)], "attacks")
    return (*attacks, added)


def _arm(origin: Mapping[str, Any], vary: Mapping[str, tuple[Choice, ...]], where: str) -> dict[str, str]:
    """One label per axis; an axis that is not named is its first choice; a kind stands for the one choice it begins."""
    for axis in origin:
        if axis not in vary:
            remedy = nearest(str(axis)[:80], list(vary)) if vary else "add it under [vary]"
            raise Refused(f"the study varies no {shown(axis)}", remedy=remedy, where=place(where, axis))
    chosen = {}
    for axis, choices in vary.items():
        label = origin.get(axis, choices[0].label)
        labels = [c.label for c in choices if c.label == label or c.label.startswith(f"{label}(")]
        if len(labels) != 1:
            raise Refused(
                f"axis {axis} has no choice {shown(label)}",
                remedy=nearest(str(label)[:80], [c.label for c in choices]),
                where=f"{where}.{axis}",
            )
        chosen[axis] = labels[0]
    return chosen


def _accepted(
    raw: Sequence[object],
    vary: Mapping[str, tuple[Choice, ...]],
    attacks: Sequence[AttackSpec],
    corruptions: Sequence[CorruptionSpec],
) -> tuple[Threshold, ...]:
    """The tables ``[[accept]]``; an arm is named as in the report, or by its choices."""
    _limit(raw, _MAX_ADVERSARIES, "accept")
    origins = {i: one["arm"] for i, one in enumerate(raw) if isinstance(one, Mapping) and "arm" in one}
    named = {
        i: arm_name(list(_arm(origin, vary, f"accept[{i}].arm").values()))
        for i, origin in origins.items()
        if isinstance(origin, Mapping)
    }
    return thresholds_of(raw, named, vary, attacks, corruptions)


def _corruptions(raw: Sequence[object]) -> tuple[CorruptionSpec, ...]:
    _limit(raw, _MAX_ADVERSARIES, "corruptions")
    made = []
    for i, item in enumerate(raw):
        where = f"corruptions[{i}]"
        table = as_table(item, where)
        name = table.pop("name", None)
        corruption = entry(table, where, "attack/poisoning")
        made.append(CorruptionSpec(_name(name, corruption.kind(), where), corruption))
    _unique([c.name for c in made], "corruptions")
    return tuple(made)


def _name(name: object, kind: str, where: str) -> str:
    if name is None:
        return kind
    if isinstance(name, str):
        check_length(name, _LONGEST_LABEL, f"{where}.name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "none":
        raise Refused(f"{shown(name)} is no name", remedy="use letters, digits, dots, dashes", where=f"{where}.name")
    return name


def _unique(names: list[str], where: str) -> None:
    again = [name for name, count in Counter(names).items() if count > 1]
    if again:
        raise Refused(
            f"two of them are called {again[0]!r}", remedy='give one another: name = "..."', where=f"{where}.name"
        )


def _mapping(raw: object, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise Refused(f"expected a table, got {shown(raw)}", remedy=f"write [{where}]", where=where)
    return raw


def _sequence(raw: object, where: str) -> Sequence[object]:
    if not isinstance(raw, (list, tuple)):
        raise Refused(f"expected a list, got {shown(raw)}", remedy="write [ ... ] or [[...]]", where=where)
    return raw


def _limit_cells(seeds: int, vary: Mapping[str, Sequence[Choice]], corruptions: int) -> None:
    arms = math.prod(len(choices) for choices in vary.values())
    if (cells := seeds * arms * (1 + corruptions)) > _MAX_CELLS:
        raise Refused(
            f"{seeds} seeds x {arms} arms x {1 + corruptions} infections are {cells} models, more than {_MAX_CELLS}",
            remedy="use fewer seeds or choices, or split the study",
        )


def _limit(raw: Sequence[object], most: int, where: str) -> None:
    if len(raw) > most:
        raise Refused(f"{len(raw)} are more than {most}", remedy="split the study", where=where)
