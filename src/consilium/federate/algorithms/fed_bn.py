"""FedBN: federated averaging of everything but the normalisation layers, which stay at each site.

    at site k:  w_k = (shared part of w_t, own normalisation layers);  as FedAvg;   sends the shared part's change
    server:     averages the shared part; a normalisation layer's weights and running statistics never leave

So sites whose inputs look different (another scanner) each normalise in their own way.  There is no common model:
``model_for(server, None)`` is None.  A site that never took part has the layers of the untrained network.

Source: Li et al. 2021, FedBN, arXiv:2102.07623, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.errors import Failed, Refused
from consilium.core.frozen import constant_buffers, trained_parameters
from consilium.core.network import Network
from consilium.core.plain import Json
from consilium.core.update import Payload
from consilium.learn.fine_tuning.trained_parts import NORMALISATION
from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent

__all__ = ["FedBN"]


@dataclass(frozen=True)
class FedBN(LocalDescent):
    """FedAvg of all but the normalisation layers, of which every site has its own."""

    personal: ClassVar[bool] = True

    lr: float = 0.1
    momentum: float = 0.0
    optimiser: Optimiser = "sgd"

    def bound(self, network: Network) -> Algorithm:
        """With the places of the network's normalisation layers; refused where there is none.

        Raises Refused: the network has no normalisation layer.
        """
        (params, buffers), module = network.start(), network.template
        layers = {
            id(t) for m in module.modules() if isinstance(m, NORMALISATION) for t in (*m.parameters(), *m.buffers())
        }
        still = constant_buffers(module)
        moving = [b for name, b in module.named_buffers() if name not in still]
        trained = list(trained_parameters(module).values())
        if layers.isdisjoint(map(id, (*trained, *moving))):
            raise Refused(
                "fed-bn keeps normalisation layers at the sites, and this model has none with weights or statistics "
                "that train",
                remedy="choose a model with normalisation layers, such as resnet9, or kind = 'ditto' or 'fed-avg'",
                where="federation",
            )
        weights = _Parts.of([(p, id(p) in layers) for p in trained], params)
        statistics = _Parts.of([(b, id(b) in layers) for b in moving], buffers)
        return _BoundFedBN(self.lr, self.momentum, self.optimiser, weights, statistics)

    def start(self, network: Network, population: int) -> Server:
        """Not before it is bound: it would be plain FedAvg.

        Raises Failed: always.
        """
        raise Failed("fed-bn was started before it was bound to a network", remedy="start algorithm.bound(network)")


@dataclass(frozen=True, eq=False)
class _Parts:
    """Which entries of a flat vector are shared and which a site's own; ``fresh`` are the untrained own ones."""

    shared: Tensor
    local: Tensor
    fresh: Tensor
    order: Tensor

    @classmethod
    def of(cls, tensors: list[tuple[Tensor, bool]], flat: Tensor) -> _Parts:
        marks = [torch.full((t.numel(),), is_local, device=flat.device) for t, is_local in tensors]
        mask = torch.cat([*marks, torch.zeros(0, dtype=torch.bool, device=flat.device)])
        shared, local = (~mask).nonzero().flatten(), mask.nonzero().flatten()
        return cls(shared, local, flat[local], torch.cat([shared, local]).argsort())

    def join(self, shared: Tensor, local: Tensor | None) -> Tensor:
        """The whole vector."""
        return torch.cat([shared, self.fresh if local is None else local])[self.order]


@dataclass(frozen=True, eq=False)
class _BoundFedBN(LocalDescent):
    """FedBN for one network: what is broadcast and sent are the shared parts alone."""

    personal: ClassVar[bool] = True

    params: _Parts
    buffers: _Parts

    def configuration(self) -> dict[str, Json]:
        return FedBN(self.lr, self.momentum, self.optimiser).configuration()

    def start(self, network: Network, population: int) -> Server:
        server = super().start(network, population)
        params, buffers = server.params[self.params.shared], server.buffers[self.buffers.shared]
        return replace(server, params=params, buffers=buffers)

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        return Work(*self._whole(broadcast.params, broadcast.buffers, state), planned=steps)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        sent = {
            "delta": work.params[self.params.shared] - broadcast.params,
            "buffers": work.buffers[self.buffers.shared] - broadcast.buffers,
        }
        return sent, AlgorithmState(
            {"params": work.params[self.params.local], "buffers": work.buffers[self.buffers.local]}
        )

    def model_for(self, server: Server, state: AlgorithmState | None) -> tuple[Tensor, Tensor] | None:
        return None if state is None else self._whole(server.params, server.buffers, state)

    def _whole(self, params: Tensor, buffers: Tensor, state: AlgorithmState) -> tuple[Tensor, Tensor]:
        tensors = state.tensors
        return self.params.join(params, tensors.get("params")), self.buffers.join(buffers, tensors.get("buffers"))
