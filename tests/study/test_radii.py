"""A ball that covers all of [0, 1] bounds nothing: refused in the plan, by name and place."""

import pytest
import torch

from consilium import Study
from consilium.core.errors import Refused
from consilium.learn.perturbation.balls import ball_of, size_of

FEATURES = 30  # breast-cancer
PLAIN = {"vary": {}, "attacks": [], "corruptions": []}


def planned(tables, **parts):
    return Study.of(
        {**tables, "data": {"kind": "breast-cancer", "sites": 3}, "model": "logistic", **PLAIN, **parts}
    ).plan()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_diameter_is_the_size_of_the_change_from_all_0_to_all_1(norm):
    change = torch.ones(1, FEATURES)
    assert ball_of(norm, 0).diameter(FEATURES) == pytest.approx(float(size_of(change, norm)))


@pytest.mark.parametrize(
    ("parts", "where", "remedy"),
    [
        ({"attacks": [{"kind": "pgd", "radius": 8}]}, "attacks[0]", "such as 8/255 = 0.0314"),
        ({"attacks": ["fgsm", {"kind": "pgd", "radius": 25}]}, "attacks[1]", "such as 25/255 = 0.098"),
        ({"attacks": [{"kind": "fgsm", "radius": 1.0}]}, "attacks[0]", "use a radius below 1, such as 1/255"),
        ({"attacks": [{"kind": "pgd", "radius": 5.5, "norm": "l2"}]}, "attacks[0]", "use a radius below 5.47"),
        (
            {"corruptions": [{"kind": "adversarial-poisoning", "radius": 8}]},
            "corruptions[0]",
            "such as 8/255 = 0.0314",
        ),
        (
            {"vary": {"robustness": [{"kind": "adversarial-training", "radius": 2.5}]}},
            "vary.robustness: adversarial-training",
            "use a radius below 1",
        ),
    ],
)
def test_a_ball_over_every_input_is_refused_with_its_remedy(tables, parts, where, remedy):
    with pytest.raises(Refused, match="may turn every input into any other: inputs lie in") as e:
        planned(tables, **parts)
    assert e.value.where == where and remedy in e.value.remedy
    assert ("/255" in e.value.remedy) == ("/255" in remedy)


def test_a_ball_that_leaves_something_is_planned(tables):
    parts = [{"kind": "pgd", "radius": 0.99}, {"kind": "fgsm", "radius": 5.4, "norm": "l2"}, "label-boundary"]
    assert planned(tables, attacks=parts).cells


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("place", "where"),
    [
        (lambda knobs: {"attacks": [{"kind": "pgd", **knobs}]}, "attacks[0]"),
        (
            lambda knobs: {"corruptions": [{"kind": "adversarial-poisoning", "radius": knobs["radius"]}]},
            "corruptions[0]",
        ),
        (
            lambda knobs: {"vary": {"robustness": [{"kind": "adversarial-training", **knobs}]}},
            "vary.robustness: adversarial-training",
        ),
    ],
)
def test_a_ball_that_is_lost_in_rounding_is_refused(tables, place, where, norm):
    assert torch.equal(torch.tensor([0.5, 1.0]) - 1e-8, torch.tensor([0.5, 1.0])), "it moves nothing there"
    with pytest.raises(Refused, match="with radius 1e-08 moves nothing") as e:
        planned(tables, **place({"radius": 1e-8, "norm": norm}))
    assert e.value.where == where and "1/255" in e.value.remedy
    assert planned(tables, **place({"radius": 1e-6, "norm": norm})).cells
