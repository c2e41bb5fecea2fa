"""The table [audit] through a whole study: what it changes, what it leaves alone, and a claim that it breaks."""

import json

import pytest
import torch

from consilium import Study
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.random import Stream
from consilium.core.rounding import round_up
from consilium.core.threat import ThreatModel
from consilium.evidence.audit import AuditEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.privacy import ClaimEvidence
from consilium.evidence.storage.write import plain
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page
from consilium.report.render.table import table_rows
from consilium.study.build.factory import consortium
from consilium.study.evaluate.canary_audit import Auditor, broken
from consilium.study.evaluate.views import audited, candidates
from consilium.study.plan.plan import make_plan
from consilium.study.plan.privacy_claims import EVERY_SITE, central_claims
from consilium.study.spec.arms import arms
from consilium.study.spec.canary_spec import CanarySpec
from consilium.study.spec.parse import parse

CLAIMED = {"kind": "dp-sgd", "epsilon": 1.0, "delta": 1e-4}


def tables(**changed):
    federation = {"kind": "fed-avg", "rounds": 40, "local-epochs": 1, "batch": 64, "lr": 2.0}
    return {
        "name": "audited",
        "threads": 1,
        "data": {"kind": "digits", "sites": 1},
        "model": "logistic",
        "federation": federation,
        "vary": {"privacy": [CLAIMED]},
        "audit": {"canaries": 500},
        **changed,
    }


def evidence(folder):
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/evidence.json")]
    return {(e["cell"]["arm"], e["cell"]["infected_by"]): e for e in found}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    study = tables(attacks=["loss-threshold", "one-run-audit", "one-run-gradient"])
    return Study.of(study).run(tmp_path_factory.mktemp("right"))


def test_the_right_code_is_audited_beside_its_claim(right):
    assert not right.outcome.failed
    audits = evidence(right.folder)["dp-sgd", "none"]["audits"]
    assert set(audits) == {"one-run-audit", "one-run-gradient"}
    for audit in audits.values():
        assert audit["claimed"]["epsilon"] == pytest.approx(1.0, rel=0.01)
        stated = ("unit", "adjacency", "sampler", "accountant", "delta")
        wanted = ("example", "add-or-remove-one", "Poisson sampling", "PLD", 1e-4)
        assert tuple(audit["claimed"][name] for name in stated) == wanted
        found = audit["audited"]
        assert found["epsilon"] <= 1.0 and not audit["exceeded"]
        assert (found["canaries"], found["delta"], found["assumption"]) == (500, 1e-4, "none")
        assert found["confidence"] == pytest.approx(1 - 0.05 / 2)  # two audits of one claim
        assert 0 < found["right"] <= found["guesses"] <= 500
        assert "Gaussian" in audit["gaussian"]["assumption"]


def test_without_a_claim_the_bound_is_a_figure_of_leakage(right):
    audit = evidence(right.folder)["none", "none"]["audits"]["one-run-audit"]
    assert audit["claimed"] is None and not audit["exceeded"]
    assert audit["audited"]["epsilon"] > 1.0  # nothing is clipped, and noise is learned by heart
    assert audit["gaussian"]["epsilon"] > audit["audited"]["epsilon"]


def test_figures_have_chance_and_n_and_the_page_shows_them(right):
    finding = evidence(right.folder)["dp-sgd", "none"]["findings"]["one-run-audit"]
    for name in ("audited_epsilon", "audited_epsilon_gaussian"):
        (measure,) = [m for m in finding["measures"] if m["name"] == name]
        assert (measure["chance"], measure["n"]) == (0.0, 500)
    page = write_page(right.folder).read_text()
    rows = table_rows(read_study(right.folder))
    assert all(float(row["audited_epsilon"]) >= 0 for row in rows) and len(rows) == 2
    assert "the least that an audit found" in page and "not broken, not proved" in page


def test_what_is_done_is_not_done_again(right):
    again = Study.of(tables(attacks=["loss-threshold", "one-run-audit", "one-run-gradient"])).run(right.folder.parent)
    assert (again.outcome.trained, again.outcome.attacks_run, again.outcome.attacks_reused) == (0, 0, 6)


def test_a_training_without_noise_fails_its_cell_and_stays_failed(tmp_path, monkeypatch):
    """The seeded bug at the level of a study, found by the answers of the released model alone."""
    with monkeypatch.context() as planted:
        planted.setattr(Stream, "noised", lambda own, value, deviation: value)
        results = Study.of(tables(vary={"privacy": [CLAIMED]})).run(tmp_path)
    (why,) = results.outcome.failed.values()
    assert "is broken" in why and "no assumption" in why
    cell = evidence(results.folder)["dp-sgd", "none"]
    audit = cell["audits"]["one-run-audit"]
    assert cell["status"] == "failed" and audit["exceeded"]
    assert audit["audited"]["epsilon"] > audit["claimed"]["epsilon"]
    assert evidence(results.folder)["none", "none"]["status"] == "ok"
    again = Study.of(tables(vary={"privacy": [CLAIMED]})).run(tmp_path)
    assert again.outcome.trained == 0 and again.outcome.failed


# --- what belongs to the audited training ---------------------------------------------------------------------------


def test_canaries_count_in_n_in_rates_and_in_delta():
    plain = tables()
    del plain["audit"]
    spec, bare = parse(tables()), parse(plain)
    data, before = consortium(spec, 0), consortium(bare, 0)
    more = int(data.canaries.included.sum())
    assert len(data.sites[0].records.train) == len(before.sites[0].records.train) + more
    (claims,) = [c for c in make_plan(spec).claims.values() if c]
    assert claims[0].n == len(data.sites[0].records.train)
    tight = tables(vary={"privacy": [{**CLAIMED, "delta": 1 / (claims[0].n - 1)}]})
    with pytest.raises(Refused, match="delta"):
        make_plan(parse(tight))
    del tight["audit"]
    make_plan(parse(tight))


def test_digests_change_with_the_planting_and_without_a_table_not_at_all():
    def trainings(**audit):
        return set(make_plan(parse(tables(audit={"canaries": 100, **audit}))).trainings)

    base = trainings()
    assert base == trainings(guesses=[0.3], delta=1e-6)
    assert not base & trainings(kind="mislabelled")
    plain = tables()
    del plain["audit"]
    assert all("canaries" not in node.recipe for node in make_plan(parse(plain)).trainings.values())


def test_other_attacks_are_not_asked_about_canaries():
    data = consortium(parse(tables()), 0)
    asked, _, _ = candidates(data, ("site-0",), Stream(0))
    assert not torch.isin(asked.ids, data.canaries.records.ids).any()
    assert len(candidates(data, ("site-0",), Stream(0))[0]) > 1000


def test_only_canaries_of_honest_sites_that_took_part_are_guessed():
    spec = parse(tables(data={"kind": "digits", "sites": 4}, audit={"canaries": 100}))
    data = consortium(spec, 0)
    own = audited(data, ("site-1", "site-3"))
    assert set(own.site.tolist()) == {1, 3} and len(own.records) == 50
    with pytest.raises(Refused, match="fewer than two canaries"):
        audited(data, ())


def test_an_infected_twin_is_audited_on_its_honest_sites(tmp_path):
    study = tables(
        data={"kind": "digits", "sites": 2},
        federation={"kind": "fed-avg", "rounds": 1, "batch": 64},
        audit={"canaries": 60},
        corruptions=[{"kind": "label-flip", "sites": 1}],
    )
    results = Study.of(study).run(tmp_path)
    assert not results.outcome.failed
    cells = evidence(results.folder)
    assert cells["dp-sgd", "label-flip"]["audits"]["one-run-audit"]["audited"]["canaries"] == 30
    assert cells["dp-sgd", "none"]["audits"]["one-run-audit"]["audited"]["canaries"] == 60


# --- claims that a canary cannot break ------------------------------------------------------------------------------


def judged(claims, sites=("site-0",)):
    """An adversary who is always right, beside ``claims``."""
    data = consortium(parse(tables(data={"kind": "digits", "sites": len(sites)}, audit={"canaries": 400})), 0)
    how = CanarySpec(400)
    seen = Finding((), {"score": data.canaries.included.double()})
    who = ThreatModel("server", "training", "white-box", "membership")
    stated = tuple(ClaimEvidence(**claim) for claim in claims)
    return plain(Auditor(how, 0.95, stated).judge(seen, who, data, sites, Stream(0))[1])


def claim(**changed):
    stated = {"site": "site-0", "unit": "example", "adjacency": "add-or-remove-one", "epsilon": 1.0, "delta": 1e-5}
    made = {**stated, "sampler": "Poisson sampling", "accountant": "PLD", **changed}
    return {"record_epsilon": made["epsilon"], **made}


def test_a_perfect_adversary_breaks_a_claim_of_its_own_adjacency_only():
    assert judged([claim()])["exceeded"]
    assert judged([claim(unit="patient")])["exceeded"]
    replaced = judged([claim(adjacency="replace-one")])
    assert not replaced["exceeded"] and replaced["warned"]
    labels = judged([claim(unit="label", adjacency="replace-one-label")])
    assert labels["claimed"] is None and not labels["exceeded"]
    assert judged([claim(site="site-7")])["claimed"] is None


def test_a_claim_of_sites_is_broken_at_the_epsilon_of_replacing_one():
    private = {"kind": "dp-fed-avg", "noise-multiplier": 12.0, "delta": 1e-5, "clip": 0.5}
    data, quick = {"kind": "digits", "sites": 12}, {"kind": "fed-avg", "rounds": 2}
    spec = parse(tables(data=data, vary={"privacy": [private]}, federation=quick, audit={"canaries": 400}))
    (central,) = central_claims(spec, arms(spec)[1], consortium(spec, 0))
    assert (central.unit, central.site) == ("site", EVERY_SITE) and 0 < central.epsilon < central.record_epsilon < 4
    audit = judged([central.to_json()])
    assert audit["claimed"]["epsilon"] == central.epsilon and audit["exceeded"]
    assert f"{round_up(central.record_epsilon)} where a site is replaced" in audit["verdict"]
    between = (central.epsilon + central.record_epsilon) / 2
    assert between < audit["audited"]["epsilon"]
    # A bound between the two contradicts nothing: the site is there either way, and its update turns round.
    honest = judged([{**central.to_json(), "epsilon": 0.1, "record_epsilon": 50.0}])
    assert not honest["exceeded"] and not honest["warned"]
    assert any("epsilon of replacing a site" in note for note in honest["notes"])


def test_the_weakest_claim_over_sites_is_the_one_to_break():
    there = ("site-0", "site-1")
    audit = judged([claim(epsilon=0.5), claim(epsilon=15.0, site="site-1")], there)
    assert audit["claimed"]["epsilon"] == 15.0 and not audit["exceeded"]


def test_of_two_claims_of_a_site_the_stronger_is_the_one_to_break():
    """Records are private per example at the site, and its update per site at the server: both must hold."""
    whole = claim(epsilon=7.0, record_epsilon=15.0, unit="site", site="every site")
    audit = judged([claim(epsilon=0.5), whole])
    assert audit["claimed"]["unit"] == "example" and audit["exceeded"]
    assert judged([claim(epsilon=0.5, adjacency="replace-one"), whole])["claimed"]["unit"] == "site"


def test_a_gaussian_bound_warns_and_fails_nothing():
    audit = judged([claim(epsilon=6.0)])
    assert audit["audited"]["epsilon"] < 6.0 < audit["gaussian"]["epsilon"]
    assert audit["warned"] and not audit["exceeded"]
    assert any(note.startswith("WARNING") for note in audit["notes"])
    assert not broken({"one-run-audit": FindingEvidence(audit=AuditEvidence(exceeded=audit["exceeded"]))})
    assert broken({"one-run-audit": FindingEvidence(audit=AuditEvidence(exceeded=True, verdict="why"))})


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"audit": {}}, "required"),
        ({"audit": {"canaries": 1}}, "2 to 1000000 canaries"),
        ({"audit": {"canaries": 100, "guess": [0.1]}}, "no knob 'guess'"),
        ({"audit": {"canaries": 100, "guesses": []}}, "guesses"),
        ({"audit": {"canaries": 100, "kind": "loud"}}, "audit.kind"),
        ({"audit": 3}, "expected a table"),
        ({"model": {"kind": "file", "path": "m.safetensors", "architecture": {"kind": "logistic"}}}, "existing model"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(changed, reason):
    study = tables(**changed)
    if "model" in changed:
        del study["federation"], study["vary"]
    with pytest.raises(Refused) as refused:
        parse(study)
    assert reason in str(refused.value)


def test_a_guesser_without_canaries_is_refused_and_canaries_without_one_get_theirs():
    study = tables(attacks=["one-run-gradient"])
    assert [a.name for a in parse(study).attacks] == ["one-run-gradient"]
    assert [a.name for a in parse(tables()).attacks] == ["one-run-audit"]
    del study["audit"]
    with pytest.raises(Refused, match="needs an audit's canaries"):
        parse(study)


def test_no_site_of_that_name():
    with pytest.raises(Refused, match="no site 'site-9'"):
        consortium(parse(tables(audit={"canaries": 10, "site": "site-9"})), 0)
