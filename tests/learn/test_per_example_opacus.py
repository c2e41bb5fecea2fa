"""Every layer type against Opacus in float64 to 1e-12, some examples clipped and some not."""

import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.learn.per_example import clipped_sum, dispatch, per_example_norms
from consilium.learn.per_example.bookkeeping import BookKeeping

made = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))
Dot, N, close, problem = (made[name] for name in ("Dot", "N", "close", "problem"))


class SelfAttention(nn.Module):
    """Of a sequence to itself; ``first``: the layer wants the positions first."""

    def __init__(self, attention, first=False):
        super().__init__()
        self.layer, self.first = attention, first

    def forward(self, x):
        x = x.transpose(0, 1) if self.first else x
        out = self.layer(x, x, x, need_weights=False)[0]
        return out.transpose(0, 1) if self.first else out


def opacus_own(module):
    """``module``, with Opacus' attention in the place of torch's, which its hooks do not know; the same weights.

    With the batch first, that of Opacus 1.6 answers something else than torch's.
    """
    if isinstance(module, SelfAttention):
        from opacus.layers import DPMultiheadAttention

        own = DPMultiheadAttention(6, 2).double()
        own.load_state_dict(module.layer.state_dict())
        return SelfAttention(own, first=True)
    return module


OPACUS = {
    "linear": (nn.Linear(5, 4), (5,)),
    "linear, positions": (nn.Linear(5, 4), (3, 5)),
    "conv1d": (nn.Conv1d(2, 3, 3, 2, padding=1), (2, 9)),
    "conv2d, dilation": (nn.Conv2d(2, 3, 2, dilation=2), (2, 6, 5)),
    "conv2d, groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5)),
    "conv2d, depthwise": (nn.Conv2d(4, 8, 3, 2, padding=1, groups=4), (4, 6, 6)),
    "conv3d": (nn.Conv3d(2, 2, 2), (2, 3, 4, 3)),
    "group norm": (nn.GroupNorm(2, 4), (4, 3, 3)),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), (4, 3, 3)),
    "layer norm": (nn.LayerNorm(5), (3, 5)),
    "embedding": (nn.Embedding(7, 3), lambda: torch.randint(7, (N, 4))),
    "attention": (SelfAttention(nn.MultiheadAttention(6, 2, batch_first=True)), (4, 6)),
}


@pytest.mark.parametrize("kind", OPACUS)
def test_layer_types_agree_with_opacus(kind):
    layer, shape = OPACUS[kind]
    network, params, buffers, batch = problem(layer, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import GradSampleModule

        module = opacus_own(network.module_at(params, buffers)).requires_grad_(True).train()
        wrapped = GradSampleModule(module, loss_reduction="sum", batch_first=kind != "attention")
        Dot().losses(wrapped, batch).sum().backward()
        rows = torch.cat([p.grad_sample.flatten(1) for p in wrapped.parameters()], 1)
    norms = per_example_norms(network, params, buffers, Dot(), batch)
    assert isinstance(dispatch._known[network], BookKeeping)
    close(norms, rows.norm(dim=1))
    clip = float(norms.median())
    ours = clipped_sum(network, params, buffers, Dot(), batch, clip).value
    theirs = (clip / rows.norm(dim=1)).clamp(max=1) @ rows
    close(ours.sort().values, theirs.sort().values)  # its attention has the weights in another order
