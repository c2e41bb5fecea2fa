"""Epsilon against dp-accounting's PLD accountant, computed here from n, batch, noise and steps alone."""

import math

import dp_accounting
import pytest
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant

from consilium import Study
from consilium.core.errors import Unlawful
from consilium.measure.accounting.privacy import maximum

EPOCHS, ROUNDS, BATCH = 2, 3, 16


def independent(n, batch, sigma, steps, delta):
    """Poisson sampling at rate batch / n, Gaussian noise, composed over all steps; add-or-remove-one."""
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    step = dp_accounting.PoissonSampledDpEvent(batch / n, dp_accounting.GaussianDpEvent(sigma))
    return accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps)).get_epsilon(delta)


def test_every_claim_of_the_study_equals_it(tiny):
    known = {}
    claims = [(e, c) for e in tiny.cells().values() for c in e["privacy"]["claims"]]
    assert len(claims) == 4 * 3 + 4 * 2
    for evidence, claim in claims:
        inputs = (claim["n"], BATCH, 1.0, ROUNDS * math.ceil(EPOCHS * claim["n"] / BATCH), 1e-3)
        stated = ("n", "batch_size", "noise_multiplier", "steps", "delta")
        assert tuple(claim[name] for name in stated) == inputs
        known[inputs] = known.get(inputs) or independent(*inputs)
        assert claim["epsilon"] == pytest.approx(known[inputs], rel=0.01)
        assert claim["unit"] == "example" and claim["adjacency"] == "add-or-remove-one"
        assert evidence["privacy"]["epsilon"] == max(c["epsilon"] for c in evidence["privacy"]["claims"])
        assert evidence["privacy"]["delta"] == 1e-3
    assert len(known) == 3


def test_the_comparison_can_fail():
    """Forgetting that rounds compose, or sampling, is far more than one per cent."""
    right = independent(82, BATCH, 1.0, 33, 1e-3)
    assert independent(82, BATCH, 1.0, 11, 1e-3) < 0.9 * right
    assert independent(82, 82, 1.0, 33, 1e-3) > 1.1 * right


def test_a_target_sets_the_noise_per_site_and_is_kept(tables):
    """LAWS 7: each site's sigma is its own, and the independent computation finds the target spent, not exceeded."""
    del tables["vary"]["compression"], tables["vary"]["robustness"], tables["corruptions"]
    tables["attacks"] = []
    tables["vary"]["privacy"] = [{"kind": "dp-sgd", "epsilon": 3.0, "delta": 1e-3}]
    plan = Study.of(tables).plan()
    claims = [c for held in plan.claims.values() for c in held]
    assert len({c.noise_multiplier for c in claims}) == 3
    for c in claims:
        found = independent(c.n, c.batch_size, c.noise_multiplier, c.steps, c.delta)
        assert 0.99 * 3.0 <= found <= 3.0 * 1.001
        assert c.epsilon == pytest.approx(found, rel=0.01)
    assert maximum(claims) <= 3.0
    small, large = min(claims, key=lambda c: c.n), max(claims, key=lambda c: c.n)
    assert small.noise_multiplier > large.noise_multiplier


def test_hardly_any_noise_is_refused_before_training_with_its_epsilon(tables, as_toml, consilium_cli, tmp_path):
    tables["vary"]["privacy"][0]["noise-multiplier"] = 0.01
    (tmp_path / "study.toml").write_text(as_toml(tables))
    done = consilium_cli("run", "study.toml", "--out", "out", "--json", cwd=tmp_path)
    assert done.code == 2 and not (tmp_path / "out").exists()
    assert "epsilon = " in done.err and "above max-epsilon = 20" in done.err and "noise multiplier 0.01" in done.err
    assert float(done.err.split("epsilon = ")[1].split()[0]) > 1000
    assert done.json["exit_code"] == 2 and done.json["where"] == "vary"


def test_the_cap_is_the_studys(tables):
    tables["max-epsilon"] = 6.0
    with pytest.raises(Unlawful, match=r"epsilon = 6\.5.* at site-2 .*n = 55.* above max-epsilon = 6"):
        Study.of(tables).plan()
    tables["max-epsilon"] = 7.0
    Study.of(tables).plan()


def test_the_plan_says_what_the_run_then_claims(tiny, consilium_cli):
    plan = consilium_cli("plan", tiny.file, "--json").json
    for arm in plan["arms"]:
        for infected_by in ("none", "label-flip"):
            made = tiny.cells()[arm["arm"], infected_by, 0]["privacy"]["claims"]
            honest = {c["site"] for c in made}
            assert made == [c for c in arm["claims"] if c["site"] in honest]
        assert arm["epsilon"] == tiny.cells()[arm["arm"], "none", 0]["privacy"]["epsilon"]
