"""A site's policy: its own file of limits, whatever a server requests, read before anything is built or trained.

    max-rounds, max-local-epochs, minimum-sites, minimum-count, assess, max-assessments, allow-code, algorithms,
    studies, witness
    [budget]     epsilon, delta, labels, unit, adjacency: over all studies on the same patients' records, by the site's
                 ledger
    [[require]]  kind = "dp-sgd", and for its knobs  { at-least = ..., at-most = ... };  or any-of = [...] of such

A request is checked against figures that the site computes itself: its number of records, its noise multiplier.  A
request beyond a limit is refused, naming the limit, the value requested and the value allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from consilium.core import catalogue
from consilium.core.charge import Adjacency, Charge, Composed, Gaussian, PerUnit, PoissonSampled, Unit
from consilium.core.errors import Refused
from consilium.core.plain import Json, read_toml
from consilium.core.records import Limits
from consilium.deploy.protocol.framing import quoted
from consilium.deploy.protocol.messages import StudyRequest

from .ledger import Budget, Ledger
from .record_tokens import Fingerprint

__all__ = ["Planned", "Requirement", "SiteLimits", "check_policy", "check_request", "read_limits"]

_Word = TypeVar("_Word", bound=str)
_UNITS: tuple[Unit, ...] = ("example", "patient")
_ADJACENCIES: tuple[Adjacency, ...] = get_args(Adjacency)
_DEFENCES = tuple(room for room in catalogue.ROOMS if room.startswith("defend/"))
_TOP = [
    "max-rounds", "max-local-epochs", "minimum-sites", "minimum-count", "assess", "max-assessments", "allow-code",
    "algorithms", "studies", "witness", "budget", "require",
]  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """A defence that a study must have: its kind, and the least and greatest value of its knobs."""

    kind: str
    knobs: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def shortfall(self, defences: Sequence[Mapping[str, Any]], known: Mapping[str, float] | None) -> str | None:
        """Why ``defences`` do not meet it, None if they do; ``known`` are knobs that the site worked out.

        With ``known`` None a knob that the study leaves open is not judged yet.
        """
        candidates = [defence for defence in defences if defence.get("kind") == self.kind]
        if not candidates:
            return f"no {self.kind}"
        for knob, (least, most) in self.knobs.items():
            for defence in candidates:
                value = defence.get(knob)
                if value is None and known is None:
                    continue
                if value is None:
                    value = (known or {}).get(knob)
                if isinstance(value, bool) or not isinstance(value, int | float):
                    return f"{self.kind} without a number for {knob}"
                if least is not None and value < least:
                    return f"{self.kind} with {knob} {value:g}, and at least {least:g} is required"
                if most is not None and value > most:
                    return f"{self.kind} with {knob} {value:g}, and at most {most:g} is allowed"
        return None


@dataclass(frozen=True)
class SiteLimits:
    """A site's own limits; the defaults are those of a site without a file.

    ``minimum_sites``: fewer may not take part in a study.  ``minimum_count`` and ``assess``: no aggregate over fewer
    held-out records leaves, or none at all; ``max_assessments`` models are judged, over all studies.  ``studies``
    (names, digests of a study as on its sign-off sheet, or of one request) and ``algorithms``: only these; None: any.
    ``required``: of each group, one requirement must be met.
    """

    max_rounds: int = 1000
    max_local_epochs: int = 100
    minimum_sites: int = 2
    minimum_count: int = 5
    assess: bool = True
    max_assessments: int = 10_000
    allow_code: bool = False
    studies: tuple[str, ...] | None = None
    algorithms: tuple[str, ...] | None = None
    budget: Budget = field(default_factory=Budget)
    required: tuple[tuple[Requirement, ...], ...] = ()
    witness: Path | None = None

    def at_site(self) -> Limits:
        """The part that an assessment obeys."""
        return Limits(minimum_count=self.minimum_count, consent=self.assess)


@dataclass(frozen=True, eq=False)
class Planned:
    """What a study would do to this site's records, worked out at the site.

    ``data`` are the records before any defence; ``step`` what one local step does to one of them (None: no
    differential privacy), ``steps`` how many a round has; ``labels`` what is done to labels once; ``most`` how many
    rounds the study's own budget allows, None for all.
    """

    data: Fingerprint
    step: Charge | None
    steps: int
    labels: tuple[Charge, ...] = ()
    most: int | None = None

    def charges(self, rounds: int = 1) -> tuple[Charge, ...] | None:
        """What ``rounds`` rounds do; None without differential privacy."""
        return None if self.step is None else (Composed(self.step, rounds * self.steps),)

    def known(self) -> dict[str, float]:
        """The knobs that the site works out where a study leaves them to it."""
        match self.step.inner if isinstance(self.step, PerUnit) else self.step:
            case Gaussian(sigma) | PoissonSampled(_, Gaussian(sigma)):
                return {"noise-multiplier": sigma}
        return {}


def check_request(request: StudyRequest, limits: SiteLimits) -> None:
    """Refuse what can be judged by the request alone, before any record is read."""
    if request.code and not limits.allow_code:
        _refuse("allow-code", "the study's model is a user's own code, and this site runs installed code only")
    if limits.studies is not None and not _names(request) & set(limits.studies):
        _refuse("studies", f"{quoted(request.study)} ({request.digest()[:12]}...) is not among the allowed studies")
    kind = request.algorithm["kind"]
    if limits.algorithms is not None and kind not in limits.algorithms:
        _refuse("algorithms", f"the study uses {quoted(kind)}; allowed are {', '.join(limits.algorithms)}")
    for name, requested, most in (
        ("max-rounds", request.rounds, limits.max_rounds),
        ("max-local-epochs", request.local_epochs, limits.max_local_epochs),
    ):
        if requested > most:
            _refuse(name, f"the study asks for {requested}; at most {most} are allowed")
    if request.sites < limits.minimum_sites:
        _refuse("minimum-sites", f"the study has {request.sites} sites; at least {limits.minimum_sites} are required")
    for group in limits.required:
        _check_required(group, request, None)


def _names(request: StudyRequest) -> set[str]:
    """The words by which limits can name a study."""
    return {request.study, request.digest(), request.study_digest()}


def check_policy(request: StudyRequest, limits: SiteLimits, ledger: Ledger, data: Planned) -> None:
    """Refuse a study that ``limits`` do not allow on ``data``; the rounds that are not paid yet count."""
    check_request(request, limits)
    for group in limits.required:
        _check_required(group, request, data.known())
    study = request.digest()
    rounds = request.rounds if data.most is None else min(request.rounds, data.most)
    rounds_due = rounds - len(set(ledger.paid(study)))
    charges_due = ledger.owed(study, data.data, data.labels)
    ledger.check(data.data, data.charges(max(0, rounds_due)), limits.budget, charges_due, randomised=bool(data.labels))


def read_limits(path: Path) -> SiteLimits:
    """The limits in a TOML file; an unknown name is refused with the nearest one offered.

    Raises Refused: the file is not readable, not TOML, or has an unknown name or value.
    """
    try:
        return _limits(read_toml(path))
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})", where=str(path)) from None
    except Refused as error:
        raise error.at(str(path)) from None
    except ValueError as error:
        raise Refused(f"is not TOML: {str(error).splitlines()[0]}", where=str(path)) from None


def _check_required(group: Sequence[Requirement], request: StudyRequest, known: Mapping[str, float] | None) -> None:
    reasons = [needed.shortfall(request.defences, known) for needed in group]
    if None not in reasons:
        wanted = " or ".join(needed.kind for needed in group)
        _refuse("require", f"the study has {'; '.join(str(reason) for reason in reasons)}; this site requires {wanted}")


def _limits(table: Mapping[str, Any]) -> SiteLimits:
    _check_known(table, _TOP, "limit")
    base = SiteLimits()
    return SiteLimits(
        max_rounds=_whole(table, "max-rounds", base.max_rounds),
        max_local_epochs=_whole(table, "max-local-epochs", base.max_local_epochs),
        minimum_sites=_whole(table, "minimum-sites", base.minimum_sites),
        minimum_count=_whole(table, "minimum-count", base.minimum_count),
        assess=_flag(table, "assess", base.assess),
        max_assessments=_whole(table, "max-assessments", base.max_assessments),
        allow_code=_flag(table, "allow-code", base.allow_code),
        studies=_words(table, "studies"),
        algorithms=_algorithms(table),
        budget=_budget(table.get("budget", {})),
        required=tuple(_group(group, k) for k, group in enumerate(_tables(table.get("require", []), "require"))),
        witness=_path(table, "witness"),
    )


def _budget(table: object) -> Budget:
    if not isinstance(table, dict):
        _wrong("budget", table, "a table")
    _check_known(table, ["epsilon", "delta", "labels", "unit", "adjacency"], "part of a budget", "budget")
    unit = _choice(table, "unit", "budget.unit", _UNITS)
    adjacency = _choice(table, "adjacency", "budget.adjacency", _ADJACENCIES)
    delta = _number(table, "delta", "budget.delta", 1.0)
    epsilon, labels = (
        _number(table, name, f"budget.{name}") if name in table else None for name in ("epsilon", "labels")
    )
    delta = Budget().delta if delta is None or "delta" not in table else delta
    return Budget(epsilon, delta, labels, unit, adjacency)


def _choice(table: Mapping[str, Any], name: str, where: str, known: tuple[_Word, ...]) -> _Word:
    """One of the ``known`` values, the first by default."""
    word = table.get(name, known[0])
    for one in known:
        if word == one:
            return one
    return _wrong(where, word, " or ".join(f'"{one}"' for one in known))


def _group(table: Mapping[str, Any], number: int) -> tuple[Requirement, ...]:
    where = f"require.{number}"
    if "any-of" in table:
        _check_known(table, ["any-of"], "part of a choice", where)
        choices = _tables(table["any-of"], f"{where}.any-of")
        if not choices:
            _wrong(f"{where}.any-of", [], "one defence or more")
        return tuple(_requirement(choice, f"{where}.any-of.{k}") for k, choice in enumerate(choices))
    return (_requirement(table, where),)


def _requirement(table: Mapping[str, Any], where: str) -> Requirement:
    if not isinstance(table.get("kind"), str):
        _wrong(f"{where}.kind", table.get("kind"), "the kind of a defence")
    try:
        card = catalogue.find(table["kind"], *_DEFENCES)
        _check_known(table, ["kind", *card.knobs], f"knob of {card.kind}")
    except Refused as error:
        raise error.at(where) from None
    return Requirement(card.kind, {knob: _bounds(table[knob], f"{where}.{knob}") for knob in table if knob != "kind"})


def _bounds(table: object, where: str) -> tuple[float | None, float | None]:
    if not isinstance(table, dict) or not table:
        _wrong(where, table, "{ at-least = ... }, { at-most = ... } or both")
    _check_known(table, ["at-least", "at-most"], "bound", where)
    least, most = (
        _number(table, name, f"{where}.{name}") if name in table else None for name in ("at-least", "at-most")
    )
    return least, most


def _algorithms(table: Mapping[str, Any]) -> tuple[str, ...] | None:
    words = _words(table, "algorithms")
    for word in words or ():
        try:
            catalogue.find(word, "federate/algorithms")
        except Refused as error:
            raise error.at("algorithms") from None
    return words


def _check_known(table: Mapping[str, Any], names: list[str], what: str, where: str = "") -> None:
    for name in table:
        if name not in names:
            raise Refused(f"unknown {what} {name!r}", remedy=catalogue.nearest(name, names), where=where)


def _tables(value: object, where: str) -> list[dict[str, Json]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        _wrong(where, value, "tables")
    return value


def _whole(table: Mapping[str, Any], name: str, default: int) -> int:
    value = table.get(name, default)
    if type(value) is not int or value < 1:
        _wrong(name, value, "a whole number of at least 1")
    return value


def _number(table: Mapping[str, Any], name: str, where: str, most: float = 1e9) -> float | None:
    value = table.get(name)
    if value is not None and (type(value) not in (int, float) or not 0 < value < most):
        _wrong(where, value, f"a number above 0 and below {most:g}")
    return None if value is None else float(value)


def _flag(table: Mapping[str, Any], name: str, default: bool) -> bool:
    value = table.get(name, default)
    if not isinstance(value, bool):
        _wrong(name, value, "true or false")
    return value


def _words(table: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = table.get(name)
    if value is not None and (not isinstance(value, list) or not all(isinstance(word, str) for word in value)):
        _wrong(name, value, "a list of names")
    return None if value is None else tuple(value)


def _path(table: Mapping[str, Any], name: str) -> Path | None:
    value = table.get(name)
    if value is not None and (not isinstance(value, str) or not re.fullmatch(r"/[^\0\n]+", value)):
        _wrong(name, value, "an absolute path")
    return None if value is None else Path(value)


def _wrong(where: str, value: object, wanted: str) -> NoReturn:
    raise Refused(f"{quoted(value)} cannot be used", remedy=f"give {wanted}", where=where)


def _refuse(limit: str, reason: str) -> NoReturn:
    raise Refused(
        reason,
        remedy="change the study to what this site allows, or ask the site's operator to change its limits",
        where=f"limits.{limit}",
    )
