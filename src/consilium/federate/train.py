"""Rounds: exchange, assess, log, checkpoint; resumable after any of them.

``FOLDER/checkpoint.safetensors`` is the state after the last finished round, ``FOLDER/rounds.jsonl`` one line a round.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from consilium.core.errors import Failed

from .assess import Assessing, Assessment, AssessState, mean_accuracy
from .checkpoint import load_checkpoint, save_checkpoint
from .engines.engine import Engine
from .participant import SiteState
from .round import RoundExchange, RoundState

__all__ = ["RoundReport", "Trained", "train"]

RoundReport = Mapping[str, Any]
"""One line of ``rounds.jsonl``."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The state after the last round, and every site's ledger."""

    state: RoundState
    sites: Mapping[str, SiteState]
    seconds: float
    resumed_from: int


def train(
    engine: Engine,
    exchange: RoundExchange,
    assessing: Assessing,
    start: RoundState,
    rounds: int,
    folder: Path,
    progress: Callable[[RoundReport, Mapping[str, SiteState]], None],
) -> Trained:
    """Run the rounds that are still to run; ``progress`` is called after each with its report and the sites' states."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors"
    device = str(start.server.params.device)
    state, held = load_checkpoint(checkpoint, device) if checkpoint.exists() else (start, {})
    reports = _reports(folder / "rounds.jsonl", state.server.round)
    resumed_from = state.server.round
    while state.server.round < rounds:
        began, number = time.perf_counter(), state.server.round + 1
        state = engine.run(exchange, state, held, SiteState, f"round {number}")
        if not bool(torch.isfinite(state.server.params).all()):
            raise Failed(
                f"the model is not finite after round {number}", remedy="use a smaller learning rate (federation.lr)"
            )
        seconds = time.perf_counter() - began
        asked = AssessState(state.server, tuple(assessing.sites))
        told = engine.run(assessing, asked, dict(held), SiteState, f"round {number}").told
        reports.append(_report(state, told, seconds))
        _write(folder / "rounds.jsonl", reports)
        save_checkpoint(checkpoint, state, held)
        progress(reports[-1], held)
    return Trained(state, held, math.fsum(r["seconds"] for r in reports), resumed_from)


def _report(state: RoundState, told: Sequence[Assessment], seconds: float) -> dict[str, Any]:
    mean, worst, loss = mean_accuracy(told)
    return {
        "round": state.server.round,
        "seconds": seconds,
        "cohort": list(state.cohort),
        "bytes_up": state.bytes_up,
        "bytes_down": state.bytes_down,
        "mean_accuracy": mean,
        "worst_accuracy": worst,
        "mean_loss": loss,
        "sites": [asdict(a) for a in told],
        "refused": [{"site": site, "reason": reason} for site, reason in state.refused.items()],
    }


def _reports(path: Path, rounds: int) -> list[dict[str, Any]]:
    """The lines of finished rounds; a line of a round whose checkpoint was never written is dropped."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return [line for line in lines if line["round"] <= rounds]


def _write(path: Path, reports: list[dict[str, Any]]) -> None:
    draft = path.with_name(path.name + ".draft")
    try:
        draft.write_text("".join(json.dumps(r) + "\n" for r in reports), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error}", remedy="free disk space and run again") from error
