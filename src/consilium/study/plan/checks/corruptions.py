"""Whether a corruption does anything on the data of a seed.

A twin that nobody infects equals the clean one, and reads as a defence that holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from consilium.core.attack import Corruption
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Records, Site
from consilium.core.task import Task
from consilium.learn.objectives import TaskLoss
from consilium.study.build.factory import colluders
from consilium.study.spec.federation_table import FederationSpec
from consilium.study.spec.spec import CorruptionSpec, TrainingSpec

__all__ = ["check_infections", "infection_note"]

_STRENGTHS = ("sites", "share", "radius")
"""The knobs at whose zero an entry is a control, by what entries call them."""


def check_infections(spec: TrainingSpec, data: Consortium, seed: int) -> None:
    """Refuse corruptions without an effect on the data of ``seed``.

    Raises Refused: a corruption cannot run on these data, or changes nothing there.
    """
    for i, infection in enumerate(spec.corruptions):
        try:
            _check(spec, infection, data, seed)
        except Refused as error:
            raise error.at(f"corruptions[{i}]") from error


def infection_note(infection: CorruptionSpec, classes: Sequence[str]) -> str:
    """What a corruption does by the names of the classes, as a sentence; empty where its kind says enough."""
    deed, rounds = infection.corruption.describe(classes), infection.rounds
    acts = f"acts in round{'s' * (len(rounds) > 1)} {_numbers(rounds)} alone" if rounds else ""
    kind = infection.corruption.kind()
    shown = kind if infection.name == kind else f"{infection.name}: {kind}"
    parts = [part for part in (deed, acts) if part]
    return f"{shown} {', '.join(parts)}" if parts else ""


def _numbers(rounds: Sequence[int]) -> str:
    """A stretch as its ends."""
    stretch = len(rounds) > 2 and list(rounds) == list(range(rounds[0], rounds[-1] + 1))
    return f"{rounds[0]} to {rounds[-1]}" if stretch else ", ".join(map(str, rounds))


def _check(spec: TrainingSpec, infection: CorruptionSpec, data: Consortium, seed: int) -> None:
    knobs = [knob for knob in _STRENGTHS if knob != "sites" or infection.site_share is None]
    zero = [knob for knob in knobs if getattr(infection.corruption, knob, None) == 0]
    if zero:
        raise _idle(infection, f"{zero[0]} = 0")
    infection.corruption.check_task(data.task)
    infection.corruption.check_inputs(data.inputs)
    infection.corruption.check_fit(tuple(data.shape), len(data.classes))
    infection.corruption.check_sites(infection.count(len(data.sites)), len(data.sites))
    bad = infection.by_site(colluders(infection, data.sites, seed))
    sites = [site for site in data.sites if site.id in bad]
    poisoned = [bad[s.id].records(s.records.train, len(data.classes), _stream(seed)) for s in sites]
    _check_judged(infection, data)
    if not _acts(infection.corruption, spec.federation, data.task, sites, poisoned):
        raise _idle(infection, f"it changes no record of {', '.join(bad)}, seed {seed}")


def _check_judged(infection: CorruptionSpec, data: Consortium) -> None:
    """A backdoor is judged on test records: there must be some."""
    backdoor = infection.corruption.backdoor()
    if backdoor is not None and not bool(backdoor.judged(data.test).any()):
        raise Refused(
            f"corruption {infection.name} plants a backdoor that no test record of another class than the target has",
            remedy="choose a trigger that some test records have",
        )


def _stream(seed: int) -> Stream:
    return Stream(seed).child("check")


def _idle(infection: CorruptionSpec, why: str) -> Refused:
    return Refused(
        f"corruption {infection.name} infects nobody ({why})",
        remedy="the clean twin is run anyway: leave the corruption out, or make it stronger",
    )


def _acts(
    corruption: Corruption, federation: FederationSpec, task: Task, sites: Sequence[Site], poisoned: Sequence[Records]
) -> bool:
    """Whether anything that a corrupted site does is other than what an honest one does."""
    plain, schedule = TaskLoss(task), federation.shape.schedule()
    return (
        type(corruption).forge is not Corruption.forge
        or corruption.objective(plain) is not plain
        or corruption.schedule(schedule) != schedule
        or corruption.algorithm(federation.algorithm) != federation.algorithm
        or any(_differ(site.records.train, records) for site, records in zip(sites, poisoned, strict=True))
    )


def _differ(one: Records, other: Records) -> bool:
    return not (torch.equal(one.y, other.y) and torch.equal(one.x, other.x))
