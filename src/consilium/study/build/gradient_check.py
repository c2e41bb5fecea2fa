"""Whether a model from elsewhere has gradients where real records are: where it has none, DP-SGD adds nothing."""

from __future__ import annotations

import torch

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Consortium
from consilium.learn.custom_code import has_custom_code
from consilium.learn.fine_tuning.batch_statistics import batch_statistics
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import per_example_norms

__all__ = ["check_gradients"]

_TRIED = 64
"""Public records whose gradients are looked at."""


def check_gradients(net: Network, consortium: Consortium) -> None:
    """Custom code may have no finite gradient for real records: under DP each of those would add nothing, in silence.

    Asked of public records at the untrained model.

    Raises Refused: some of them have no finite gradient.
    """
    public = consortium.public.select(torch.arange(min(_TRIED, len(consortium.public))))
    if not len(public) or not has_custom_code(net.template) or batch_statistics(net):  # which is unlawful, by name
        return
    device = net.start()[0].device
    batch = {"x": public.x.to(device), "y": public.y.to(device)}
    with scoped(Stream(0).child("gradients")):
        norms = per_example_norms(net, *net.start(), TaskLoss(consortium.task), batch)
    lost = int((~norms.isfinite()).sum())
    if lost:
        raise Refused(
            f"{lost} of {len(public)} public records have a gradient that is not finite: under DP-SGD such a "
            "record adds nothing to the sum, so the noise alone would be learned",
            remedy="leave out what has no slope there, such as sqrt at 0 (add a small constant)",
            where="model",
        )
