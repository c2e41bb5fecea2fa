"""A training's state after a round, in one safetensors file, replaced atomically: a kill leaves the old one or the new.

All randomness is derived from (seed, purpose, site, round), so the tensors, the round and the ledgers are everything:
a resumed training draws the batches and the noise that the killed one would have drawn, and has paid what it has paid.
States of many sites lie beside it, a file each: see :mod:`.states`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from consilium.core.algorithm import Server
from consilium.core.errors import Failed, Refused
from consilium.core.files import regular
from consilium.core.plain import json_object
from consilium.learn.stored import write_tensors

from .round import RoundState
from .states import SiteStates, packed, unpacked

__all__ = ["load_checkpoint", "save_checkpoint", "states_beside"]

_VERSION = 3


def save_checkpoint(path: Path, state: RoundState, sites: SiteStates) -> None:
    """Write the state after ``state.server.round`` rounds, and make the sites' states of that round the valid ones."""
    tensors: dict[str, Tensor] = {"server/params": state.server.params, "server/buffers": state.server.buffers}
    groups = {
        "memory": state.server.memory,
        "merge": state.merge,
        "adversary": state.adversary,
        "observed": state.observed,
    }
    for group, named in groups.items():
        tensors |= {f"{group}/{name}": tensor for name, tensor in named.items()}
    here = {site: packed(held) for site, held in sites.items()} if sites.folder is None else None
    for site, (kept, _) in (here or {}).items():
        tensors |= {f"sites/{site}/{name}": tensor for name, tensor in kept.items()}
    about = {
        "version": _VERSION,
        "round": state.server.round,
        "population": state.server.population,
        "sites": None if here is None else {site: said for site, (_, said) in here.items()},
    }
    sites.flush()
    write_tensors(path, tensors, {"about": json.dumps(about)})  # one entry: several have no fixed order in the file
    sites.settle(state.server.round)


def load_checkpoint(path: Path, device: str = "cpu") -> tuple[RoundState, SiteStates]:
    """What :func:`save_checkpoint` wrote, on ``device``."""
    try:
        with safe_open(regular(path), framework="pt", device=device) as file:
            about = json_object(file.metadata()["about"].encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _restored(about, tensors, states_beside(path), device)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, Refused) as error:
        raise Failed(f"checkpoint {path} is not readable: {error}", remedy="delete it to train again") from error


def states_beside(path: Path) -> Path:
    """The folder of the states of many sites, beside their checkpoint."""
    return path.parent / "states"


def _restored(
    about: Mapping[str, Any], tensors: Mapping[str, Tensor], states: Path, device: str
) -> tuple[RoundState, SiteStates]:
    number, population, here = int(about["round"]), int(about["population"]), about["sites"]
    params, buffers = tensors["server/params"], tensors["server/buffers"]
    server = Server(number, params, buffers, _group(tensors, "memory"), population)
    sites = SiteStates(states if here is None else None, number, device)
    if here is not None:
        kept = _by_site(tensors)
        sites.update({site: unpacked(kept[site], said) for site, said in here.items()})
        sites.settle(number)
    merge, adversary, observed = (_group(tensors, group) for group in ("merge", "adversary", "observed"))
    return RoundState(server, merge, adversary, observed), sites


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(group + "/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(group + "/") and "/" not in name.removeprefix(group + "/")
    }


def _by_site(tensors: Mapping[str, Tensor]) -> Mapping[str, dict[str, Tensor]]:
    """``sites/<site>/<name>`` as names by site."""
    found: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith("sites/"):
            _, site, rest = name.split("/", 2)
            found[site][rest] = tensor
    return found
