"""One way to put tensors into a module by name: all of them, or none."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.network import Network, fill, named_tensors


class Hidden(nn.Module):
    """A layer, and a buffer that its state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(2), persistent=False)


def test_what_a_state_dict_leaves_out_is_filled_too():
    source, target = Hidden(), Hidden()
    source.seen.fill_(7)
    fill(target, named_tensors(source))
    assert set(named_tensors(target)) == {"layer.weight", "layer.bias", "seen"}
    assert all(torch.equal(a, named_tensors(source)[name]) for name, a in named_tensors(target).items())
    assert target.layer.weight is not source.layer.weight


@pytest.mark.parametrize("wrong", ["missing", "extra", "shape"])
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(wrong):
    given, target = dict(named_tensors(Hidden())), Hidden()
    before = {name: tensor.clone() for name, tensor in named_tensors(target).items()}
    if wrong == "missing":
        del given["seen"]
    else:
        given["seen" if wrong == "shape" else "more"] = torch.zeros(5)
    with pytest.raises(Refused, match="more" if wrong == "extra" else "seen"):
        fill(target, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in named_tensors(target).items())


def test_a_module_at_vectors_is_filled_the_same_way():
    network = Network(Hidden())
    params, buffers = network.start()
    made = network.module_at(params + 1, buffers + 2)
    assert torch.equal(made.layer.bias, network.template.layer.bias + 1) and made.seen.tolist() == [2, 2]
