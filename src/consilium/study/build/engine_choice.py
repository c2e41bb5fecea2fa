"""From the study's word for an engine to the engine, and what became of ``auto``, which a resumed training keeps.

``FOLDER/engine.json`` beside a training says what carries it: the choice of a probe must not change under a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from consilium.core.errors import Failed, Refused
from consilium.core.network import Network
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.core.seal import is_altered, sealed, unsealed
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.auto import fastest
from consilium.federate.engines.engine import Engine
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, cores, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import RoundExchange, RoundState
from consilium.federate.round.run_exchange import first_work
from consilium.study.spec.arms import Arm
from consilium.study.spec.federation_table import FederationShape
from consilium.study.spec.spec import TrainingSpec
from consilium.study.store.store import read_stored, write_json

from .factory import exchange

__all__ = [
    "check_engine",
    "engine_for",
    "engine_record",
    "is_deployed",
    "tolerance_of",
    "write_engine_record",
]

_FILE = "engine.json"
_HERE: Mapping[str, type[Engine]] = {"loop": Loop, "pool": Pool, "stacked": Stacked}
"""The engines that carry a simulation, by the names that a study has for them."""


def engine_for(
    shape: FederationShape,
    device: str,
    whole: RoundExchange,
    judging: Assessing,
    start: RoundState,
    folder: Path,
    allotted: int = 0,
) -> Engine:
    """What carries the training in ``folder``: as the study says, or as the probe finds and the folder remembers.

    It may use ``allotted`` cores (0: all of them): where that is one, the probe tries no pool.

    Raises Refused: that engine cannot carry this exchange on this device.
    """
    makers = _makers(shape, device, whole, judging, allotted or cores())
    known = _remembered(folder) if shape.engine == "auto" else shape.engine
    if known is None:
        possible = {name: make for name, make in makers.items() if _HERE[name].why_not(device, whole.site_half) is None}
        if allotted == 1:
            possible.pop("pool", None)
        engine, choice = fastest(possible, first_work(whole, start, SiteState), shape.rounds)
        write_engine_record(folder, {**engine.figures(), "asked": "auto", **choice.to_json()})
        return engine
    refusal = _HERE[known].why_not(device, whole.site_half)
    if refusal is not None:
        raise Refused(refusal.reason, remedy=refusal.remedy, where="federation.engine")
    engine = makers[known]()
    if shape.engine != "auto":
        write_engine_record(folder, {**engine.figures(), "asked": shape.engine, "kind": known})
    return engine


def _remembered(folder: Path) -> str | None:
    """The kind of engine that carried the training in ``folder``; None where nothing is known."""
    kind = (engine_record(folder) or {}).get("kind")
    return kind if isinstance(kind, str) else None


def check_engine(spec: TrainingSpec, lawful: Sequence[Arm], data: Consortium, net: Network) -> None:
    """Refuse an engine that cannot carry some arm of the study, before anything trains.

    Raises Refused: the engine cannot carry an arm of ``lawful``.
    """
    shape = spec.federation.shape
    if shape.engine in ("auto", "loop"):
        return
    for arm in lawful:
        whole = exchange(spec, arm, spec.seeds[0], None, data, net)
        refusal = _HERE[shape.engine].why_not(spec.device, whole.site_half)
        if refusal is not None:
            reason = f"arm {arm.name!r}: {refusal.reason}"
            raise Refused(reason, remedy=refusal.remedy, where="federation.engine")


def engine_record(folder: Path) -> dict[str, Json] | None:
    """What carried the training in ``folder``; None where nothing is known.

    Raises Failed: the record was changed after it was written.
    """
    record = read_stored(folder / _FILE)
    if record is None:
        return None
    if is_altered(record):
        remedy = "put it back, or delete the training's folder to train again"
        raise Failed(f"{folder / _FILE} was changed after it was written", remedy=remedy)
    return unsealed(record)


def is_deployed(record: Mapping[str, Any] | None) -> bool:
    """Whether other machines carried the training of this record: none of the engines here did."""
    return record is not None and record.get("kind") not in _HERE


def tolerance_of(record: Mapping[str, Any] | None) -> float:
    """The relative distance within which two runs of the training of this record agree."""
    engine = _HERE.get(str((record or {}).get("kind")))
    return 0.0 if engine is None else engine.tolerance


def _makers(
    shape: FederationShape, device: str, whole: RoundExchange, judging: Assessing, allotted: int
) -> dict[str, Callable[[], Engine]]:
    pool = partial(Pool, halves=(whole.site_half, judging.site_half), workers=shape.workers or allotted)
    several = device == "cpu" and (shape.workers or allotted) > 1 and why_no_fork() is None
    return {"loop": Loop, "pool": lambda: pool(Loop()), "stacked": (lambda: pool(Stacked())) if several else Stacked}


def write_engine_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say beside the training in ``folder`` what carries it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _FILE, sealed({**record, "torch_threads": torch.get_num_threads()}))
