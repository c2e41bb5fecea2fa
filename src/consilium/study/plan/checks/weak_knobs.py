"""Knobs with which an entry hardly does what it is named for: each is noted beside the figures, by name.

They are not refused, because a study may mean them: random starts alone are a baseline of PGD, and a bound that nothing
reaches is the control of one that bounds.  Without the note an attack that does nothing reads as a robust model, and a
defence that does nothing as a free one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from consilium.core.entry import Entry

__all__ = ["weak_knobs"]

_Knobs = Mapping[str, Any]
_FEW_SHADOWS, _LOOSE_EPSILON, _LARGE, _SMALL, _FLOAT_DIGITS = 8, 50.0, 1e6, 1e-6, 7
_FAINT = 1e-3
"""A quarter of a grey level; inputs lie in [0, 1]."""
_FAR = 10.0
_RARE = 0.01
"""Below this share of the records or weights a choice of them is next to none."""


def weak_knobs(entries: Sequence[Entry], classes: int) -> tuple[str, ...]:
    """A sentence for each knob of ``entries`` that leaves next to nothing of what its entry does."""
    return tuple(f"{entry.kind()}: {weakness}." for entry in entries for weakness in _weaknesses(entry, classes))


def _weaknesses(entry: Entry, classes: int) -> Iterator[str]:
    knobs: _Knobs = entry.configuration()
    if rule := _RULES.get(entry.kind()):
        yield from rule(knobs)
    if entry.kind() == "round-answer" and (knobs["top-k"] or 0) >= classes and knobs["digits"] is None:
        yield f"top-k = {knobs['top-k']} of {classes} classes hides no answer"


def _faint(knobs: _Knobs) -> Iterator[str]:
    if 0 < knobs["radius"] < _FAINT:
        yield f"radius = {knobs['radius']:g} moves an input of [0, 1] by less than a quarter of a grey level (1/255)"


def _steps(knobs: _Knobs) -> Iterator[str]:
    yield from _faint(knobs)
    radius, step = float(knobs["radius"]), knobs.get("step-size")
    if step is not None and knobs["steps"] * step < radius * (1 - 1e-6):
        reach = f"{knobs['steps']} steps of {step:g} reach {knobs['steps'] * step / radius:.3g} of the radius"
        yield f"{reach} {radius:g}, so its points are little better than the random ones that it starts from"


def _adversarial(knobs: _Knobs) -> Iterator[str]:
    yield from _steps(knobs)
    yield from _share(knobs)


def _poisoned(knobs: _Knobs) -> Iterator[str]:
    yield from _faint(knobs)
    yield from _share(knobs)


def _share(knobs: _Knobs) -> Iterator[str]:
    if knobs["share"] < _RARE:
        yield f"share = {knobs['share']:g} touches next to no record"


def _whole(knobs: _Knobs) -> Iterator[str]:
    if knobs["share"] > 1 - _SMALL:
        yield f"share = {knobs['share']:g} leaves nothing out: every coordinate is sent, with its place"


def _sparsity(knobs: _Knobs) -> Iterator[str]:
    if knobs["sparsity"] < _RARE:
        yield f"sparsity = {knobs['sparsity']:g} removes next to no weight"


def _bound(knobs: _Knobs) -> Iterator[str]:
    if knobs["bound"] >= _LARGE:
        yield f"no update is near the bound {knobs['bound']:g}, so none is bounded"


def _private(knobs: _Knobs) -> Iterator[str]:
    yield from _epsilon(knobs)
    clip, noise = knobs.get("clip"), knobs.get("noise-multiplier")
    if clip is not None and not _SMALL < clip < _LARGE:
        loose = "nothing is clipped, and noise of that size drowns what is learned"
        yield f"clip = {clip:g}: {loose if clip > 1 else 'next to nothing of a gradient is left'}"
    if noise is not None and noise < _RARE:
        yield f"noise-multiplier = {noise:g} hides next to nothing: read its epsilon"


def _epsilon(knobs: _Knobs) -> Iterator[str]:
    epsilon = knobs.get("epsilon")
    if epsilon is not None and epsilon > _LOOSE_EPSILON:
        yield f"epsilon = {epsilon:g} bounds what an adversary learns by next to nothing"


def _digits(knobs: _Knobs) -> Iterator[str]:
    if knobs["digits"] is not None and knobs["digits"] > _FLOAT_DIGITS and knobs["top-k"] is None:
        yield f"digits = {knobs['digits']} are more than single precision has, so nothing is rounded"


def _shadows(knobs: _Knobs) -> Iterator[str]:
    if knobs["shadows"] < _FEW_SHADOWS:
        yield f"{knobs['shadows']} shadows are few: with more of them the attack may tell more"


def _ratio(knobs: _Knobs) -> Iterator[str]:
    yield from _shadows(knobs)
    gamma = float(knobs["gamma"])
    if not 1 / _FAR <= gamma <= _FAR:
        yield f"gamma = {gamma:g} asks for a ratio that next to every record has, or next to none"


def _walk(knobs: _Knobs) -> Iterator[str]:
    yield from _faint(knobs)
    if knobs["steps"] == 1:
        yield "steps = 1 halves each radius once: two distances are told apart"


_RULES: dict[str, Callable[[_Knobs], Iterator[str]]] = {
    "fgsm": _faint,
    "pgd": _steps,
    "transfer": _steps,
    "deepfool": _faint,
    "carlini-wagner": _faint,
    "ddn": _faint,
    "fmn": _faint,
    "fab": _faint,
    "universal": _faint,
    "adversarial-training": _adversarial,
    "trades": _steps,
    "mart": _steps,
    "free-adversarial-training": _faint,
    "adversarial-poisoning": _poisoned,
    "label-flip": _share,
    "top-k": _whole,
    "prune": _sparsity,
    "norm-bound": _bound,
    "dp-sgd": _private,
    "dp-fed-avg": _private,
    "label-randomised-response": _epsilon,
    "round-answer": _digits,
    "lira": _shadows,
    "rmia": _ratio,
    "label-boundary": _walk,
    "shokri": _shadows,
}
