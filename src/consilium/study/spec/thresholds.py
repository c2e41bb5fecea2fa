"""The tables ``[[accept]]``: what the study accepts, checked against what it will measure before anything is run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from consilium.core.catalogue import nearest
from consilium.core.errors import Refused
from consilium.core.threat import CanaryView
from consilium.measure.acceptance import OF_ATTACKS, OF_MODELS, FigureKind

from .arms import arm_name
from .spec import AttackSpec, Choice, CorruptionSpec, Spec, Threshold
from .toml_binding import refuse_unknown, shown, value

__all__ = ["canonical_thresholds", "figure_kind", "thresholds_of"]

_KNOBS = tuple(f.name.replace("_", "-") for f in fields(Threshold))
_MOST_SHOWN = 80


def thresholds_of(
    tables: Sequence[object],
    arm_names: Mapping[int, str],
    vary: Mapping[str, tuple[Choice, ...]],
    attacks: Sequence[AttackSpec],
    corruptions: Sequence[CorruptionSpec],
) -> tuple[Threshold, ...]:
    """The thresholds; ``arm_names`` are those that were written as choices, by the number of their table.

    Raises Refused: an unknown measure, arm, attack or corruption, no bound or both, a bound that no figure can reach,
    the same threshold twice; the error names the place.
    """
    thresholds: list[Threshold] = []
    for i, raw in enumerate(tables):
        where = f"accept[{i}]"
        if not isinstance(raw, Mapping):
            raise Refused(f"expected a table, got {shown(raw)}", remedy="write [[accept]]", where=where)
        refuse_unknown(raw, _KNOBS, where, "accept")
        for name in (name for name, text in raw.items() if text == ""):
            raise Refused("this text is empty", remedy="give a name, or leave it out", where=f"{where}.{name}")
        knobs = {**raw, **({"arm": arm_names[i]} if i in arm_names else {})}
        one = value(Threshold, knobs, where)
        _check_names(one, vary, attacks, corruptions, where)
        _check_reachable(one, figure_kind(one, attacks, where), where)
        if one in thresholds:
            raise Refused(f"this is accept[{thresholds.index(one)}] again", remedy="remove one of them", where=where)
        thresholds.append(one)
    return tuple(thresholds)


def figure_kind(threshold: Threshold, attacks: Sequence[AttackSpec], where: str = "") -> FigureKind:
    """What the named measure says of the truth.

    Raises Refused: the model or the attack has no such measure.
    """
    attack = next((a for a in attacks if a.name == threshold.attack), None)
    known = OF_MODELS if attack is None else _measures(attack)
    if threshold.measure in known:
        return known[threshold.measure]
    name = threshold.measure[:_MOST_SHOWN]
    owners = [a.name for a in attacks if name in _measures(a)]
    if attack is None and (owners or any(name in measures for measures in OF_ATTACKS.values())):
        remedy = f"say attack = {json.dumps(owners[0])}" if owners else "add an attack that measures it"
        raise Refused(f"{name} is a measure of an attack", remedy=remedy, where=f"{where}.measure")
    if attack is not None and name in OF_MODELS:
        raise Refused(f"{name} is a measure of the model", remedy="leave out attack", where=f"{where}.measure")
    whose = "a model" if attack is None else attack.name
    if not known:
        reason = f"no figure of {whose} can stand in a threshold"
        raise Refused(reason, remedy="name another attack", where=f"{where}.attack")
    raise Refused(f"{whose} has no measure {shown(name)}", remedy=nearest(name, list(known)), where=f"{where}.measure")


def _measures(attack: AttackSpec) -> Mapping[str, FigureKind]:
    aim = "canaries" if attack.attack.needs is CanaryView else attack.attack.threat.aim
    return OF_ATTACKS.get(aim, {})


def _check_names(
    one: Threshold,
    vary: Mapping[str, tuple[Choice, ...]],
    attacks: Sequence[AttackSpec],
    corruptions: Sequence[CorruptionSpec],
    where: str,
) -> None:
    known: dict[str, list[str]] = {"attack": [a.name for a in attacks], "corruption": [c.name for c in corruptions]}
    if one.arm:
        known["arm"] = [arm_name([c.label for c in choices]) for choices in itertools.product(*vary.values())]
    for what, names in known.items():
        name = getattr(one, what)
        if name and name not in names:
            remedy = nearest(name[:_MOST_SHOWN], names) if names else f"leave it out, or add [[{what}s]]"
            raise Refused(f"the study has no {what} {shown(name)}", remedy=remedy, where=f"{where}.{what}")


def _check_reachable(one: Threshold, figure: FigureKind, where: str) -> None:
    bound = one.bound
    if not figure.least <= bound <= figure.most:
        knob = "at-least" if one.at_least is not None else "at-most"
        span = f"from {figure.least:g} to {figure.most:g}"
        raise Refused(
            f"{one.measure} lies {span}, and {bound:g} does not", remedy=f"use a number {span}", where=f"{where}.{knob}"
        )


def canonical_thresholds(spec: Spec) -> list[dict[str, object]]:
    """The thresholds in plain JSON, in an order that does not depend on the file's.

    With each stands how its attack and its corruption are configured: a weaker one of the same name is another test.
    """
    means = {"attack": {a.name: a.configuration() for a in spec.attacks}}
    means["corruption"] = {c.name: c.configuration() for c in spec.corruptions}
    plain = [{name: v for name, v in asdict(one).items() if v not in (None, "")} for one in spec.accept]
    whole = [one | {f"{k}_configuration": means[k][one[k]] for k in means if k in one} for one in plain]
    return sorted(whole, key=lambda one: json.dumps(one, sort_keys=True))
