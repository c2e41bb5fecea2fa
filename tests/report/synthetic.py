"""Writes a study's folder as `study` would, with made-up figures: 8 arms, 2 seeds, clean and infected, and trouble.

Among them: a ninth arm that was refused, an arm that collapsed, a failed cell, a killed one, an arm without surrogate,
and text that would run as a script if it were not escaped.
"""

import itertools
import json
import math
import random
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from consilium.measure.membership import best_threshold

INJECTED = "<script>alert('x')</script><img src=x onerror=alert(1)>"
AXES = {
    "privacy": ["none", "dp-sgd"],
    "compression": ["none", "static-int8", "prune"],
    "robustness": ["none", "adversarial-training"],
}
INFECTION = "adversarial-poisoning"
SITES = [f"site-{i}" for i in range(5)]
CLASSES = [str(i) for i in range(10)]
N = 360


def write_study(home, *, seeds=(0, 1), bundled=True, name="quickstart", trouble=True):
    """The folder ``home/<name>``; returns it."""
    folder = Path(home) / name
    plans = [
        (dict(zip(AXES, labels, strict=True)), s, by) for labels in _arms() for s in seeds for by in ("none", INFECTION)
    ]
    cells = [_plan(*plan) for plan in plans]
    for entry, plan in zip(cells, plans, strict=True):
        _training(folder / "trainings" / entry["training"], plan)
        if not (trouble and entry["digest"] == _killed(seeds)):
            _cell(
                folder / "cells" / entry["digest"],
                entry,
                plan,
                fails=entry["digest"] == _failed(seeds) if trouble else None,
            )
    (folder / "study.json").write_text(json.dumps(_study(name, seeds, bundled, cells)))
    return folder


def _failed(seeds):
    return _plan({"privacy": "dp-sgd", "compression": "none", "robustness": "none"}, seeds[-1], INFECTION)["digest"]


def _killed(seeds):
    return _plan({"privacy": "none", "compression": "static-int8", "robustness": "none"}, seeds[-1], INFECTION)[
        "digest"
    ]


def _arms():
    return itertools.product(AXES["privacy"], ["none", "static-int8"], AXES["robustness"])


def _arm_name(choices):
    return " + ".join(label for label in choices.values() if label != "none") or "none"


def _plan(choices, seed, infected_by):
    code = "".join(label[0] for label in choices.values()) + f"{seed}{infected_by[0]}"
    training = "t" + code[0] + code[2:]  # compression comes after training: its arms share one
    return {
        "digest": f"c{code}",
        "arm": _arm_name(choices),
        "choices": choices,
        "seed": seed,
        "infected_by": infected_by,
        "training": training,
        "model": f"m{code}",
        "status": "ok",
    }


def _study(name, seeds, bundled, cells):
    random.seed(5)
    refused = {"privacy": "dp-sgd", "compression": "prune", "robustness": "none"}
    why = {"law": 10, "reason": "pruning is fitted on test data", "remedy": 'set fit-on = "public"'}
    arms = [
        {"name": _arm_name(c), "choices": c, "status": "lawful", "refusal": None}
        for c in (dict(zip(AXES, labels, strict=True)) for labels in _arms())
    ]
    return {
        "schema": 1,
        "name": name,
        "question": "",
        "later": {"added": "field"},
        "study": {"name": name, "seeds": list(seeds), "note": INJECTED},
        "resolved": {"model": {"kind": "resnet9", "width": 16}, "federation": {"kind": "fed-avg", "rounds": 10}},
        "axes": AXES,
        "seeds": list(seeds),
        "data": {
            "name": "digits",
            "provenance": "scikit-learn's bundled digits",
            "bundled": bundled,
            "shape": [1, 12, 12],
            "classes": CLASSES,
            "sites": SITES,
            "label_counts": [[random.randint(0, 40) for _ in SITES] for _ in CLASSES],
            "pools": {
                "train": [190, 201, 170, 188, 205],
                "validation": [20] * 5,
                "non_members": [50] * 5,
                "test": N,
                "public": 89,
            },
            "removed": {"test, also in train": 3},
            "notes": ["three exact duplicates were removed"],
        },
        "arms": [*arms, {"name": _arm_name(refused), "choices": refused, "status": "refused", "refusal": why}],
        "cells": [{k: v for k, v in c.items() if k != "choices"} for c in cells],
        "command": "consilium run studies/quickstart.toml --out OUT",
        "threads": 2,
        "device": "cpu",
        "created": "2026-11-22T10:00:00Z",
        "seconds": 48.2,
    }


def _training(home, plan):
    choices, seed, by = plan
    home.mkdir(parents=True, exist_ok=True)
    top, lines = _level(choices, by), []
    for r in range(10):
        reached = top * (1 - math.exp(-(r + 1) / 3))
        points = [
            {"site": s, "n": 20, "accuracy": reached - 0.02 * i + 0.01 * math.sin(r + i + seed), "loss": 2 - reached}
            for i, s in enumerate(SITES)
        ]
        refused = [{"site": "site-4", "reason": "norm 9.1 above the bound 5"}] if by != "none" and r == 3 else []
        lines.append(
            {
                "round": r + 1,
                "seconds": 0.4,
                "cohort": SITES,
                "bytes_up": 98000,
                "bytes_down": 98000,
                "mean_accuracy": reached - 0.04,
                "worst_accuracy": min(p["accuracy"] for p in points),
                "mean_loss": 2.3 - 2 * reached,
                "sites": points,
                "refused": refused,
            }
        )
    (home / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"round": 11, "sec')


def _level(choices, by):
    return (
        0.955
        - 0.075 * (choices["privacy"] != "none")
        - 0.006 * (choices["compression"] != "none")
        - 0.035 * (choices["robustness"] != "none")
        - 0.04 * (by != "none")
    )


def _collapsed(choices):
    return choices["privacy"] == "dp-sgd" and choices["robustness"] != "none" and choices["compression"] != "none"


def _measure(name, value, half=0.02, chance=None, n=N, unit=""):
    return {
        "name": name,
        "value": value,
        "low": max(0.0, value - half),
        "high": min(1.0, value + half),
        "chance": chance,
        "n": n,
        "unit": unit,
        "reason": "",
        "later": 1,
    }


def _around(value, half=0.06):
    return {"value": value, "low": value - half, "high": value + half}


def _undefined(name, reason, n=N):
    return {
        "name": name,
        "value": None,
        "low": None,
        "high": None,
        "chance": None,
        "n": n,
        "unit": "",
        "reason": reason,
    }


def _cell(home, entry, plan, fails):
    choices, seed, by = plan
    home.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(zlib.crc32(entry["digest"].encode()))
    record = _frame(entry, choices)
    if fails:
        record |= {"status": "failed", "error": f"site-2, round 7, begin: loss is not finite. {INJECTED}"}
    else:
        record |= _figures(home, choices, seed, by, generator)
        if _arm_name(choices) == "adversarial-training" and seed == 0 and by != "none" and fails is not None:
            broken = {
                **record["findings"]["transfer"],
                "status": "failed",
                "error": "out of memory",
                "measures": [],
                "scores": None,
            }
            record |= {
                "status": "failed",
                "error": "transfer: out of memory",
                "findings": {**record["findings"], "transfer": broken},
            }
    (home / "evidence.json").write_text(json.dumps(record))


def _frame(entry, choices):
    cell = {key: entry[key] for key in ("digest", "arm", "choices", "seed", "infected_by")}
    return {
        "schema": 1,
        "status": "ok",
        "error": None,
        "cell": cell,
        "given": choices,
        "training": entry["training"],
        "resolved": {"privacy": {"kind": "dp-sgd", "epsilon": 8.0}},
        "model": entry["model"],
        "findings": {},
        "code": {"version": "0.1.0", "revision": "d9cc636", "dirty": True},
        "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        "hardware": {"cpu": "Xeon", "capability": "AVX512", "cores": 2, "threads": 2, "device": "cpu"},
        "engine": "loop",
        "seeds": {"study": entry["seed"]},
        "privacy": {"epsilon": None, "delta": None, "unit": "", "claims": [], "notes": []},
        "utility": [],
        "cost": [],
        "collapsed": False,
        "notes": [],
        "seconds": {"training": 3.5, "evaluation": 1.25},
    }


def _figures(home, choices, seed, by, generator):
    collapsed = _collapsed(choices)
    accuracy = round(N * (0.11 if collapsed else _level(choices, by) + 0.006 * seed)) / N
    balanced = _answers(home, accuracy, collapsed)
    packed = choices["compression"] != "none"
    return {
        "collapsed": collapsed,
        "scores": "scores.safetensors",
        "privacy": _privacy(choices),
        "utility": [
            _measure("accuracy", accuracy, chance=0.1),
            _measure("balanced_accuracy", balanced, chance=0.1),
            _measure("auroc", 0.5 if collapsed else min(0.999, accuracy + 0.04), 0.01, 0.5),
            _undefined("sensitivity", "more than two classes"),
            _measure("majority_rate", 0.105, 0.03),
        ],
        "cost": [
            {**_measure("bytes", 25210 if packed else 98004, n=1, unit="bytes"), "low": None, "high": None},
            {**_measure("latency_ratio", 0.74 if packed else 1.0, n=40), "low": 0.7, "high": 1.05},
            {**_measure("bytes_up_per_round_site", 19600, n=1, unit="bytes"), "low": None, "high": None},
        ],
        "findings": {
            "fgsm": _evasion(home, "fgsm", choices, accuracy, 0.20, generator),
            "pgd": _evasion(home, "pgd", choices, accuracy, 0.12, generator),
            "transfer": _evasion(home, "transfer", choices, accuracy, 0.55, generator),
            "loss-threshold": _membership(home, choices, generator),
        },
        "notes": ["latency was measured on one thread"],
    }


def _answers(home, accuracy, collapsed):
    """What the model answered of each test record; returns its balanced accuracy.  Every tenth record is a label's."""
    label, where = torch.arange(N) % 10, torch.randperm(N, generator=torch.Generator().manual_seed(3))
    correct = torch.zeros(N, dtype=torch.bool)
    correct[where[: round(accuracy * N)]] = True
    predicted = torch.zeros(N, dtype=torch.long) if collapsed else torch.where(correct, label, (label + 1) % 10)
    tensors = {
        "id": torch.arange(N),
        "unit": torch.arange(N),
        "label": label,
        "predicted": predicted,
        "correct": correct,
    }
    save_file(tensors, home / "scores.safetensors")
    return sum(float(correct[label == c].double().mean()) for c in range(10)) / 10


def _privacy(choices):
    if choices["privacy"] == "none":
        return {"epsilon": None, "delta": None, "unit": "", "claims": [], "notes": ["no charge was made"]}
    claims = [
        {
            "site": s,
            "unit": "example",
            "adjacency": "add-or-remove-one",
            "epsilon": 7.4 + 0.1 * i,
            "delta": 1e-5,
            "sampler": "Poisson sampling",
            "accountant": "PLD",
            "n": 190,
            "batch_size": 32,
            "noise_multiplier": 0.81,
            "steps": 60,
            "against": "anyone who sees what leaves the site",
            "noise": "replayable: holds for the mechanism, not for this artefact: its noise seed is known",
        }
        for i, s in enumerate(SITES)
    ]
    return {"epsilon": 7.8, "delta": 1e-5, "unit": "example", "claims": claims, "notes": []}


def _evasion(home, name, choices, accuracy, base, generator):
    threat = {"actor": "outsider", "moment": "inference", "knowledge": "white-box", "aim": "evasion"}
    entry = {
        "kind": name,
        "status": "ok",
        "error": None,
        "threat": threat,
        "notes": [],
        "seconds": 1.2,
        "configuration": {"kind": name, "radius": 0.1, "norm": "linf", "steps": 10},
        "scores": None,
    }
    names = ("robust_accuracy", "balanced_robust_accuracy", "success_rate")
    if (
        choices["compression"] != "none"
        and choices["privacy"] != "none"
        and name != "transfer"
        and not _collapsed(choices)
    ):
        reason = "not adaptively evaluated: the defence supplies no surrogate"
        return entry | {"measures": [_undefined(n, reason) for n in names], "notes": [reason]}
    level = (
        accuracy if _collapsed(choices) else min(accuracy, base + (0.42 if choices["robustness"] != "none" else 0.0))
    )
    correct = torch.rand(N, generator=generator) < level
    value = float(correct.double().mean())
    images = torch.rand(8, 1, 12, 12, generator=generator)
    step = 0.1 * torch.sign(torch.randn(8, 1, 12, 12, generator=generator))
    labels = torch.arange(8)
    tensors = {
        "correct": correct,
        "correct_before": torch.ones(N, dtype=torch.bool),
        "example/clean": images,
        "example/adversarial": (images + step).clamp(0, 1),
        "example/label": labels,
        "example/answer_before": labels.clone(),
        "example/answer_after": (labels + labels % 2) % 10,
    }
    save_file(tensors, home / f"{name}.safetensors")
    measures = [
        _measure(names[0], value, 0.05, 0.105),
        _measure(names[1], value - 0.01, 0.05, 0.1),
        _measure(names[2], 1 - value),
    ]
    return entry | {"measures": measures, "scores": f"{name}.safetensors"}


def _membership(home, choices, generator):
    told = 0.02 if choices["privacy"] != "none" else 0.14
    member, known = torch.arange(400) < 200, torch.arange(400) % 2 == 0
    score = (torch.randn(400, generator=generator) + told * 4 * member).double()
    threshold = best_threshold(score[known], member[known])
    taken = [float((score[~known & (member == truth)] >= threshold).double().mean()) for truth in (True, False)]
    save_file(
        {"score": score, "member": member, "known": known, "id": torch.arange(400), "unit": torch.arange(400)},
        home / "loss-threshold.safetensors",
    )
    return {
        "kind": "loss-threshold",
        "status": "ok",
        "error": None,
        "seconds": 0.2,
        "notes": [],
        "configuration": {},
        "threat": {"actor": "outsider", "moment": "inference", "knowledge": "black-box", "aim": "membership"},
        "measures": [
            {**_measure("advantage", 0.0, 0.06, 0.0, 200), **_around(taken[0] - taken[1])},
            _measure("auc", 0.5 + told / 2, 0.04, 0.5, 200),
            _measure("tpr_at_fpr_1", 0.01 + told / 4, 0.01, 0.01, 200),
            _undefined("tpr_at_fpr_0.1", "not resolvable (n = 200)", 200),
        ],
        "scores": "loss-threshold.safetensors",
    }
