"""The sheet that a site's officer signs: what it promises is what the plan, the wire and the limits say."""

import math

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")

from consilium.core.errors import Refused
from consilium.deploy.agreement.sheet import greatest_certainty, sheet
from consilium.deploy.agreement.terms import Counts, read_terms, site_terms
from consilium.deploy.protocol.description import describe
from consilium.deploy.site.policy import SiteLimits, check_request
from consilium.deploy.transport.certificates import make_server_keys, make_site_key
from consilium.federate.client.participant import SiteState
from consilium.study.build.factory import exchange, start
from consilium.study.plan.plan import Materials
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse

DP = {"kind": "dp-sgd", "noise-multiplier": 2.0, "delta": 1e-4}
STUDY = {
    "name": "signed",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 3},
    "model": {"kind": "mlp", "hidden": 4},
    "federation": {"kind": "scaffold", "rounds": 2, "batch": 32},
    "vary": {"privacy": [DP]},
}
COUNTS = Counts(150)


@pytest.fixture(scope="module")
def terms():
    return site_terms(parse(STUDY), "site-1", COUNTS, limits=SiteLimits())


def test_an_update_has_as_many_numbers_as_the_sheet_says(terms):
    """With scaffold, which sends its control variate too: counted in an update that a site really makes."""
    spec = parse(STUDY)
    materials, arm = Materials(spec), arms(spec)[0]
    data, net = materials.consortium(0), materials.network(0)
    whole = exchange(spec, arm, 0, None, data, net)
    _, inbox = whole.open(start(spec, arm, data, net))
    update, _ = whole.sites["site-1"].work(inbox, SiteState())
    assert terms.trainings[0].numbers == sum(tensor.numel() for tensor in update.payload.values())
    assert terms.trainings[0].numbers > 1.9 * update.payload["delta"].numel()
    assert f"| {4 * terms.trainings[0].numbers:,} |" in sheet(terms)


def test_the_digest_is_that_of_every_request_and_of_no_other_study(terms):
    assert {one.request.study_digest() for one in terms.trainings} == {terms.digest}
    assert len({one.request.digest() for one in terms.trainings}) == 2
    spec = parse({**STUDY, "federation": {**STUDY["federation"], "rounds": 3}})
    data = Materials(spec).consortium(0)
    other = describe(spec, arms(spec)[0], 0, "a training", data, terms.sites)
    assert other.study_digest() != terms.digest
    check_request(terms.trainings[1].request, SiteLimits(studies=(terms.digest,)))
    with pytest.raises(Refused, match="is not among the allowed studies"):
        check_request(other, SiteLimits(studies=(terms.digest,)))


def test_the_order_of_sites_changes_no_digest(terms):
    spec = parse(STUDY)
    data = Materials(spec).consortium(0)
    request = describe(spec, arms(spec)[0], 0, "", data, terms.sites[::-1])
    assert request.study_digest() == terms.digest


def test_the_promise_is_the_claim_of_the_plan_in_odds(terms):
    (claim,) = terms.trainings[1].claims
    page = sheet(terms)
    assert claim.site == "site-1" and claim.n == 150
    percent = math.ceil(1000 * greatest_certainty(claim.epsilon, claim.delta)) / 10
    assert f"right in at most {percent:g} of 100 cases" in page
    assert "**none (seed 0): no differential privacy.**" in page
    assert "no common bound" in page


def test_guesses_of_randomised_response_are_as_good_as_the_bound():
    """Its answer is right with probability e^eps / (e^eps + 1), which is the bound at delta = 0; never above 1."""
    assert greatest_certainty(math.log(3), 0.0) == pytest.approx(0.75)
    assert greatest_certainty(0.0, 0.0) == 0.5 and greatest_certainty(800.0, 0.1) == 1.0


def test_private_trainings_add_up():
    spec = parse({**STUDY, "seeds": [0, 1], "vary": {}, "federation": {**STUDY["federation"], "kind": "fed-avg"}})
    assert site_terms(spec, "site-1", COUNTS).together() is None
    axes = {"privacy": [{**DP, "name": "a"}, {**DP, "noise-multiplier": 4.0, "name": "b"}]}
    terms = site_terms(parse({**STUDY, "vary": axes}), "site-1", COUNTS)
    private = [one for one in terms.trainings if one.claims]
    both = type(terms)(terms.site, terms.sites, COUNTS, None, tuple(private))
    epsilon, delta, unit = both.together()
    assert (delta, unit) == (1e-4, "example")
    single = [one.claims[0].epsilon for one in private]
    assert max(single) < epsilon < sum(single)


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ("max-rounds = 1", ["limits.max-rounds", "limits.max-rounds"]),
        ("[budget]\nepsilon = 50.0\ndelta = 1e-4", ["has no bound", ""]),
        ("[budget]\nepsilon = 0.01\ndelta = 1e-4", ["has no bound", "costs epsilon"]),
        ("[budget]\nepsilon = 50.0\ndelta = 1e-4\nunit = 'patient'", ["has no bound", "has no bound per patient"]),
    ],
)
def test_it_says_what_the_limits_refuse(tmp_path, limits, refused):
    file, study = tmp_path / "limits.toml", tmp_path / "study.toml"
    file.write_text(limits)
    study.write_text(TOML)
    terms, _ = read_terms(study, "site-1", COUNTS, file, None)
    assert [bool(one.refusal) for one in terms.trainings] == [bool(why) for why in refused]
    for one, why in zip(terms.trainings, refused, strict=True):
        assert why in str(one.refusal)
    assert sheet(terms).count("**refused**") == sum(map(bool, refused))


TOML = """
name = "signed"
threads = 1
data = { kind = "breast-cancer", sites = 3 }
model = { kind = "mlp", hidden = 4 }
federation = { kind = "fed-avg", rounds = 2, batch = 32 }
vary = { privacy = [{ kind = "dp-sgd", noise-multiplier = 2.0, delta = 1e-4 }] }
"""


def test_with_keys_it_names_the_sites_that_have_one_and_their_fingerprints(tmp_path):
    pytest.importorskip("cryptography")
    keys = make_server_keys(tmp_path / "keys", ["127.0.0.1"])
    for site in ("north", "south"):
        _, public = make_site_key(site, tmp_path / site)
        (keys.sites / f"{site}.pub").write_bytes(public.read_bytes())
    (tmp_path / "study.toml").write_text(TOML)
    terms, lines = read_terms(tmp_path / "study.toml", "north", COUNTS, None, tmp_path / "keys")
    assert terms.sites == ("north", "south") and len(lines) == 3
    assert lines[0] in sheet(terms, lines) and lines[0] != lines[1]
    with pytest.raises(Refused, match="the study has no site 'site-1'"):
        read_terms(tmp_path / "study.toml", "site-1", COUNTS, None, tmp_path / "keys")
