"""What is written of a study and of a cell before any figure: enough to read the figures years later.

Fields are only ever added; a reader tolerates those it does not know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from consilium.data.sites import label_counts

from .build import colluders
from .claims import privacy_record
from .environment import code, hardware, packages
from .plan import CellNode, Plan
from .spec import Spec

__all__ = ["cell_name", "cell_record", "given", "study_record"]

_SCHEMA = 1


def cell_name(cell: CellNode) -> dict[str, Any]:
    """Which cell of the study this is."""
    return {
        "digest": cell.digest,
        "arm": cell.arm.name,
        "choices": dict(cell.arm.choices),
        "seed": cell.seed,
        "infected_by": cell.infected_by,
    }


def given(spec: Spec) -> dict[str, Any]:
    """The study as it was written, in plain JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(spec.given, default=repr))
    return plain


def cell_record(plan: Plan, cell: CellNode) -> dict[str, Any]:
    """``evidence.json`` before anything was measured.

    ``findings`` are those of the study's attacks, ``set_aside`` those of attacks that the study no longer has.
    """
    spec = plan.spec
    data = plan.materials.consortium(cell.seed)
    node = None if cell.training is None else plan.trainings[cell.training]
    return {
        "schema": _SCHEMA,
        "status": "started",
        "error": None,
        "cell": cell_name(cell),
        "given": given(spec),
        "resolved": {"training": None if node is None else dict(node.recipe), "model": dict(cell.model_recipe)},
        "training": cell.training,
        "model": cell.model,
        "code": code(),
        "packages": packages(),
        "hardware": hardware(spec.device, spec.threads),
        "engine": None if spec.federation is None else spec.federation.shape.engine,
        "seeds": [cell.seed],
        "corrupted": list(colluders(cell.corruption, data.sites, cell.seed)),
        "privacy": privacy_record((), []),
        "utility": [],
        "cost": [],
        "findings": {},
        "set_aside": {},
        "audits": {},
        "merge": None,
        "collapsed": False,
        "notes": [f"data: {data.provenance}", *data.notes],
        "seconds": {"training": 0.0, "evaluation": 0.0},
    }


def study_record(plan: Plan, command: str, status: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """``study.json``."""
    spec = plan.spec
    data = plan.materials.consortium(spec.seeds[0])
    pools = [site.records for site in data.sites]
    return {
        "schema": _SCHEMA,
        "name": spec.name,
        "question": spec.question,
        "study": given(spec),
        "resolved": {
            "data": spec.data.configuration(),
            "model": spec.model.configuration(),
            "federation": None if spec.federation is None else spec.federation.configuration(),
            "attacks": {a.name: a.configuration() for a in spec.attacks},
            "corruptions": {c.name: c.corruption.configuration() for c in spec.corruptions},
            "max-epsilon": spec.max_epsilon,
            "audit": None if spec.canaries is None else spec.canaries.configuration(),
        },
        "axes": {axis: [c.label for c in choices] for axis, choices in spec.vary.items()},
        "seeds": list(spec.seeds),
        "data": {
            "name": data.name,
            "provenance": data.provenance,
            "bundled": data.bundled,
            "shape": list(data.shape),
            "classes": list(data.classes),
            "sites": [site.id for site in data.sites],
            "label_counts": [] if data.declared else label_counts(data),
            "pools": {
                "train": [len(p.train) for p in pools],
                "validation": [len(p.validation) for p in pools],
                "non_members": [len(p.non_members) for p in pools],
                "test": len(data.test),
                "public": len(data.public),
            },
            "removed": dict(data.removed),
            "notes": list(data.notes),
        },
        "arms": [
            {
                "name": arm.name,
                "choices": dict(arm.choices),
                "status": "refused" if arm.name in plan.refused else "lawful",
                "refusal": plan.refused[arm.name].to_json() if arm.name in plan.refused else None,
            }
            for arm in plan.arms
        ],
        "cells": [
            {
                "digest": cell.digest,
                "arm": cell.arm.name,
                "seed": cell.seed,
                "infected_by": cell.infected_by,
                "training": cell.training,
                "model": cell.model,
                "status": status.get(cell.digest, "started"),
            }
            for cell in plan.cells
        ],
        "command": command,
        "threads": spec.threads,
        "device": spec.device,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": seconds,
    }
