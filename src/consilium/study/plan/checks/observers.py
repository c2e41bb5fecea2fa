"""Whether the attacks that watch the rounds have a place in a study: checked before anything trains."""

from __future__ import annotations

from collections.abc import Collection

from consilium.core.errors import Refused
from consilium.core.records import Consortium
from consilium.core.round_observer import RoundObserver
from consilium.study.build.factory import ever_corrupted
from consilium.study.spec.spec import TrainedModelSpec, TrainingSpec

__all__ = ["check_observers", "honest_sizes", "refuse_observers"]


def honest_sizes(data: Consortium, bad: Collection[str]) -> dict[str, int]:
    """The honest sites, with their numbers of training records."""
    return {site.id: len(site.records.train) for site in data.sites if site.id not in bad}


def check_observers(spec: TrainingSpec, data: Consortium) -> None:
    """Refuse, before anything trains, an observer of rounds that has no place in the study."""
    for i, attack in enumerate(spec.attacks):
        if not isinstance(attack.attack, RoundObserver):
            continue
        try:
            for seed in spec.seeds:
                attack.attack.targets(honest_sizes(data, ever_corrupted(spec, data.sites, seed)))
        except Refused as error:
            raise error.at(f"attacks[{i}]") from error


def refuse_observers(spec: TrainedModelSpec) -> None:
    """Refuse, where nothing is trained, every observer of rounds.

    Raises Refused: an attack of the study observes rounds.
    """
    for i, attack in enumerate(spec.attacks):
        if isinstance(attack.attack, RoundObserver):
            reason = f"{attack.name} observes the rounds of a training, and a study of a trained model trains nothing"
            raise Refused(reason, remedy="leave it out, or train the model in the study", where=f"attacks[{i}]")
