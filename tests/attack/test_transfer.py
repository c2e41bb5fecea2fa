"""Transfer: crafted elsewhere, judged here."""

from dataclasses import replace

import pytest
import torch

from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.transfer import Transfer
from consilium.core.errors import Refused


def robust(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))["robust_accuracy"].value


@pytest.fixture
def from_other(view, other_network):
    return replace(view, source=replace(view, module=other_network, surrogate=other_network))


def test_it_lies_between_nothing_and_the_white_box(view, from_other):
    clean, crossed, white = (
        robust(PGD(radius=1e-9), view),
        robust(Transfer(radius=0.1), from_other),
        robust(PGD(radius=0.1), view),
    )
    assert clean > crossed + 0.02 and crossed > white + 0.02


def test_from_the_model_itself_it_is_as_good_as_white_box(view):
    own = replace(view, source=view)
    assert robust(Transfer(radius=0.1), own) == pytest.approx(robust(PGD(radius=0.1), view), abs=0.01)


def test_it_never_looks_at_the_released_models_gradients(from_other):
    assert robust(Transfer(), replace(from_other, surrogate=None)) == robust(Transfer(), from_other)


def test_a_view_without_source_is_refused(view):
    with pytest.raises(Refused, match="needs a source model to craft on") as refusal:
        robust(Transfer(), view)
    assert "from = {" in refusal.value.remedy


def test_a_source_without_surrogate_claims_nothing(view):
    finding = Transfer()(replace(view, source=replace(view, surrogate=None)), {}, torch.Generator())
    assert all(m.value is None and "not adaptively evaluated" in m.reason for m in finding.measures)


@pytest.mark.parametrize("knobs", [{"radius": -0.1}, {"steps": 0}, {"step_size": 0.0}])
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        Transfer(**knobs)
