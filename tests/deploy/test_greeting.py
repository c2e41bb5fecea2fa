"""Before the first round: who is there, with what, and what plan follows."""

import pytest

from consilium.core.errors import Refused
from consilium.deploy.elsewhere import elsewhere
from consilium.deploy.enrolment import Enrolment, decode_enrolment, encode_enrolment
from consilium.deploy.greeting import check_deployable, plan_for
from consilium.federate.deployed.frame import Frame, pack
from consilium.study.build import consortium
from consilium.study.parse import parse
from consilium.study.record import study_record

STUDY = {
    "name": "greeted",
    "threads": 1,
    "data": {"kind": "digits", "sites": 2, "partition": "iid"},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2},
}
OWN = {site: Enrolment(site, 100 * (k + 1), 10, 1.0, True) for k, site in enumerate(("north", "south", "west"))}
REHEARSAL = {site: Enrolment(site, 5, 5, 1.0, False) for site in ("site-0", "site-1")}


def test_a_rehearsals_plan_is_that_of_a_simulation():
    spec = parse(STUDY)
    made = plan_for(spec, REHEARSAL)
    assert not made.materials.consortium(0).declared
    assert list(made.trainings) == list(plan_for(spec, dict(reversed(REHEARSAL.items()))).trainings)


def test_own_records_make_another_training_and_only_their_numbers_are_known():
    spec = parse(STUDY)
    made = plan_for(spec, OWN)
    data = made.materials.consortium(0)
    assert data.declared
    assert [(site.id, len(site.records.train)) for site in data.sites] == [
        ("north", 100),
        ("south", 200),
        ("west", 300),
    ]
    assert set(made.trainings).isdisjoint(plan_for(spec, REHEARSAL).trainings)
    record = study_record(made, "serve", {}, 0.0)["data"]
    assert record["pools"]["train"] == [100, 200, 300]
    assert record["label_counts"] == [], "nobody told them"
    assert any("never there" in note for note in record["notes"])


def test_a_rehearsal_beside_own_records_is_refused():
    with pytest.raises(Refused, match="site-0 rehearse"):
        plan_for(parse(STUDY), {**OWN, "site-0": REHEARSAL["site-0"]})


def test_a_rehearsal_under_other_names_is_refused():
    with pytest.raises(Refused, match="the study's sites are site-0, site-1"):
        plan_for(parse(STUDY), {"site-0": REHEARSAL["site-0"], "north": REHEARSAL["site-1"]})


def test_an_attack_on_members_needs_records_that_are_elsewhere():
    spec = parse({**STUDY, "attacks": [{"kind": "loss-threshold"}]})
    plan_for(spec, REHEARSAL)
    with pytest.raises(Refused, match="stay at the sites"):
        plan_for(spec, OWN)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"corruptions": [{"kind": "label-flip", "sites": 1}]}, "infects nobody"),
        ({"audit": {"canaries": 10}}, "stay at the sites"),
        ({"federation": {"kind": "fed-bn", "rounds": 2}}, "stays there unjudged"),
        ({"federation": {"rounds": 2, "kind": "fed-avg", "participation": {"dropout": 0.5}}}, "are simulated"),
    ],
    ids=["corruption", "audit", "personal", "dropout"],
)
def test_what_makes_no_sense_among_real_sites_is_refused(more, reason):
    with pytest.raises(Refused, match=reason):
        check_deployable(parse({**STUDY, **more}))


def test_a_minimum_cohort_is_lawful_among_real_sites():
    check_deployable(parse({**STUDY, "federation": {"kind": "fed-avg", "participation": {"minimum-cohort": 2}}}))


def test_what_a_site_declares_is_read_or_refused():
    one = OWN["north"]
    assert decode_enrolment(encode_enrolment(one, "s"), "s", "north") == one
    good = {"kind": "enrolment", "study": "s", **vars(one)}
    for wrong in ({"train": -1}, {"train": 1.5}, {"train": True}, {"weight": 0}, {"weight": "1"}, {"own": 1}, {"x": 1}):
        with pytest.raises(Refused):
            decode_enrolment(pack(Frame({**good, **wrong}, {})), "s", "north")
    for wrong in ("x", 1, None, "0" * 63, "G" * 64):
        with pytest.raises(Refused, match="north: the enrolment declares no digest of its inputs"):
            decode_enrolment(pack(Frame({**good, "inputs": wrong}, {})), "s", "north")
    with pytest.raises(Refused, match="another study or site"):
        decode_enrolment(encode_enrolment(one, "s"), "s", "south")


def test_the_placeholders_hold_nothing():
    data = elsewhere(consortium(parse(STUDY), 0), tuple(OWN.values()))
    assert all(site.records.train.x.numel() == 0 for site in data.sites)


def test_units_are_declared_and_counted():
    """A claim per patient among machines is of as many patients as each site declared."""
    told = Enrolment("north", 100, 10, 1.0, True, 40)
    assert decode_enrolment(encode_enrolment(told, "s"), "s", "north") == told
    data = elsewhere(consortium(parse(STUDY), 0), (told, OWN["south"]))
    assert [len(site.records.train.units.unique()) for site in data.sites] == [40, 200]
    with pytest.raises(Refused, match="more units than records"):
        decode_enrolment(encode_enrolment(Enrolment("north", 100, 10, 1.0, True, 101), "s"), "s", "north")


def test_the_servers_noise_is_not_for_machines_that_know_its_seed():
    spec = parse({**STUDY, "vary": {"privacy": [{"kind": "dp-fed-avg", "noise-multiplier": 1.0}]}})
    with pytest.raises(Refused, match="every site is told"):
        check_deployable(spec)
