"""A site that obeys its own limits: four questions before its work, and nothing without them."""

from dataclasses import replace

import pytest
import torch

from consilium.core.algorithm import Broadcast
from consilium.core.charge import Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.random import Stream
from consilium.defend.training.dp_sgd import DPSGD
from consilium.deploy.protocol.messages import StudyRequest, encode_broadcast
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.federate.client.assessment import assess
from consilium.federate.client.participant import SiteState
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.tasks.single_label import SingleLabel

DELTA = 1e-3
RULE = DPSGD(noise_multiplier=1.5, delta=DELTA).rule(MeanGradient())
REQUEST = StudyRequest("s", 3, 3, 1, 8, {"kind": "fed-avg"}, {"kind": "mlp"}, ({"kind": "dp-sgd"},))


@pytest.fixture
def person(federation):
    return federation(rule=RULE, schedule=Schedule(3, 1, 8)).sites["site-1"]


def admitted(guard, person, request=REQUEST):
    guard.judge(request)
    known = guard.recognise(request, person.site.records.train)
    return guard.admit(request, known, replace(person, stream=person.stream.secretly(known.key)))


def question(person, number=1):
    params, buffers = person.network.start()
    shared = Broadcast(number, params, buffers)
    return shared, encode_broadcast(shared, REQUEST.digest())


def test_a_round_is_paid_then_worked(tmp_path, person):
    guard = Guard(SiteLimits(budget=Budget(50.0, DELTA)), tmp_path / "ledger")
    study = admitted(guard, person)
    shared, asked = question(person)
    guard.pay(study, 1, asked)
    update, state = study.person.work(shared, SiteState())
    with open_ledger(tmp_path / "ledger") as ledger:
        assert ledger.paid(REQUEST.digest()) == (1,)
        assert ledger.cost(ledger.fingerprint(person.train), DELTA) > 0
        assert state.ledger == study.planned.charges(), "what was planned is what the work charges"
    again, _ = study.person.work(shared, SiteState())
    assert not torch.equal(update.payload["delta"], again.payload["delta"]), "noise never comes twice"


def test_a_participant_without_secret_noise_is_refused(tmp_path, person):
    guard = Guard(SiteLimits(), tmp_path / "ledger")
    known = guard.recognise(REQUEST, person.train)
    with pytest.raises(Refused, match="noise must be secret"):
        guard.admit(REQUEST, known, person)


def test_the_key_is_the_same_after_a_restart_and_another_for_other_studies_and_sites(tmp_path, person):
    train = person.train
    draw = lambda guard, request: torch.rand(  # noqa: E731
        3, generator=Stream(0).secretly(guard.recognise(request, train).key).concealed()
    ).tolist()
    guard, other = (Guard(SiteLimits(), tmp_path / name) for name in ("ledger", "another site"))
    first = draw(guard, REQUEST)
    assert first == draw(Guard(SiteLimits(), tmp_path / "ledger"), REQUEST)
    assert first != draw(guard, replace(REQUEST, rounds=4)) and first != draw(other, REQUEST)


def test_a_study_that_costs_more_than_is_left_is_refused_before_its_first_round(tmp_path, person):
    guard = Guard(SiteLimits(budget=Budget(1.0, DELTA)), tmp_path / "ledger")
    with pytest.raises(Refused, match=r"budget\.epsilon: the study asks for epsilon .* of 1 is left for these records"):
        admitted(guard, person)


def test_another_study_on_the_same_records_finds_them_spent(tmp_path, person):
    guard = Guard(SiteLimits(budget=Budget(100.0, DELTA)), tmp_path / "ledger")
    study = admitted(guard, person)
    for number in (1, 2, 3):
        guard.pay(study, number, question(person, number)[1])
    with open_ledger(tmp_path / "ledger") as ledger:
        spent = ledger.cost(study.planned.data, DELTA)
    tight = Guard(SiteLimits(budget=Budget(spent * 1.1, DELTA)), tmp_path / "ledger")
    admitted(tight, person)
    with pytest.raises(Refused, match="is left for these records"):
        admitted(tight, person, replace(REQUEST, study="the same again"))


def test_rounds_beyond_the_request_or_worked_too_often_are_refused(tmp_path, person):
    guard = Guard(SiteLimits(max_rounds=4), tmp_path / "ledger")
    study = admitted(guard, person)
    for number in (0, 4, -1):
        with pytest.raises(Refused, match=f"asks for round {number}; the study has rounds 1 to 3"):
            guard.pay(study, number, b"")
    for _ in range(4):
        guard.pay(study, 1, b"")
    with pytest.raises(Refused, match="4 rounds of this study were computed, the most allowed, some more than once"):
        guard.pay(study, 1, b"")


def test_the_studys_own_budget_ends_it_at_the_site_too(tmp_path, person):
    """Both epsilon and noise given: a server that goes on is refused, on the site's own count."""
    rule = DPSGD(noise_multiplier=1.5, epsilon=4.0, delta=DELTA).rule(MeanGradient())
    request = replace(REQUEST, rounds=40)
    person = replace(person, rule=rule, schedule=Schedule(40, 1, 8))
    guard = Guard(SiteLimits(budget=Budget(4.0, DELTA)), tmp_path / "ledger")
    study = admitted(guard, person, request)
    most = study.planned.most
    assert most is not None and 1 <= most < 40
    for number in range(1, most + 1):
        guard.pay(study, number, question(person, number)[1])
    with pytest.raises(Refused, match=rf"study\.epsilon: the study's own budget allows {most} rounds"):
        guard.pay(study, most + 1, question(person, most + 1)[1])
    with open_ledger(tmp_path / "ledger") as ledger:
        assert ledger.cost(study.planned.data, DELTA) <= 4.0


def test_a_site_counts_its_own_patients(tmp_path, person):
    train = person.train
    paired = replace(train, units=torch.arange(len(train)) // 2)
    rule = DPSGD(noise_multiplier=1.5, delta=DELTA, unit="patient").rule(MeanGradient())
    pools = replace(person.site.records, train=paired)
    person = replace(person, rule=rule, train=paired, site=replace(person.site, records=pools))
    guard = Guard(SiteLimits(budget=Budget(50.0, DELTA, unit="patient")), tmp_path / "ledger")
    study = admitted(guard, person)
    patients = len(paired.units.unique())
    assert study.planned.step == PerUnit("patient", PoissonSampled(8 / patients, Gaussian(1.5)))
    assert study.planned.steps == -(-patients // 8)
    per_example = replace(person, rule=RULE)
    with pytest.raises(Refused, match=r"budget\.unit: the study protects single examples"):
        admitted(guard, per_example, replace(REQUEST, study="another"))


def test_the_sites_own_consent_and_count_hold_for_assessments(tmp_path, person):
    params, buffers = person.network.start()
    for limits, reason in (
        (SiteLimits(assess=False), "the site gives no consent"),
        (SiteLimits(minimum_count=7), "fewer than 7 validation records"),
    ):
        site = admitted(Guard(limits, tmp_path / "ledger"), person).person.site
        assert assess(site, person.network, SingleLabel(), params, buffers).reason == reason
    site = admitted(Guard(SiteLimits(), tmp_path / "ledger"), person).person.site
    assert assess(site, person.network, SingleLabel(), params, buffers).accuracy is not None


def test_models_are_judged_up_to_a_number_over_all_studies_and_restarts(tmp_path, person):
    limits = SiteLimits(max_assessments=3)
    for number, request in enumerate((REQUEST, replace(REQUEST, study="other"), REQUEST)):
        guard = Guard(limits, tmp_path / "ledger")
        guard.assess(request, b"model %d" % number)
        guard.assess(request, b"model %d" % number)
    with pytest.raises(Refused, match=r"limits\.max-assessments: 3 models were evaluated"):
        Guard(limits, tmp_path / "ledger").assess(REQUEST, b"model 3")
    guard.assess(REQUEST, b"model 0")
    Guard(replace(limits, assess=False), tmp_path / "ledger").assess(REQUEST, b"never judged")
    admitted(Guard(limits, tmp_path / "ledger"), person)
