"""A site's limits: every one refuses by name what is beyond it, and lets through what is not."""

from dataclasses import replace

import pytest
import torch

from consilium.core.charge import Gaussian, PoissonSampled, RandomisedResponse
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.rounding import round_down, round_up
from consilium.deploy.protocol.messages import StudyRequest
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.policy import Planned, Requirement, SiteLimits, check_policy, check_request, read_limits
from consilium.deploy.site.policy_enforcement import Guard

DP = {"kind": "dp-sgd", "epsilon": None, "noise-multiplier": 1.0, "clip": 1.0, "delta": 1e-5}
REQUEST = StudyRequest(
    "private-small", 10, 3, 2, 32, {"kind": "fed-avg", "lr": 0.1}, {"kind": "mlp", "hidden": 16}, (DP,)
)
STEP = PoissonSampled(0.1, Gaussian(1.5))

WHOLE = """
max-rounds = 50
max-local-epochs = 5
minimum-sites = 3
minimum-count = 10
assess = false
algorithms = ["fed-avg", "scaffold"]
studies = ["private-small"]
witness = "/mnt/other/head.json"

[budget]
epsilon = 5.0
delta = 1e-6
labels = 3
unit = "patient"
adjacency = "replace-one"

[[require]]
kind = "dp-sgd"
noise-multiplier = { at-least = 0.8 }
clip = { at-most = 1.0 }

[[require]]
any-of = [{ kind = "norm-bound" }, { kind = "median" }]
"""


def written(tmp_path, text):
    path = tmp_path / "limits.toml"
    path.write_text(text, encoding="utf-8")
    return path


def data(n=40):
    return Records.of(torch.rand(n, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(n, dtype=torch.long))


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path / "ledger") as held:
        yield held


def planned(ledger, step=STEP, steps=5, labels=()):
    return Planned(ledger.fingerprint(data()), step, steps, labels)


# --- the file -----------------------------------------------------------------------------------------------------


def test_a_file_says_what_it_says(tmp_path):
    limits = read_limits(written(tmp_path, WHOLE))
    assert (limits.max_rounds, limits.max_local_epochs, limits.minimum_sites, limits.assess) == (50, 5, 3, False)
    assert (
        limits.budget == Budget(5.0, 1e-6, 3.0, "patient", "replace-one")
        and str(limits.witness) == "/mnt/other/head.json"
    )
    assert limits.algorithms == ("fed-avg", "scaffold") and limits.studies == ("private-small",)
    first, second = limits.required
    assert first == (Requirement("dp-sgd", {"noise-multiplier": (0.8, None), "clip": (None, 1.0)}),)
    assert [r.kind for r in second] == ["norm-bound", "median"]
    assert (limits.at_site().minimum_count, limits.at_site().consent) == (10, False)
    assert read_limits(written(tmp_path, "")) == SiteLimits()


BROKEN = {
    "unknown limit 'max-round'.*Did you mean 'max-rounds'": "max-round = 3",
    "budget: unknown part of a budget 'epsilom'.*'epsilon'": "[budget]\nepsilom = 3",
    r"require\.0: unknown .* kind 'dp-sdg'.*'dp-sgd'": '[[require]]\nkind = "dp-sdg"',
    r"require\.0: unknown knob of dp-sgd 'clips'.*'clip'": '[[require]]\nkind = "dp-sgd"\nclips = { at-least = 1 }',
    r"require\.0\.clip: unknown bound 'atmost'.*'at-most'": '[[require]]\nkind = "dp-sgd"\nclip = { atmost = 1 }',
    r"require\.0\.clip: 1\.0 cannot be used": '[[require]]\nkind = "dp-sgd"\nclip = 1.0',
    r"require\.0\.kind": "[[require]]\nclip = 1.0",
    r"require\.0\.any-of": "[[require]]\nany-of = []",
    "algorithms: unknown algorithm kind 'fedavg'.*'fed-avg'": 'algorithms = ["fedavg"]',
    r"max-rounds: 0 cannot be used\. Give a whole number": "max-rounds = 0",
    "max-rounds: True": "max-rounds = true",
    r"budget\.delta: 1\.5 cannot be used": "[budget]\ndelta = 1.5",
    r"budget\.epsilon: inf": "[budget]\nepsilon = inf",
    r"budget\.epsilon: nan": "[budget]\nepsilon = nan",
    r"budget\.epsilon: -1": "[budget]\nepsilon = -1",
    "assess: 'yes'": 'assess = "yes"',
    "witness: 'head.json'": 'witness = "head.json"',
    "studies: 'all'": 'studies = "all"',
    "is not TOML": "max-rounds = ",
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_file_that_is_wrong_is_refused_by_name(tmp_path, reason):
    with pytest.raises(Refused, match=reason) as caught:
        read_limits(written(tmp_path, BROKEN[reason]))
    assert "limits.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_no_empty_one(tmp_path):
    with pytest.raises(Refused, match="No such file"):
        read_limits(tmp_path / "limits.toml")


# --- the request --------------------------------------------------------------------------------------------------


def asked(**changes):
    return replace(REQUEST, **changes)


BEYOND = [
    ("allow-code", SiteLimits(), {"code": True}),
    ("studies.*'other'.*not among", SiteLimits(studies=("private-small",)), {"study": "other"}),
    ("algorithms.*'fed-sgd'.*allowed are fed-avg", SiteLimits(algorithms=("fed-avg",)),
     {"algorithm": {"kind": "fed-sgd"}}),
    ("max-rounds.*asks for 10; at most 9", SiteLimits(max_rounds=9), {}),
    ("max-local-epochs.*asks for 2; at most 1", SiteLimits(max_local_epochs=1), {}),
    ("minimum-sites.*the study has 3 sites; at least 4", SiteLimits(minimum_sites=4), {}),
    ("require.*no dp-sgd", SiteLimits(required=((Requirement("dp-sgd"),),)), {"defences": ()}),
    ("require.*no norm-bound; no median.*norm-bound or median",
     SiteLimits(required=((Requirement("norm-bound"), Requirement("median")),)), {}),
    ("require.*clip 1, and at most 0.5", SiteLimits(required=((Requirement("dp-sgd", {"clip": (None, 0.5)}),),)), {}),
    ("require.*noise-multiplier 1, and at least 1.1",
     SiteLimits(required=((Requirement("dp-sgd", {"noise-multiplier": (1.1, None)}),),)), {}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "limits", "changes"), BEYOND)
def test_what_is_beyond_a_limit_is_refused_by_name(reason, limits, changes):
    with pytest.raises(Refused, match=f"limits.{reason}"):
        check_request(asked(**changes), limits)


@pytest.mark.parametrize(("reason", "limits", "changes"), BEYOND)
def test_the_same_request_passes_a_site_that_does_not_mind(reason, limits, changes):
    check_request(asked(**changes), SiteLimits(allow_code=True))


def test_at_the_limit_is_within_it():
    required = Requirement("dp-sgd", {"clip": (1.0, 1.0), "noise-multiplier": (1.0, None)})
    choice = (Requirement("median"), Requirement("dp-sgd"))
    check_request(REQUEST, SiteLimits(10, 2, 3, studies=(REQUEST.digest(),), required=((required,), choice)))
    with pytest.raises(Refused, match="not among"):
        check_request(asked(rounds=11), SiteLimits(studies=(REQUEST.digest(),)))


def test_a_defence_named_twice_must_be_enough_each_time():
    weak = {**DP, "clip": 9.0}
    with pytest.raises(Refused, match="clip 9"):
        check_request(
            asked(defences=(DP, weak)), SiteLimits(required=((Requirement("dp-sgd", {"clip": (None, 1.0)}),),))
        )


# --- the request on these records ---------------------------------------------------------------------------------


def test_noise_that_is_left_to_the_site_is_judged_by_the_site(ledger):
    """With a target epsilon the study names no noise multiplier: the site's own counts."""
    open_ = asked(defences=({**DP, "epsilon": 2.0, "noise-multiplier": None},))
    limits = SiteLimits(required=((Requirement("dp-sgd", {"noise-multiplier": (1.6, None)}),),))
    check_request(open_, limits)
    with pytest.raises(Refused, match=r"noise-multiplier 1\.5, and at least 1\.6"):
        check_policy(open_, limits, ledger, planned(ledger))
    check_policy(open_, limits, ledger, planned(ledger, PoissonSampled(0.1, Gaussian(1.7))))
    with pytest.raises(Refused, match="without a number for noise-multiplier"):
        check_policy(open_, limits, ledger, planned(ledger, None))


def test_more_epsilon_than_is_left_is_refused_and_the_figures_are_told(ledger):
    own = planned(ledger)
    whole = ledger.cost(own.data, 1e-5, own.charges(10))
    enough = SiteLimits(budget=Budget(whole * 1.001, 1e-5))
    check_policy(REQUEST, enough, ledger, own)
    with pytest.raises(
        Refused, match=rf"budget\.epsilon: the study asks for epsilon {round_up(whole)}; 1 of 1 is left"
    ):
        check_policy(REQUEST, SiteLimits(budget=Budget(1.0, 1e-5)), ledger, own)
    ledger.claim("f" * 64, 1, b"w", own.data, own.charges(), enough.budget)
    spent = ledger.cost(own.data, 1e-5)
    with pytest.raises(Refused, match=rf"{round_down(whole * 1.001 - spent)} of {whole * 1.001:g} is left"):
        check_policy(REQUEST, enough, ledger, own)


def test_rounds_that_are_paid_are_not_asked_for_again_after_a_restart(ledger):
    own = planned(ledger)
    limits = SiteLimits(budget=Budget(ledger.cost(own.data, 1e-5, own.charges(10)) * 1.001, 1e-5))
    for number in range(1, 9):
        ledger.claim(REQUEST.digest(), number, b"w", own.data, own.charges(), limits.budget)
    check_policy(REQUEST, limits, ledger, own)
    with pytest.raises(Refused, match=r"budget\.epsilon"):
        check_policy(asked(study="the same under another name"), limits, ledger, own)


def test_labels_have_a_budget_of_their_own(ledger):
    own = planned(ledger, None, labels=(RandomisedResponse(2.0, 2),))
    check_policy(REQUEST, SiteLimits(budget=Budget(labels=2.0)), ledger, own)
    with pytest.raises(Refused, match=r"budget\.labels: the study asks for epsilon 2; 1\.5 of 1\.5 is left"):
        check_policy(REQUEST, SiteLimits(budget=Budget(labels=1.5)), ledger, own)


def test_a_budget_refuses_learning_without_privacy(ledger):
    with pytest.raises(Refused, match="without differential privacy"):
        check_policy(REQUEST, SiteLimits(budget=Budget(5.0)), ledger, planned(ledger, None))
    check_policy(REQUEST, SiteLimits(), ledger, planned(ledger, None))


def test_a_guard_judges_by_its_limits(tmp_path):
    guard = Guard(SiteLimits(max_rounds=9), tmp_path / "ledger")
    with pytest.raises(Refused, match="max-rounds"):
        guard.judge(REQUEST)
    assert not (tmp_path / "ledger").exists()
