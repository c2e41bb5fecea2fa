"""What a server takes for a declaration once there is a plan: the numbers it knows, and the weight it works out."""

from dataclasses import replace

import pytest

from consilium.core.errors import Refused
from consilium.deploy.protocol.enrolment import Enrolment
from consilium.deploy.server.enrolment_handshake import plan_for
from consilium.deploy.server.server import _acceptable
from consilium.study.spec.parse import parse

STUDY = {
    "name": "accepted",
    "threads": 1,
    "data": {"kind": "digits", "sites": 2, "partition": "iid"},
    "model": "logistic",
}
OWN = {site: Enrolment(site, n, 10, 1.0, True) for site, n in (("site-0", 100), ("site-1", 300))}
REHEARSAL = {site: replace(one, own=False) for site, one in OWN.items()}


def accept(greeted, one, **federation):
    plan = plan_for(parse({**STUDY, "federation": {"kind": "fed-avg", "rounds": 2, **federation}}), greeted)
    (node,) = plan.trainings.values()
    data = plan.materials.consortium(0)
    _acceptable(node, data)(one(data.sites[0].records))


def declared(train, weight, own=True, validation=10):
    return lambda _: Enrolment("site-0", train, validation, weight, own)


@pytest.mark.parametrize(("weights", "weight"), [("uniform", 1.0), ("records", 100.0), ("algorithm", 100.0)])
def test_the_weight_is_the_servers(weights, weight):
    accept(OWN, declared(100, weight), weights=weights)
    for other in (1e12, weight + 1, weight / 2):
        with pytest.raises(Refused, match=f"and the server gives it {weight:g}"):
            accept(OWN, declared(100, other), weights=weights)


def test_own_numbers_are_bounded_and_a_rehearsals_are_known():
    with pytest.raises(Refused, match="site-0: the enrolment declares 100000000 records, and the study allows"):
        accept(OWN, declared(10**8, 1e8))
    accept(REHEARSAL, lambda own: Enrolment("site-0", len(own.train), len(own.validation), len(own.train), False))
    with pytest.raises(Refused, match=r"declares 5000 training and 10 validation records, and the site's share has"):
        accept(REHEARSAL, declared(5000, 5000.0, own=False))


def test_a_site_does_not_change_its_data_between_greeting_and_training():
    with pytest.raises(Refused, match="the site enrolled with other data"):
        accept(OWN, declared(100, 100.0, own=False))
