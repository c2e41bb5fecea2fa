"""One layer as a network, and examples whose gradients have directions and lengths of their own, in float64."""

import torch

from consilium.core.gradient import Objective
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.workspace import Compute
from consilium.learn.per_example import dispatch
from consilium.learn.per_example.bookkeeping import BookKeeping
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.clipping import clipped_sum, per_example_norms

N = 5


class Dot(Objective):
    """Loss <answer, y>: every example has a direction of its own."""

    def losses(self, predict, batch):
        return (predict(batch["x"]).flatten(1) * batch["y"]).sum(1)


def problem(module, x, seed=0, layout="contiguous"):
    with scoped(Stream(seed)):
        network = Network(module.double(), Compute(layout=layout))
        params, buffers = network.start()
        params, buffers = torch.randn_like(params) * 0.5, buffers.double()
        x = x() if callable(x) else torch.randn(N, *x, dtype=torch.float64)
        y = torch.randn_like(network.logits(params, buffers, x).flatten(1)) * torch.logspace(-1, 1, len(x))[:, None]
    return network, params, buffers, {"x": x, "y": y}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * float(b.abs().max()))


def check_books(module, x, *, seed=0):
    """Book-keeping is the route taken, no module goes by vmap, and norms and a clipped sum agree with vmap's."""
    network, params, buffers, batch = problem(module, x, seed)
    norms = per_example_norms(network, params, buffers, Dot(), batch)
    books = dispatch._known[network]
    assert isinstance(books, BookKeeping)
    assert not books.by_vmap
    clip = float(norms.median())
    total = clipped_sum(network, params, buffers, Dot(), batch, clip).value
    dispatch._known[network] = ByVmap(network)
    close(norms, per_example_norms(network, params, buffers, Dot(), batch))
    close(total, clipped_sum(network, params, buffers, Dot(), batch, clip).value)
