"""What defences share that change a float model's weights and keep its architecture."""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from consilium.core.defence import ModelDefence
from consilium.core.errors import Unlawful
from consilium.core.records import Records
from consilium.core.threat import Aim

from ._sparse import pack_smaller, unpack_smaller

__all__ = ["Repaired"]


@dataclass(frozen=True)
class Repaired(ModelDefence, ABC):
    """Stored whole, or without its zeros where that is smaller; an attacker follows the repaired model itself."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("poisoning",)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """All tensors end to end; where enough weights are 0, without them."""
        return pack_smaller(module)

    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The same architecture."""
        return copy.deepcopy(module).eval().requires_grad_(False)

    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """The stored weights."""
        return unpack_smaller(module, artefact)

    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module:
        """The repaired model itself: it has gradients."""
        return defended

    def _require(self, public: Records) -> None:
        """Raises Unlawful: no public records to fit on (law 10)."""
        if not len(public):
            raise Unlawful(f"{self.kind()} has no public records to fit on", law=10, remedy="set data.public above 0")
