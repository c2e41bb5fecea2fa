"""Codecs in a study: what may be combined and claimed, what colluders send, engines, and a resume."""

from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import load_file

from consilium import Study
from consilium.core import catalogue
from consilium.core.attack import Corruption
from consilium.core.errors import Unlawful
from consilium.core.threat import ThreatModel
from consilium.federate import train as training
from consilium.federate.checkpoint import load_checkpoint, save_checkpoint
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.run_exchange import run_exchange
from consilium.study.build.factory import colluders, exchange, start
from consilium.study.plan.privacy_claims import planned_claims

DP = {"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}
BOUND = {"kind": "norm-bound", "bound": 0.5}
KINDS = [c.kind for c in catalogue.cards("defend/update") if catalogue.load_entry(c).stage == "compress"]


@pytest.fixture
def plan_of(tables):
    """``plan_of(*defences, corruption=...)``: the tiny study with one arm beside the undefended one."""

    def made(*defences, corruption=None, **changes):
        given = {**tables, "vary": {"a": [list(defences)]} if defences else {}, "attacks": [], **changes}
        given["corruptions"] = [] if corruption is None else [corruption]
        return Study.of(given).plan()

    return made


@dataclass(frozen=True)
class Ran:
    """Rounds that were carried by hand."""

    exchange: object
    state: object
    states: dict


def rounds(plan, count, arm=1, bad=None):
    """Carry ``count`` rounds by hand."""
    return carry(*ready(plan, arm, bad), count)


def ready(plan, arm=1, bad=None):
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    state = start(plan.spec, plan.arms[arm], data, net)
    return exchange(plan.spec, plan.arms[arm], 0, bad, data, net), state


def carry(exchange, state, count, engine=None):
    states = {}
    with engine or Loop() as runs:
        for number in range(count):
            state = run_exchange(runs, exchange, state, states, SiteState, f"round {number + 1}")
    return Ran(exchange, state, states)


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_trains_with_it_and_sends_less(plan_of, kind):
    plan = plan_of(kind)
    plain, coded = rounds(plan, 2, arm=0), rounds(plan, 2, arm=1)
    assert coded.state.refused == {}
    assert coded.state.bytes_up < 0.7 * plain.state.bytes_up
    assert coded.state.bytes_down == plain.state.bytes_down
    assert not torch.equal(coded.state.server.params, plain.state.server.params)


@pytest.mark.parametrize("kind", ["scaffold", "fed-nova"])
@pytest.mark.parametrize("codec", KINDS)
def test_everything_an_algorithm_sends_is_carried(plan_of, tables, kind, codec):
    shape = {k: v for k, v in tables["federation"].items() if k not in ("kind", "lr")}
    ran = rounds(plan_of(codec, federation={"kind": kind, "lr": 0.05, **shape}), 2)
    assert ran.state.refused == {} and bool(ran.state.server.params.isfinite().all())


@pytest.mark.skipif(why_no_fork() is not None, reason=f"no pool here: {why_no_fork()}")
@pytest.mark.parametrize("kind", KINDS)
def test_other_engines_carry_messages_and_residuals(plan_of, kind):
    """The pool gives the loop's bits; the stack its numbers, up to a choice that the last bit tips.

    With two classes the last layer's changes are equal in pairs, so which of two a small top-k takes is such a choice.
    """
    carried, begin = ready(plan_of({"kind": kind, **({"share": 0.5} if kind == "top-k" else {})}))
    loop = carry(carried, begin, 3)
    pool, stack = carry(carried, begin, 3, Pool(Loop(), (carried.site_half,), 2)), carry(carried, begin, 3, Stacked())
    assert torch.equal(pool.state.server.params, loop.state.server.params)
    for ran in (pool, stack):
        assert ran.state.bytes_up == loop.state.bytes_up and ran.state.refused == {}
        for site, state in loop.states.items():
            held = {k: {n: t.shape for n, t in m.items()} for k, m in ran.states[site].defences.items()}
            assert held == {k: {n: t.shape for n, t in m.items()} for k, m in state.defences.items()}
    moved = loop.state.server.params - begin.server.params
    assert float((stack.state.server.params - loop.state.server.params).norm()) < 0.05 * float(moved.norm())


def law(plan_of, *defences, **changes):
    with pytest.raises(Unlawful) as caught:
        plan_of(*defences, **changes)
    assert "(LAWS 1)" in str(caught.value) and caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_law_1_what_clips_stands_before_what_compresses(plan_of, kind):
    assert f"Put norm-bound before {kind}" in law(plan_of, kind, BOUND)
    plan = plan_of(BOUND, kind)
    assert plan.arms[1].name == f"norm-bound+{kind}"
    assert rounds(plan, 1).state.refused == {}


def test_law_1_an_update_is_compressed_once(plan_of):
    assert "top-k and qsgd both compress" in law(plan_of, "top-k", "qsgd")
    assert "top-k stands twice" in law(plan_of, "top-k", {"kind": "top-k", "share": 0.1, "name": "again"})


def test_law_1_a_codec_that_cannot_read_an_algorithms_update_is_refused_before_training(plan_of):
    images = {"data": {"kind": "digits", "sites": 2}, "model": {"kind": "resnet9", "width": 4, "groups": 2}}
    images["federation"] = {"kind": "fed-bn", "rounds": 1}
    assert "the entry has" in law(plan_of, "power-sgd", **images)
    plan_of("top-k", **images)


def test_law_1_the_residual_is_of_the_clipped_update(plan_of):
    """At the first round, sent + residual is the delta after the bound, of length 0.05, and not before it."""
    plan = plan_of({"kind": "norm-bound", "bound": 0.05}, {"kind": "top-k", "share": 0.2})
    carried, state = ready(plan)
    cohort, inbox = carried.open(state)
    message, after = carried.site_half.site("round", cohort[0], inbox, SiteState())
    codec = carried.half.defences[1]
    read = codec.enforce(message, carried.half.algorithm.expects(state.server)).payload["delta"]
    whole = read + after.defences["top-k"]["delta.residual"]
    assert float(whole.norm()) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_compressing_a_noised_update_costs_no_privacy(plan_of, kind):
    """The claims planned, and the charges made, are those of the same arm without the codec."""
    with_it, without = plan_of(DP, kind), plan_of(DP)
    claims = [planned_claims(p.spec, p.arms[1], p.materials.consortium(0)) for p in (with_it, without)]
    assert claims[0] == claims[1] and claims[0]
    ledgers = [{site: s.ledger for site, s in rounds(p, 2).states.items()} for p in (with_it, without)]
    assert ledgers[0] == ledgers[1] and all(ledgers[0].values())
    other = plan_of({**DP, "noise-multiplier": 2.0}, kind)
    assert planned_claims(other.spec, other.arms[1], other.materials.consortium(0)) != claims[1]


# --- corrupted sites ------------------------------------------------------------------------------------------------

FLIP = {"kind": "label-flip", "sites": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_colluder_obeys_no_defence_but_speaks_the_codecs_language(plan_of, kind):
    """Its update is not clipped, is encoded, is accepted, and arrives; raw it would be refused by name."""
    plan = plan_of(kind, corruption=FLIP)
    bad = plan.spec.corruptions[0]
    ran = rounds(plan, 2, bad=bad)
    (name,) = colluders(bad, plan.materials.consortium(0).sites, 0)
    assert ran.state.refused == {}
    assert name not in {site for site, s in ran.states.items() if s.defences}
    plain = rounds(plan, 2)
    assert not torch.equal(plain.state.server.params, ran.state.server.params)
    cohort, inbox = ran.exchange.open(ran.state)
    outboxes = {site: ran.exchange.site_half.site("round", site, inbox, ran.states[site])[0] for site in cohort}
    assert set(outboxes[name].payload) == {"delta", "buffers"}
    after, _ = ran.exchange.inner.server("round", outboxes, ran.state)
    assert set(after.refused) == {name} and f"not encoded by {kind}" in after.refused[name]


@dataclass(frozen=True)
class Pusher(Corruption):
    """Sends the same long vector again and again."""

    threat = ThreatModel("site", "training", "white-box", "poisoning")
    sites: int = 1
    wrong: bool = False

    def forge(self, memory, updates, view):
        size = 3 if self.wrong else len(view.params)
        pushed = [replace(u, payload={**u.payload, "delta": torch.linspace(1, 2, size)}) for u in updates]
        return pushed, {"told": torch.ones(1)}


def forged(plan, count, **knobs):
    """The state after rounds in which the first site of the tiny study is the pusher's."""
    inner, begin = ready(plan)
    name = inner.half.roster[0]
    inner.sites[name] = replace(inner.sites[name], defences=())
    return carry(Corrupted(inner, Pusher(**knobs), [name]), begin, count).state, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_update_arrives_and_its_residual_is_the_adversarys_own(plan_of, kind, tmp_path):
    state, name = forged(plan_of(kind), 2)
    assert state.refused == {}
    assert float(state.server.params.norm()) > 1  # an honest round of this study moves far less
    own = {key for key in state.adversary if key != "told"}
    assert all(key.startswith(f"codec:{name}:{kind}:") for key in own)
    assert bool(own) == (kind in ("top-k", "sign-sgd", "power-sgd"))
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state, SiteStates())
    again, _ = load_checkpoint(path)
    assert again.adversary.keys() == state.adversary.keys()


def test_a_forged_update_that_no_codec_can_say_is_refused_and_the_round_goes_on(plan_of):
    for kind in KINDS:
        state, name = forged(plan_of(kind), 1, wrong=True)
        assert set(state.refused) == {name}, kind


# --- resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["top-k", "power-sgd"])
def test_error_feedback_survives_a_kill(tables, tmp_path, kind):
    """A study that is stopped after its second round ends with the bits of one that was not."""
    given = {**tables, "vary": {"a": [kind]}, "attacks": [], "corruptions": []}
    folders = [tmp_path / "whole", tmp_path / "cut"]
    Study.of(given).run(folders[0], quiet=True)
    whole = _checkpoint(folders[0])
    assert any("defences/" in key and "residual" in key for key in whole), sorted(whole)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, 2)
        Study.of(given).run(folders[1], quiet=True, executor="serial")
    assert any(bool(t.any()) for key, t in _checkpoint(folders[1]).items() if "residual" in key)
    assert Study.of(given).run(folders[1], quiet=True).outcome.resumed == 1
    cut = _checkpoint(folders[1])
    assert cut.keys() == whole.keys()
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


def _stop_after(patch, count):
    kept = training.save_checkpoint

    def stopping(path, state, held):
        kept(path, state, held)
        if state.server.round == count and any(state.defences for state in held.values()):  # the arm with the codec
            raise KeyboardInterrupt

    patch.setattr(training, "save_checkpoint", stopping)


def _checkpoint(folder):
    """The tensors of the training that has a codec."""
    homes = [path.parent for path in folder.glob("*/trainings/*/training.json") if '"feedback"' in path.read_text()]
    assert len(homes) == 1
    return load_file(homes[0] / "checkpoint.safetensors")
