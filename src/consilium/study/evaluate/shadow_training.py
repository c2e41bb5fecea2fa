"""Shadows: the cell's own training again, defences of every moment included, on records that an attack chooses.

    pool       the train and non-member records of the sites asked about, mixed
    shadow     same sites, sizes, algorithm, corruption and defences; another seed (start, batches, noise, cohorts)

    trainings/<digest>/shadows/<shadow>.safetensors     parameters, buffers, which records are in them
    models/<digest>/shadows/<shadow>.safetensors        what the model defences make of them

A shadow is named by its training, mask and seed, so all attacks on all models of a training share one set, a killed run
goes on with what is missing, and a set of 64 begins with the set of 32.  Nobody asks about sites that are in the
adversary's hands in some infection: they train in a shadow as in the target.  So shadows of an infected model are
infected.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from consilium.core.errors import Failed
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.core.sealed_tensors import read_sealed, write_sealed
from consilium.core.threat import Shadow
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import cores, why_no_fork
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.train import merged, train
from consilium.study.build.factory import algorithm, exchange, network, released, start
from consilium.study.build.process_jobs import each
from consilium.study.plan.budget_stop import budget_stop
from consilium.study.plan.nodes import TrainingCell, TrainingNode
from consilium.study.plan.plan import Plan
from consilium.study.plan.shadow_pool import ShadowPool, check_data
from consilium.study.plan.stage_keys import digest
from consilium.study.spec.spec import TrainingSpec
from consilium.study.store.store import Store, rounds_in

from .release import release

__all__ = ["Retraining", "shadow_workers", "shadows_made", "shadows_wanted"]


class Retraining:
    """The shadows of one cell, on records of ``sites``; ``done`` is called after each that had to be trained.

    They may use ``allotted`` cores (0: all of them).
    """

    def __init__(
        self,
        plan: Plan,
        cell: TrainingCell,
        store: Store,
        sites: tuple[str, ...],
        done: Callable[[], None],
        allotted: int = 0,
    ) -> None:
        self.plan, self.cell, self.store, self._done = plan, cell, store, done
        self._workers = shadow_workers(cell.node.spec, allotted)
        self.node, self.data = cell.node, plan.materials.consortium(cell.seed)
        self.stream = Stream(cell.seed).child("shadows")
        check_data(self.data)
        self._sites = sites

    @cached_property
    def pool(self) -> ShadowPool:
        """What the shadows may learn from."""
        return ShadowPool.of(self.data, self._sites, self.stream.child("pool"))

    def fit(self, included: Tensor, seeds: Sequence[int]) -> Sequence[Shadow]:
        """A shadow per row and seed: trained in parallel unless it is there, and read one at a time."""
        names = [self.name(mask, seed) for mask, seed in zip(included, seeds, strict=True)]
        wanted = dict(zip(names, zip(included, seeds, strict=True), strict=True))
        missing = {name: job for name, job in wanted.items() if not self._path(name).is_file()}
        jobs = [partial(self._train, name, mask, seed) for name, (mask, seed) in missing.items()]
        with torch.enable_grad():  # an attack may look without
            each(jobs, self._workers, self._done)
        return _Shadows(self, names)

    def name(self, mask: Tensor, seed: int) -> str:
        """16 digits of what a shadow depends on."""
        ids = self.pool.records.ids[mask].sort().values
        members_digest = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        return digest({"schema": 1, "training": self.node.digest, "included": members_digest, "seed": seed})

    def shadow(self, name: str) -> Shadow:
        """The stored shadow, as released models are: defended, and read back from its artefact."""
        path, remedy, about = self._path(name), "delete it to train it again", self._about(name)
        tensors, _ = read_sealed(path, "shadow", remedy, about)
        plain = (
            self.plan.materials.network(self.cell.seed, self.cell.arm)
            .module_at(tensors["params"], tensors["buffers"])
            .cpu()
        )
        path = self.store.model(self.cell.model) / "shadows" / f"{name}.safetensors"
        stream, arm = self.stream.child("release", name), self.cell.arm
        about = {**about, "model": self.cell.model}
        data, included = self.data, tensors["included"]
        model = release(plain, arm.model, arm.answer, data.public, data.task, path, stream, about, tried=True)
        pool, task = self.pool.records, data.task
        return Shadow(len(data.classes), model.module, model.surrogate, pool, included=included, task=task)

    def _about(self, name: str) -> dict[str, str]:
        return {"training": self.node.digest, "shadow": name}

    def _path(self, name: str) -> Path:
        return _folder(self.store, self.node.digest) / f"{name}.safetensors"

    def _train(self, name: str, mask: Tensor, seed: int, alive: Callable[[], None]) -> None:
        """Train one shadow and store it; a killed one goes on from its last round."""
        draft = self._path(name).with_suffix("")
        data = self.pool.divided(self.data, mask)
        params, buffers, took_part = _trained(self.node, data, seed, draft, alive)
        inside = torch.tensor([site in took_part for site in self.pool.names])
        tensors = {"params": params, "buffers": buffers, "included": mask & inside[self.pool.site]}
        write_sealed(self._path(name), tensors, self._about(name))
        shutil.rmtree(draft)


class _Shadows(Sequence[Shadow]):
    """Read when asked for: a set of large models need not be in memory at once."""

    def __init__(self, of: Retraining, names: Sequence[str]) -> None:
        self._of, self._names = of, tuple(names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Shadow: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Shadow]: ...

    def __getitem__(self, index: int | slice) -> Shadow | Sequence[Shadow]:
        if isinstance(index, slice):
            return _Shadows(self._of, self._names[index])
        return self._of.shadow(self._names[index])


def shadows_wanted(plan: Plan) -> dict[str, int]:
    """How many shadows each training of ``plan`` will have."""
    most = max((attack.attack.retrains() for attack in plan.spec.attacks), default=0)
    return dict.fromkeys(plan.trainings, most)


def shadows_made(store: Store | None, training: str) -> int:
    """How many shadows ``training`` has."""
    return 0 if store is None else len(list(_folder(store, training).glob("*.safetensors")))


def shadow_workers(spec: TrainingSpec, allotted: int = 0) -> int:
    """How many shadows are trained at once; one where processes cannot be forked, or the device is not the CPU."""
    workers = spec.federation.shape.workers or allotted or cores()
    return workers if spec.device == "cpu" and why_no_fork() is None else 1


def _trained(
    node: TrainingNode, data: Consortium, seed: int, folder: Path, alive: Callable[[], None]
) -> tuple[Tensor, Tensor, frozenset[str]]:
    """Parameters, buffers, and the sites whose work is in them; nobody judges the rounds."""
    spec, net = node.spec, _network(node, data, seed)
    whole = exchange(spec, node.arm, node.seed, node.corruption, data, net, Stream(seed).child("train"))
    bound = algorithm(spec, node.arm, net)
    with Loop() as engine:
        begin, nobody = start(spec, node.arm, data, net), Assessing(bound, {}, data.task)
        done = train(
            engine, whole, nobody, begin, node.rounds, folder, lambda *_: alive(),
            stop=budget_stop(node, data), name=f"{node.digest}/{folder.name}",
        )  # fmt: skip
    weights = released(spec, node.arm, net, done.state.server)
    if weights is None:
        raise Failed(f"{bound.kind()} has no model for everyone")
    took_part = frozenset(site for report in rounds_in(folder) for site in merged(report))
    return weights[0].cpu(), weights[1].cpu(), took_part


def _network(node: TrainingNode, data: Consortium, seed: int) -> Network:
    """The shadow's own first weights; what is frozen is public, and that of the training."""
    study = node.arm.study(node.spec)
    net = network(study, data, seed, tried=True)
    return net.sharing(network(study, data, node.seed, tried=True)) if net.partly_frozen else net


def _folder(store: Store, training: str) -> Path:
    return store.training(training) / "shadows"
