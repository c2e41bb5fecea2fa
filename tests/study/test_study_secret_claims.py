"""What is claimed of a deployed training: secret noise, each site's own number of records, no comparison of units."""

from dataclasses import replace

from consilium import Study
from consilium.core.charge import Composed
from consilium.study.plan.privacy_claims import claim_notes, made_claims, planned_claims, privacy_record

STUDY = Study(
    name="claims",
    data={"kind": "breast-cancer", "sites": 2, "partition": "iid"},
    model="logistic",
    federation={"kind": "fed-avg", "rounds": 2, "batch": 16},
    vary={"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}]},
)


def test_a_deployed_training_claims_secret_noise_and_declared_numbers():
    plan = STUDY.plan()
    data = plan.materials.consortium(0)
    (arm,) = (cell.arm for cell in plan.cells if cell.arm.training)
    planned = planned_claims(plan.spec, arm, data)
    charges = {c.site: (Composed(_step(arm, plan), c.steps),) for c in planned}
    simulated = made_claims(arm, data, charges, tuple(charges))
    deployed = made_claims(arm, data, charges, tuple(charges), {"kind": "flower", "records": {"site-0": 999}})
    assert all(claim.noise.startswith("replayable") for claim in simulated)
    assert [claim.noise for claim in deployed] == ["secret"] * 2
    assert deployed[0].n == 999 and replace(deployed[1], noise=simulated[1].noise) == simulated[1]
    assert "noise secret" in privacy_record(deployed, []).statements[0]
    told = [" ".join(claim_notes(plan.spec, made, ())) for made in (simulated, deployed)]
    assert "draw the same noise" in told[0] and "draw the same noise" not in told[1]
    assert "sites do not compare" in told[1] and "checked within this data set" in told[0]


def _step(arm, plan):
    from consilium.study.build.factory import gradient_rule, schedule

    rule = gradient_rule(arm)
    return rule.step_charge(200, schedule(plan.spec.federation, rule))
