"""A training's state after a round, in one safetensors file, replaced atomically: a kill leaves the old one or the new.

All randomness is derived from (seed, purpose, site, round), so the tensors, the round and the ledgers are everything:
a resumed training draws the batches and the noise that the killed one would have drawn, and has paid what it has paid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from consilium.core.algorithm import Kept, Server
from consilium.core.charge import Charge, Composed, Gaussian, PoissonSampled, RandomisedResponse
from consilium.core.errors import Failed
from consilium.learn.stored import write_tensors

from .participant import SiteState
from .round import RoundState

__all__ = ["charge_from_json", "charge_to_json", "load_checkpoint", "save_checkpoint"]

_VERSION = 2


def save_checkpoint(path: Path, state: RoundState, sites: Mapping[str, SiteState]) -> None:
    """Write the state after ``state.server.round`` rounds."""
    tensors: dict[str, Tensor] = {"server/params": state.server.params, "server/buffers": state.server.buffers}
    groups = {"memory": state.server.memory, "merge": state.merge, "adversary": state.adversary}
    groups |= {f"kept/{site}": held.kept.tensors for site, held in sites.items()}
    groups |= {f"defences/{site}/{k}": named for site, held in sites.items() for k, named in held.defences.items()}
    for group, named in groups.items():
        tensors |= {f"{group}/{name}": tensor for name, tensor in named.items()}
    ledgers = {site: [charge_to_json(c) for c in held.ledger] for site, held in sites.items()}
    about = {
        "version": _VERSION,
        "round": state.server.round,
        "population": state.server.population,
        "ledgers": ledgers,
        "defences": {site: list(held.defences) for site, held in sites.items()},
    }
    write_tensors(path, tensors, {"about": json.dumps(about)})  # one entry: several have no fixed order in the file


def load_checkpoint(path: Path, device: str = "cpu") -> tuple[RoundState, dict[str, SiteState]]:
    """What :func:`save_checkpoint` wrote, on ``device``."""
    try:
        with safe_open(path, framework="pt", device=device) as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        params, buffers = tensors["server/params"], tensors["server/buffers"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise Failed(f"checkpoint {path} is not readable: {error}", remedy="delete it to train again") from error
    server = Server(about["round"], params, buffers, _group(tensors, "memory"), about["population"])
    state = RoundState(server, _group(tensors, "merge"), _group(tensors, "adversary"))
    sites = {
        site: SiteState(
            Kept(_group(tensors, f"kept/{site}")),
            tuple(charge_from_json(c) for c in charges),
            {kind: _group(tensors, f"defences/{site}/{kind}") for kind in about["defences"][site]},
        )
        for site, charges in about["ledgers"].items()
    }
    return state, sites


def charge_to_json(charge: Charge) -> dict[str, Any]:
    """A charge as plain JSON, tagged by its kind."""
    match charge:
        case Gaussian(sigma):
            return {"gaussian": sigma}
        case PoissonSampled(rate, inner):
            return {"poisson": rate, "inner": charge_to_json(inner)}
        case Composed(inner, count):
            return {"count": count, "inner": charge_to_json(inner)}
        case RandomisedResponse(epsilon, categories):
            return {"randomised-response": epsilon, "categories": categories}
    raise Failed(f"a ledger cannot hold {charge!r}")


def charge_from_json(data: Mapping[str, Any]) -> Charge:
    """The charge that :func:`charge_to_json` wrote; an unknown kind is refused, never guessed."""
    match data:
        case {"gaussian": sigma}:
            return Gaussian(sigma)
        case {"poisson": rate, "inner": inner}:
            return PoissonSampled(rate, charge_from_json(inner))
        case {"count": count, "inner": inner}:
            return Composed(charge_from_json(inner), count)
        case {"randomised-response": epsilon, "categories": categories}:
            return RandomisedResponse(epsilon, categories)
    raise Failed(f"a ledger holds an unknown charge: {dict(data)!r}", remedy="use the version that wrote it")


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(group + "/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(group + "/") and "/" not in name.removeprefix(group + "/")
    }
