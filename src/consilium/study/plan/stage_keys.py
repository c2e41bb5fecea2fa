"""Recipes and their digests: what a stage depends on, and nothing else.

A digest is of the canonical JSON of a recipe.  Adding an attack changes no training's recipe; an infected twin has the
corruption in its own, so it can never be taken for its clean twin.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consilium.core.code_file import NOTEBOOK, CodeFile
from consilium.core.errors import Refused
from consilium.core.live_source import live_source
from consilium.core.network import Network
from consilium.core.plain import Json
from consilium.core.records import Consortium, Records
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import AttackSpec, CorruptionSpec, Spec, TrainingSpec

__all__ = [
    "attack_recipe",
    "cell_recipe",
    "constants_mark",
    "data_digest",
    "digest",
    "model_recipe",
    "start_mark",
    "training_recipe",
]

_SCHEMA = 1


def digest(recipe: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON of ``recipe``."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_recipe(
    spec: TrainingSpec, arm: Arm, seed: int, corruption: CorruptionSpec | None, data: str, start: str
) -> dict[str, Json]:
    """What a federated training depends on.

    ``data`` is the fingerprint of the consortium, ``start`` the mark of the untrained model.
    """
    learning = (*arm.data, *arm.training, *arm.update, *arm.merge)
    return {
        "schema": _SCHEMA,
        "seed": seed,
        "data": spec.data.configuration(),
        "fingerprint": data,
        "model": {**spec.model.configuration(), **spec.fine_tuning.configuration()},
        "start": start,
        "federation": arm.federation(spec).configuration(),
        "defences": [d.configuration() for d in learning],
        "corruption": None if corruption is None else corruption.configuration(),
        "threads": spec.threads,
        "device": spec.device,
        **({} if spec.canaries is None else {"canaries": spec.canaries.planting()}),
    }


def model_recipe(spec: Spec, arm: Arm, seed: int, training: str | None, data: str, start: str) -> dict[str, Json]:
    """What a released model depends on: its training (or the stored weights) and what is done to it afterwards."""
    return {
        "schema": _SCHEMA,
        "training": training,
        "seed": seed,
        "data": spec.data.configuration(),
        "fingerprint": data,
        "model": spec.model.configuration(),
        "start": start,
        "defences": [d.configuration() for d in arm.model],
        "answers": [d.configuration() for d in arm.answer],
    }


def cell_recipe(model: str, seed: int) -> dict[str, Json]:
    """What a cell depends on: one model, judged once."""
    return {"schema": _SCHEMA, "model": model, "seed": seed}


def attack_recipe(
    cell: str,
    attack: AttackSpec,
    source: str | None,
    audit: Mapping[str, Any] | None = None,
    queried_sites: Sequence[str] | None = None,
) -> dict[str, Json]:
    """What a finding depends on.

    ``source`` is the model that a transfer attack crafts on, ``audit`` how it counts; ``queried_sites`` are
    those whose records the attack asks about, None where it asks about no site's.
    """
    recipe: dict[str, Json] = {
        "schema": _SCHEMA,
        "cell": cell,
        "attack": attack.attack.configuration(),
        "source": source,
    }
    if audit is not None:
        recipe["audit"] = dict(audit)
    if queried_sites is not None:
        recipe["asked"] = {"sites": sorted(queried_sites), "halves": "by unit"}
    return recipe


def data_digest(consortium: Consortium) -> str:
    """16 digits of SHA-256 over every record, in its pool; of sites elsewhere over what they declared."""
    sha = hashlib.sha256()
    for site in consortium.sites:
        sha.update(site.id.encode())
        for pool in (site.records.train, site.records.validation, site.records.non_members):
            if consortium.declared:  # of these the numbers are known, and nothing else
                sha.update(f"{len(pool)} records of {pool.unit_count()} units;".encode())
            else:
                _absorb(sha, pool)
    _absorb(sha, consortium.test)
    _absorb(sha, consortium.public)
    return sha.hexdigest()[:16]


def start_mark(network: Network) -> str:
    """16 digits of SHA-256 over a model before training: its layers, the code of those that are a user's, its weights.

    A path alone names neither the weights of a stored file nor what a user's module does.
    """
    sha = hashlib.sha256()
    for path, layer in network.template.named_modules():
        sha.update(f"{path}:{type(layer).__module__}.{type(layer).__qualname__};".encode())
    kinds = dict.fromkeys(kind for layer in network.template.modules() for kind in type(layer).__mro__)
    for text in dict.fromkeys(_source(kind) for kind in kinds):
        sha.update(text.encode())
    for tensor in network.start():
        sha.update(_bytes(tensor.cpu()))
    sha.update(constants_mark(network).encode())
    return sha.hexdigest()[:16]


def constants_mark(network: Network) -> str:
    """16 digits of SHA-256 over what of a model is frozen, by name; empty where nothing is."""
    sha, constants = hashlib.sha256(), network.constants
    for name, tensor in constants.items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        sha.update(_bytes(tensor.cpu()))
    return sha.hexdigest()[:16] if constants else ""


def _source(kind: type) -> str:
    """The whole file of a user's class, and what that file imports from its own folder, as of a user's attack.

    Of a class of a notebook, which has no file, its source and what of the notebook it uses.

    Nothing for classes of Python, torch and this package, whose versions are in evidence.
    """
    if kind.__module__.partition(".")[0] in ("builtins", "torch", "consilium"):
        return ""
    try:
        file = Path(inspect.getfile(kind))
        return file.read_text(encoding="utf-8") + _imported(kind, file)
    except (OSError, TypeError, UnicodeDecodeError):
        return _live(kind) if kind.__module__ == NOTEBOOK else ""


def _imported(kind: type, file: Path) -> str:
    """The other files; nothing where there are none."""
    depth = kind.__module__.count(".") + (file.name == "__init__.py")
    if kind.__module__ == NOTEBOOK or file.suffix != ".py" or depth >= len(file.parents):
        return ""
    root = file.resolve().parents[depth]
    module = ".".join(file.resolve().relative_to(root).with_suffix("").parts)
    others = CodeFile(module, kind.__name__, root).files
    itself = file.resolve().relative_to(root).as_posix()
    return "".join(f"{name}\0{others[name].decode('utf-8', 'replace')}" for name in sorted(others) if name != itself)


def _live(kind: type) -> str:
    try:
        return live_source(kind)
    except Refused:  # typed in where nothing remembers it
        return ""


def _absorb(sha: Any, records: Records) -> None:
    for tensor in (records.x, records.y, records.ids, records.units):
        sha.update(str(tuple(tensor.shape)).encode())
        sha.update(_bytes(tensor))
    for attribute in records.attributes:
        sha.update(f"{attribute.name}:{list(attribute.words)};".encode())
        sha.update(_bytes(attribute.codes))


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()) if tensor.numel() else b""
