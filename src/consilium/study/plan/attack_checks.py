"""Whether every attack can ask what it asks of data of this form: refused before anything trains."""

from __future__ import annotations

from consilium.core.errors import Refused
from consilium.core.records import Consortium
from consilium.study.spec.spec import Spec

__all__ = ["check_attacks"]


def check_attacks(spec: Spec, data: Consortium) -> None:
    """Refuse an attack that cannot run on inputs of the shape of ``data``, by its place in the study."""
    for i, attack in enumerate(spec.attacks):
        try:
            attack.attack.check_task(data.task)
            attack.attack.check_fit(tuple(data.shape), len(data.classes))
        except Refused as error:
            raise error.at(f"attacks[{i}]") from error
