"""Before the first round: who is there, with what, and what plan follows."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from consilium.core.errors import Failed, Refused
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import describe
from consilium.deploy.protocol.enrolment import Enrolment, decode_enrolment, encode_enrolment
from consilium.deploy.protocol.framing import Frame, pack
from consilium.deploy.protocol.schema import read_schema
from consilium.deploy.server.enrolment_handshake import check_deployable, declaration_check, enrol, plan_for
from consilium.deploy.server.remote_sites import elsewhere
from consilium.deploy.transport.flower import Caller
from consilium.deploy.transport.server_options import ServerOptions
from consilium.evidence.storage.write import plain
from consilium.study.build.factory import consortium, exchange
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse
from consilium.study.stages.manifest import study_record

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
    record = plain(study_record(made, "serve", {}, 0.0))["data"]
    assert record["pools"]["train"] == [100, 200, 300]
    assert record["label_counts"] == [], "nobody told them"
    assert any("never on the server" in note for note in record["notes"])


def test_a_rehearsal_beside_own_records_is_refused():
    with pytest.raises(Refused, match=r"site-0 use the study's data \(rehearsal\)"):
        plan_for(parse(STUDY), {**OWN, "site-0": REHEARSAL["site-0"]})


def test_a_rehearsal_under_other_names_is_refused():
    with pytest.raises(Refused, match="the study the sites site-0, site-1"):
        plan_for(parse(STUDY), {"site-0": REHEARSAL["site-0"], "north": REHEARSAL["site-1"]})


def test_an_attack_on_members_needs_records_that_are_elsewhere():
    spec = parse({**STUDY, "attacks": [{"kind": "loss-threshold"}]})
    plan_for(spec, REHEARSAL)
    with pytest.raises(Refused, match="stay at the sites"):
        plan_for(spec, OWN)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"corruptions": [{"kind": "label-flip", "sites": 1}]}, "cannot simulate corruptions"),
        ({"audit": {"canaries": 10}}, "stay at the sites"),
        ({"federation": {"kind": "fed-bn", "rounds": 2}}, "cannot evaluate"),
        ({"federation": {"rounds": 2, "kind": "fed-avg", "participation": {"dropout": 0.5}}}, "does not simulate"),
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
    with pytest.raises(Refused, match=r"is that of 'north'\. Start it with --site south"):
        decode_enrolment(encode_enrolment(one, "s"), "s", "south")
    with pytest.raises(Refused, match="of another study"):
        decode_enrolment(encode_enrolment(one, "s"), "t", "north")


def test_the_placeholders_hold_nothing():
    data = elsewhere(consortium(parse(STUDY), 0), tuple(OWN.values()))
    assert all(site.records.train.x.numel() == 0 for site in data.sites)


@pytest.mark.parametrize("more", [{}, {"vary": {"privacy": [{"kind": "label-randomised-response", "epsilon": 2.0}]}}])
def test_a_declared_number_sizes_nothing(more):
    """10^12 records, or patients, cost what 100 do: in the plan, its digests and claims, and the exchange."""
    spec = parse({**STUDY, **more})
    many = {**OWN, "south": Enrolment("south", 10**12, 10**12, 1.0, True, 10**11)}
    made = plan_for(spec, many)
    data = made.materials.consortium(0)
    assert len(data.sites[1].records.train) == 10**12
    tensors = [getattr(data.sites[1].records.train, name) for name in ("x", "y", "ids", "units")]
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) <= 32
    whole = exchange(spec, arms(spec)[-1], 0, None, data, made.materials.network(0))
    assert whole.half.weights == {"north": 100.0, "south": 1e12, "west": 300.0}
    record = plain(study_record(made, "serve", {}, 0.0))["data"]["pools"]
    assert record["train"] == [100, 10**12, 300]


def test_other_numbers_are_another_training():
    plans = [
        plan_for(parse(STUDY), {**OWN, "west": Enrolment("west", n, m, 1.0, True, units)})
        for n, m, units in ((300, 10, 0), (301, 10, 0), (300, 11, 0), (300, 10, 150))
    ]
    assert len({tuple(plan.trainings) for plan in plans}) == 4


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ((10**12, 10, 0), "declares 1000000000000 records, and the study allows 10000000"),
        ((100, 10**12, 0), "declares 1000000000000 records, and the study allows 10000000"),
        ((0, 10, 0), "declares no training records"),
    ],
)
def test_more_records_than_a_study_allows_are_refused_by_name(declared, reason):
    train, validation, units = declared
    with pytest.raises(Refused, match=f"north: the enrolment {reason}"):
        declaration_check(parse(STUDY))(Enrolment("north", train, validation, 1.0, True, units))
    wide = parse({**STUDY, "federation": {"kind": "fed-avg", "rounds": 2, "max-records": 10**12}})
    if train:
        declaration_check(wide)(Enrolment("north", train, validation, 1.0, True, units))


@dataclass(frozen=True)
class Scripted(Caller):
    """Nodes that answer from a list each, the last answer for ever; who has none is silent."""

    answers: dict = field(default_factory=dict)

    def ask(self, sites, parts, read, name):
        came, refused = {}, {}
        for site in sites:
            if not (left := self.answers.get(site)):
                continue
            data = left.pop(0) if len(left) > 1 else left[0]
            short = {"answer": data(wire.decode_request(parts["request"]))}
            content = SimpleNamespace(config_records={"short": short})
            try:
                came[site] = read(site, SimpleNamespace(content=content, has_content=lambda: True))
            except Refused as error:
                refused[site] = str(error)
        return came, refused


def enrolment(site, train=100, weight=100.0, inputs=None):
    def made(request):
        agreed = inputs or read_schema(request.plan).digest()
        return encode_enrolment(Enrolment(site, train, 10, weight, True, inputs=agreed), request.digest())

    return made


def no(site, reason):
    return lambda request: wire.encode_refusal(
        wire.RefusalMessage(site, 0, "limits.max-rounds", reason), request.digest()
    )


def enrolled(answers, monkeypatch, gather=60.0):
    """What `enrol` makes of the answers, and what it says meanwhile; nobody sleeps."""
    monkeypatch.setattr("consilium.deploy.server.enrolment_handshake._AGAIN", 0.0)
    said, spec = [], parse(STUDY)
    data = consortium(spec, 0)
    request = describe(spec, arms(spec)[0], 0, "", data, ["north", "south"])
    caller = Scripted(None, {"north": 1, "south": 2}, 9.0, say=said.append, answers=answers)
    options = ServerOptions("127.0.0.1:1", None, True, gather=gather)
    return enrol(caller, options, request, ["north", "south"], declaration_check(spec)), said


WRONG = {
    "the enrolment is that of 'south'": enrolment("south"),
    "the reply is that of 'site-9': the study has no site": no("site-9", "the study has no site site-9"),
    "declares 1000000000000 records": enrolment("north", 10**12),
    "not a message of Consilium": lambda request: b"\x80\x04 a pickle, a long one",
    "the enrolment has other fields": lambda request: pack(Frame({"kind": "enrolment"}, {})),
    "declares no weight above 0": enrolment("north", weight=0.0),
    "it enrols with other inputs than the study's": enrolment("north", inputs="0" * 64),
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_wrong_enrolment_turns_that_site_alone_away_and_the_right_one_is_waited_for(reason, monkeypatch):
    answers = {"north": [WRONG[reason], WRONG[reason], enrolment("north")], "south": [enrolment("south", 7)]}
    came, said = enrolled(answers, monkeypatch)
    assert list(came) == ["north", "south"] and (came["north"].train, came["south"].train) == (100, 7)
    assert len([line for line in said if "north is rejected" in line and reason in line]) == 1, "said once"


def test_one_that_never_comes_as_itself_is_no_refusal_of_the_study(monkeypatch):
    """Status 2 is what no restart mends: another site's mistake may be mended any time."""
    answers = {"north": [enrolment("south")], "south": [enrolment("south")]}
    with pytest.raises(Failed, match=r"north did not enrol in 0 s; north was rejected: .* that of 'south'") as raised:
        enrolled(answers, monkeypatch, gather=0.2)
    assert raised.value.exit_code == 3


def test_a_site_that_says_no_by_its_limits_ends_it_with_its_name_and_reason(monkeypatch):
    answers = {"north": [enrolment("north")], "south": [no("south", "asks for 3, and 2 are allowed")]}
    with pytest.raises(Refused, match=r"south: south refuses: south\.limits\.max-rounds: asks for 3") as raised:
        enrolled(answers, monkeypatch)
    assert raised.value.exit_code == 2


def test_a_share_that_no_round_can_keep_is_refused_by_the_number_of_sites_that_came():
    half = {**STUDY, "data": {"kind": "digits"}, "federation": {"kind": "fed-avg", "max-share": 0.4}}
    plan_for(parse(half), OWN)  # three machines, whatever the study's own data were divided into
    three = {"kind": "fed-avg", "participation": {"minimum-cohort": 3}}
    plan_for(parse({**half, "federation": three}), OWN)
    with pytest.raises(Refused, match=r"federation\.max-share: among 2 sites one has a share of at least 0\.5"):
        plan_for(parse(half), {site: OWN[site] for site in ("north", "south")})


def test_units_are_declared_and_counted():
    """A claim per patient among machines is of as many patients as each site declared."""
    told = Enrolment("north", 100, 10, 1.0, True, 40)
    assert decode_enrolment(encode_enrolment(told, "s"), "s", "north") == told
    data = elsewhere(consortium(parse(STUDY), 0), (told, OWN["south"]))
    assert [site.records.train.unit_count() for site in data.sites] == [40, 200]
    with pytest.raises(Refused, match="more units than records"):
        decode_enrolment(encode_enrolment(Enrolment("north", 100, 10, 1.0, True, 101), "s"), "s", "north")


def test_the_servers_noise_is_not_for_machines_that_know_its_seed():
    spec = parse({**STUDY, "vary": {"privacy": [{"kind": "dp-fed-avg", "noise-multiplier": 1.0}]}})
    with pytest.raises(Refused, match="every site receives"):
        check_deployable(spec)


def test_sites_that_declare_the_same_numbers_are_named():
    """One file given to two sites: all that the server can know of it are their numbers."""
    data = consortium(parse(STUDY), 0)
    assert elsewhere(data, list(OWN.values())).cautions == ()
    twins = [*OWN.values(), Enrolment("east", 100, 10, 1.0, True)]
    (said,) = elsewhere(data, twins).cautions
    assert said == (
        "north and east declare the same numbers, 100 training and 10 validation records: was one file given to each? "
        "Records that stand at two sites count twice, and no claim covers that"
    )
    assert said in elsewhere(data, twins).notes
    assert elsewhere(data, [*OWN.values(), Enrolment("east", 100, 10, 1.0, True, 50)]).cautions == ()
    assert elsewhere(data, list(REHEARSAL.values())).cautions == ()
