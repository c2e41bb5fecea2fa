"""The single-label loss of each example is torch's cross-entropy to the last bit, in gradients and under vmap too."""

import pytest
import torch
from torch.func import grad, vmap
from torch.nn import functional as F

from consilium.learn.tasks.single_label import SingleLabel


def torchs(answers, y):
    return F.cross_entropy(answers, y, reduction="none")


def bits(tensor):
    return tensor.detach().double().view(torch.int64)  # exact, and shows the sign of a zero


def alone(loss):
    return lambda answer, y: loss(answer[None], y[None]).squeeze(0)


def views(loss, x, y):
    """Losses and gradients in a batch, and one by one under vmap."""
    leaf = x.clone().requires_grad_()
    losses = loss(leaf, y)
    losses.sum().backward()
    return losses, leaf.grad, vmap(alone(loss))(x, y), vmap(grad(alone(loss)))(x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [0.1, 1.0, 1000.0])
def test_it_is_cross_entropy_to_the_bit(dtype, scale):
    generator = torch.Generator().manual_seed(7)
    x = (torch.randn(65, 9, generator=generator) * scale).to(dtype)
    y = torch.randint(9, (65,), generator=generator)
    for own, other in zip(views(SingleLabel().losses, x, y), views(torchs, x, y), strict=True):
        assert torch.equal(bits(own), bits(other))


def test_another_formula_is_noticed():
    x, y = torch.randn(65, 9, generator=torch.Generator().manual_seed(7)), torch.zeros(65, dtype=torch.long)
    other = x.exp().sum(1).log() - x[:, 0]
    assert not torch.equal(bits(other), bits(SingleLabel().losses(x, y)))
