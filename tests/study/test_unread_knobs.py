"""A knob that was set and does nothing, because of another one, is refused by name; defaults never are."""

import pytest

from consilium.attack.membership.rmia import RMIA
from consilium.core import catalogue
from consilium.core.errors import Refused
from consilium.data.partitions.unbalanced import Unbalanced
from consilium.defend.model.prune import Prune
from consilium.defend.training.augmentation import Augmentation
from consilium.defend.update.dp_fed_avg import DPFedAvg
from consilium.learn.models.resnet9 import ResNet9
from consilium.study.spec.federation_table import FederationShape
from consilium.study.spec.parse import parse

ADAM = [card for card in catalogue.cards("federate/algorithms") if {"optimiser", "momentum"} <= set(card.knobs)]


@pytest.mark.parametrize("card", ADAM, ids=lambda card: card.kind)
def test_momentum_beside_adam_is_refused(card):
    entry = catalogue.load_entry(card)
    assert entry(momentum=0.9).momentum == 0.9 and entry(optimiser="adam").optimiser == "adam"
    with pytest.raises(Refused, match=r"momentum = 0.9 does nothing where optimiser = .adam.") as refused:
        entry(momentum=0.9, optimiser="adam")
    assert refused.value.where == "momentum" and refused.value.remedy == "leave out momentum"


def test_every_algorithm_with_a_choice_of_optimiser_was_looked_at():
    assert {"fed-avg", "fed-prox", "ditto", "fed-adam"} <= {card.kind for card in ADAM}


@pytest.mark.parametrize(
    "entry, knobs, other, reason",
    [
        (Prune, {"lr": 0.1}, {"fine_tune_steps": 0}, "lr = 0.1 does nothing where fine-tune-steps = 0"),
        (
            DPFedAvg,
            {"clip_speed": 0.5},
            {"noise_multiplier": 1.0},
            "clip-speed = 0.5 does nothing where there is no quan",
        ),
        (ResNet9, {"groups": 4}, {"norm": "batch"}, "groups = 4 does nothing where norm = 'batch'"),
        (RMIA, {"a": 0.5}, {"mode": "online"}, 'a = 0.5 does nothing where mode = "online"'),
        (Unbalanced, {"exponent": 2.0}, {"sizes": (1.0, 2.0)}, "exponent = 2.0 does nothing where sizes are given"),
        (Augmentation, {"flip": False}, {"shift": 0}, "neither mirrored nor shifted are all alike"),
        (
            FederationShape,
            {"compile": True},
            {"engine": "loop"},
            "compile fuses the steps of a stack, and does nothing",
        ),
    ],
)
def test_a_knob_that_another_makes_useless_is_refused(entry, knobs, other, reason):
    entry(**other)
    with pytest.raises(Refused, match=reason):
        entry(**other, **knobs)


@pytest.mark.parametrize(("knob", "value"), [("batch", 16), ("local-epochs", 5)])
def test_what_fed_sgd_does_not_read_is_refused(tables, knob, value):
    tables |= {"attacks": [], "corruptions": [], "vary": {}}
    tables["federation"] = {"kind": "fed-sgd", "rounds": 1}
    parse(tables)
    tables["federation"][knob] = value
    with pytest.raises(Refused, match=f"fed-sgd does not read {knob}: it would do nothing") as refused:
        parse(tables)
    assert refused.value.where == f"federation.{knob}"
    tables["vary"] = {"algorithm": ["fed-avg"]}
    assert parse(tables).federation.algorithm.kind() == "fed-sgd"
