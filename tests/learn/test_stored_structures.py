"""A stored structure names torch's own layers and functions where they are, or it is refused before anything runs."""

import copy

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.learn.user_code.skeleton import from_skeleton, skeleton, tensors_of

MODEL = nn.Sequential(nn.Linear(3, 2), nn.ReLU())


def rebuilt(change):
    structure = copy.deepcopy(skeleton(MODEL))
    change(structure)
    return from_skeleton(structure, tensors_of(MODEL))


def test_an_honest_one_is_built():
    x = torch.rand(4, 3)
    assert torch.equal(rebuilt(lambda structure: None)(x), MODEL(x))


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.modules.module:torch.os.system",
        "torch.nn.init:math.sqrt",
        "torch.nn.functional:importlib.import_module",
        "torch.nn.modules.linear:torch.nn.functional.relu",
    ],
)
def test_a_function_is_named_where_it_is(path):
    """Reached through another module it could be anyone's, under a name that looks like torch's."""
    with pytest.raises(Refused, match=r"is not the place of what it names|cannot be imported"):
        rebuilt(lambda structure: structure["modules"]["1"]["attributes"].update(f={"function": path}))


def test_a_class_is_named_where_it_is():
    with pytest.raises(Refused, match="is not the place of what it names"):
        rebuilt(lambda structure: structure["modules"]["1"].update({"class": "torch.nn.functional:torch.nn.ReLU"}))


@pytest.mark.parametrize("name", ["_forward_hooks", "_forward_pre_hooks", "_modules", "_load_state_dict_pre_hooks"])
def test_hooks_cannot_be_slipped_in(name):
    hook = {"dict": {"0": {"function": "torch.nn.functional:relu"}}}
    with pytest.raises(Refused, match=f"{name} is no attribute of a layer's own"):
        rebuilt(lambda structure: structure["modules"]["1"]["attributes"].update({name: hook}))
