"""A training's state after a round, in one safetensors file, replaced atomically: a kill leaves the old one or the new.

All randomness is derived from (seed, purpose, site, round), so the tensors, the round and the ledgers are everything:
a resumed training draws the batches and the noise that the killed one would have drawn, and has paid what it has paid.
Its seal covers all of that and the name of the training: changed, or that of another training, it is refused.
States of many sites are beside it, a file each: see :mod:`.client.client_states`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from consilium.core.algorithm import Server
from consilium.core.errors import Failed
from consilium.core.plain import member
from consilium.core.sealed_tensors import read_sealed, write_sealed

from .client.client_states import SiteStates, packed, unpacked
from .round.round import RoundState

__all__ = ["load_checkpoint", "save_checkpoint", "states_beside"]

_VERSION = 3
_REMEDY = "delete it to train again"


def save_checkpoint(path: Path, state: RoundState, sites: SiteStates) -> None:
    """Write the state after ``state.server.round`` rounds, and make the sites' states of that round the valid ones.

    It is sealed as one of the training that ``sites`` are of.
    """
    tensors: dict[str, Tensor] = {"server/params": state.server.params, "server/buffers": state.server.buffers}
    groups = {
        "memory": state.server.memory,
        "merge": state.merge,
        "adversary": state.adversary,
        "observed": state.observed,
    }
    for group, named in groups.items():
        tensors |= {f"{group}/{name}": tensor for name, tensor in named.items()}
    here = {site: packed(site_state) for site, site_state in sites.items()} if sites.folder is None else None
    for site, (site_tensors, _) in (here or {}).items():
        tensors |= {f"sites/{site}/{name}": tensor for name, tensor in site_tensors.items()}
    about = {
        "version": _VERSION,
        "round": state.server.round,
        "population": state.server.population,
        "training": sites.training,
        "sites": None if here is None else {site: header for site, (_, header) in here.items()},
    }
    sites.flush()
    write_sealed(path, tensors, about)
    sites.settle(state.server.round)


def load_checkpoint(path: Path, device: str = "cpu", training: str | None = None) -> tuple[RoundState, SiteStates]:
    """What :func:`save_checkpoint` wrote, on ``device``; Failed where its seal does not hold.

    With ``training`` it must be of the training with this name.

    Raises Failed: the file is not readable, or its seal does not hold.
    """
    expected = {} if training is None else {"training": training}
    tensors, about = read_sealed(path, "checkpoint", _REMEDY, expected, device)
    try:
        params, buffers = tensors["server/params"], tensors["server/buffers"]
        packs = None if about["sites"] is None else member(about, "sites", dict)
        number, population = member(about, "round", int), member(about, "population", int)
    except (KeyError, TypeError) as error:
        raise Failed(f"checkpoint {path} is not readable: {error}", remedy=_REMEDY) from error
    server = Server(number, params, buffers, _group(tensors, "memory"), population)
    owner = training or str(about.get("training", ""))
    sites = SiteStates(states_beside(path) if packs is None else None, number, device, owner)
    if packs is not None:
        site_tensors = _by_site(tensors)
        sites.update({site: unpacked(site_tensors[site], header) for site, header in packs.items()})
        sites.settle(number)
    merge, adversary, observed = (_group(tensors, group) for group in ("merge", "adversary", "observed"))
    return RoundState(server, merge, adversary, observed), sites


def states_beside(path: Path) -> Path:
    """The folder of the states of many sites, beside their checkpoint."""
    return path.parent / "states"


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(group + "/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(group + "/") and "/" not in name.removeprefix(group + "/")
    }


def _by_site(tensors: Mapping[str, Tensor]) -> Mapping[str, dict[str, Tensor]]:
    """``sites/<site>/<name>`` as names by site."""
    groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if name.startswith("sites/"):
            _, site, rest = name.split("/", 2)
            groups[site][rest] = tensor
    return groups
