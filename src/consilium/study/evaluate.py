"""A cell: one released model, judged once on the whole test set, then attacked; findings are kept one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.finding import Finding, Measure
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.core.seal import file_digest
from consilium.core.threat import CanaryView, ModelView, View
from consilium.core.update import Payload
from consilium.core.watch import Watcher
from consilium.learn.stored import write_tensors
from consilium.measure.convergence import to_accuracy
from consilium.measure.cost import latency_ratio
from consilium.measure.membership import bounds
from consilium.measure.utility import is_collapsed, utility

from .canary_audit import Auditor
from .environment import code
from .failures import told
from .recipe import attack_recipe, digest
from .released import Released
from .retrain import Retraining
from .sealing import scores_hold
from .spec import JUDGED, AttackSpec
from .views import grant
from .watching import Watching

__all__ = ["answers", "asks", "attack_digest", "costs", "find", "implied", "is_judged", "judge"]

_FILE = f"{JUDGED}.safetensors"
_LATENCY_REPEATS = 15
_LATENCY_BATCH = 64


def asks(attack: Attack) -> bool:
    """True where ``attack`` asks whose records were trained on: test records and canaries are those of the cell."""
    return attack.needs not in (ModelView, CanaryView)


def judge(model: Released, data: Consortium, stream: Stream, folder: Path) -> dict[str, Any]:
    """``utility`` on the whole test set, and whether the model has collapsed to one class.

    What it answered of each record lies in ``folder`` beside the evidence, so that two models can be compared record by
    record: ``id``, ``unit``, ``label``, ``predicted`` and ``correct`` ``(n,)``.
    """
    logits, test = answers(model.module, data.test.x), data.test
    made = utility(logits, test.y, stream.child("utility"))
    predicted = logits.argmax(1).cpu()
    scores = {
        "id": test.ids,
        "unit": test.units,
        "label": test.y,
        "predicted": predicted,
        "correct": predicted == test.y,
    }
    write_tensors(folder / _FILE, scores)
    return {"utility": [m.to_json() for m in made], "collapsed": is_collapsed(logits)} | _kept(folder / _FILE)


def is_judged(evidence: Mapping[str, Any], folder: Path) -> bool:
    """True if the model of this cell was judged and what it answered of each record is there."""
    there = evidence.get("scores") == _FILE and (folder / _FILE).is_file()
    return bool(evidence["utility"]) and there and scores_hold(folder, evidence)


def costs(
    model: Released, data: Consortium, rounds: list[Mapping[str, Any]], target: float = 0.0
) -> list[dict[str, Any]]:
    """Bytes of the stored artefact, latency against the same model in fp32, bytes sent per round and site.

    With a ``target`` accuracy also the rounds and bytes until it was reached.
    """
    example = data.test.x[:_LATENCY_BATCH]
    made = [
        Measure("bytes", float(model.size), n=1, unit="B"),
        latency_ratio(model.module, model.plain, example, _LATENCY_REPEATS),
    ]
    for way in ("bytes_up", "bytes_down"):
        sent = [r[way] / max(1, len(r["cohort"])) for r in rounds]
        name = f"{way}_per_round_site"
        made.append(
            Measure(name, sum(sent) / len(sent), min(sent), max(sent), n=len(sent), unit="B")
            if sent
            else Measure.undefined(name, "nothing was trained")
        )
    if target and rounds:
        made += to_accuracy(target, rounds)
    return [m.to_json() for m in made]


def answers(module: nn.Module, x: Tensor, batch: int = 512) -> Tensor:
    """Logits ``(n, classes)`` as the released model answers them."""
    with torch.no_grad():
        return torch.cat([module(x[i : i + batch]) for i in range(0, len(x), batch)])


def attack_digest(
    cell: str, attack: AttackSpec, source: str | None, asked: tuple[str, ...], auditor: Auditor | None = None
) -> str:
    """What a finding depends on; ``asked`` are the sites whose records are asked about, where an attack asks."""
    audit = None if auditor is None else auditor.configuration()
    return digest(attack_recipe(cell, attack, source, audit, asked if asks(attack.attack) else None))


def find(
    attack: AttackSpec,
    cell: str,
    folder: Path,
    model: Released,
    source: Callable[[], tuple[str, Released] | None],
    data: Consortium,
    asked: tuple[str, ...],
    seed: int,
    retraining: Callable[[], Retraining] | None = None,
    watching: Watching | None = None,
    auditor: Auditor | None = None,
    start: nn.Module | None = None,
) -> dict[str, Any]:
    """Run one attack; a failure is a finding that says so, and loses nothing else.

    ``asked`` are the sites whose records it asks about, all of them in the model.
    ``watching`` tells what an attack that watches the rounds has seen of them; ``auditor`` holds an audit's coins and
    judges what such an attack guessed; ``start`` is the model before training.
    """
    began = time.perf_counter()
    record: dict[str, Any] = {
        "kind": attack.attack.kind(),
        "threat": asdict(attack.attack.threat),
        "configuration": attack.configuration(),
        "code": code(),
        "status": "ok",
        "error": None,
        "measures": [],
        "notes": [],
        "scores": None,
        "asked": list(asked) if asks(attack.attack) else None,
        "scores_sha256": None,
    }
    try:
        origin = source()
        record["digest"] = attack_digest(cell, attack, None if origin is None else origin[0], asked, auditor)
        stream = Stream(seed).child("attack", digest(attack.attack.configuration()))
        view: View
        memory: Payload
        if isinstance(attack.attack, Watcher) and watching is not None:
            view, memory = watching.view(attack.attack, model, asked), watching.memory(attack.attack)
        else:
            source_model = None if origin is None else origin[1]
            view = grant(attack.attack, data, asked, model, source_model, Stream(seed), retraining, start)
            memory = {}
        finding = attack.attack(view, memory, stream.child("run").generator())
        if auditor is not None:
            finding, record["audit"] = auditor.judge(finding, attack.attack.threat, data, asked, stream)
        record |= _written(_named(finding, view), folder, attack.name)
        if origin is not None and origin[0] == cell:
            record["notes"].append("Crafted on this very model: here transfer is the white-box attack.")
    except Exception as error:  # an attack may be anyone's code
        record |= {"status": "failed", "error": told(error)}
    return {**record, "seconds": time.perf_counter() - began}


def implied(made: Mapping[str, Any], privacy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the model's claim allows at most, beside each figure of a membership attack; nothing without a claim.

    A claim of labels alone bounds nothing here; one of patients covers each of their records, and one of sites at the
    epsilon of replacing a site.  An attack that sees no model is bound by nobody's.
    """
    epsilon = privacy.get("record_epsilon")
    if made["threat"]["aim"] != "membership" or made["kind"] == "blind" or epsilon is None:
        return []
    found = [Measure(**measure) for measure in made["measures"]]
    return [m.to_json() for m in bounds(found, float(epsilon), float(privacy.get("delta") or 0.0))]


def _named(finding: Finding, view: View) -> Finding:
    """``finding`` with the candidates' ids and units beside their scores: of whom each score is."""
    asked = getattr(view, "candidates", None)
    if asked is None or any(len(scores) != len(asked) for scores in finding.scores.values()):
        return finding
    return replace(finding, scores={**finding.scores, "id": asked.ids, "unit": asked.units})


def _written(finding: Finding, folder: Path, name: str) -> dict[str, Any]:
    tensors = dict(finding.scores) | {f"example/{k}": v for k, v in finding.examples.items()}
    path = folder / f"{name}.safetensors"
    if tensors:
        write_tensors(path, tensors)
    return {
        "measures": [m.to_json() for m in finding.measures],
        "notes": list(finding.notes),
        **(_kept(path) if tensors else {}),
    }


def _kept(path: Path) -> dict[str, str]:
    """What evidence keeps of a file of scores."""
    return {"scores": path.name, "scores_sha256": file_digest(path)}
