"""Columns of a table that are set to values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.backdoor import Trigger
from consilium.core.errors import Refused
from consilium.core.plain import Json

__all__ = ["Columns"]


@dataclass(frozen=True)
class Columns(Trigger):
    """Input number ``columns[i]``, from 0, becomes ``values[i]``, in units of the inputs' range [0, 1]."""

    columns: tuple[int, ...]
    values: tuple[float, ...]

    def put(self, x: Tensor) -> Tensor:
        """Rows ``(n, d)`` with the values in them."""
        changed = x.clone()
        changed[:, list(self.columns)] = torch.tensor(self.values, dtype=x.dtype, device=x.device)
        return changed

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse inputs that are no rows, or have no such column.

        Raises Refused: they are, or have not.
        """
        if len(shape) != 1:
            reason = f"columns are of a table, and an input has shape {shape}"
            raise Refused(reason, remedy="leave out columns and values, for a square of pixels", where="columns")
        beyond = [column for column in self.columns if column >= shape[0]]
        if beyond:
            reason = f"column {beyond[0]} of inputs with {shape[0]} columns"
            raise Refused(reason, remedy=f"use 0 to {shape[0] - 1}", where="columns")

    def configuration(self) -> dict[str, Json]:
        """Both lists."""
        return {"kind": "columns", "columns": list(self.columns), "values": list(self.values)}
