"""Learning rates over the rounds, and the average of the server's models, against their closed forms."""

import math
from dataclasses import replace

import pytest
import torch

from consilium.core.algorithm import Server
from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.update import Update
from consilium.federate.algorithms.ditto import Ditto
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_avg_m import FedAvgM
from consilium.federate.checkpoint import load_checkpoint, save_checkpoint
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.lr_schedule import LRSchedule
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.federated_evaluation import Assessing, AssessState
from consilium.federate.round.model_ema import ModelEMA
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.spec.federation_table import FederationShape

# --- rate ---------------------------------------------------------------------------------------------------------


def factors(rate):
    return [rate.factor(r) for r in range(1, rate.rounds + 1)]


def test_shapes_over_the_rounds():
    assert factors(LRSchedule("constant", 0, 3)) == [1, 1, 1]
    assert factors(LRSchedule("constant", 2, 4)) == [0.5, 1, 1, 1]
    assert factors(LRSchedule("linear", 0, 4)) == [1, 0.75, 0.5, 0.25]
    expected = [0.5, 1.0, *((1 + math.cos(math.pi * k / 4)) / 2 for k in range(4))]
    assert factors(LRSchedule("cosine", 2, 6)) == pytest.approx(expected)
    assert LRSchedule("constant", 0, 9).flat
    assert not LRSchedule("constant", 1, 9).flat


def test_it_changes_lr_alone_and_wants_one():
    asked = FedAvg(lr=0.4, momentum=0.9)
    assert LRSchedule("linear", 0, 4).at(asked, 3) == replace(asked, lr=0.2)
    assert LRSchedule().at(asked, 1) is asked

    class Bare(FedAvg):
        pass

    object.__setattr__(bare := Bare(), "__dataclass_fields__", {})
    with pytest.raises(Refused, match="no lr"):
        LRSchedule("cosine", 0, 4).at(bare, 1)


@pytest.mark.parametrize("engine", [Loop, None])
def test_a_round_is_trained_at_its_rate(federation, engine):
    """Round 2 of a warm-up over four: as with half the rate, at the site and in a stack."""
    warm, half = LRSchedule("constant", 4, 8), FedAvg(lr=0.05, momentum=0.9)
    whole, other = federation(rate=warm), federation(algorithm=half)
    broadcast = replace(
        whole.open(RoundState(whole.half.algorithm.start(whole.sites["site-0"].network, 3)))[1], round=2
    )
    for site in whole.sites:
        if engine is None:
            sent = [
                e.site_half.together("train", [site], broadcast, {site: SiteState()})[0][site] for e in (whole, other)
            ]
        else:
            sent = [e.sites[site].work(broadcast, SiteState())[0] for e in (whole, other)]
        assert torch.equal(sent[0].payload["delta"], sent[1].payload["delta"])
        assert float(sent[0].payload["delta"].norm()) > 0


def test_compile_with_a_schedule_is_refused():
    with pytest.raises(Refused, match="every round"):
        FederationShape(compile=True, engine="stacked", lr_schedule="cosine")
    with pytest.raises(Refused, match="0 to 2 rounds, fewer than there are"):
        FederationShape(rounds=3, warm_up=3)
    with pytest.raises(Refused, match="a decay above 0 and below 1"):
        FederationShape(ema=1.0)


# --- average ------------------------------------------------------------------------------------------------------


def closed_form(models, decay):
    t = len(models)
    return sum((1 - decay) * decay ** (t - i) * w for i, w in enumerate(models, 1)) / (1 - decay**t)


def averaged(models, decay):
    made = ModelEMA(decay)
    server = made.begun(Server(0, torch.full((3,), 50.0), torch.zeros(1)))
    for w in models:
        server = made.after(server, Server(server.round + 1, w, w[:1]))  # an algorithm may forget what it does not know
    return server


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_it_is_the_debiased_sum_whatever_the_start(decay):
    models = [torch.rand(3, generator=torch.Generator().manual_seed(i)) for i in range(7)]
    server = averaged(models, decay)
    shown = ModelEMA(decay).released(server)
    torch.testing.assert_close(shown.params, closed_form(models, decay))
    torch.testing.assert_close(shown.buffers, closed_form(models, decay)[:1])
    assert torch.equal(server.params, models[-1])
    assert not torch.allclose(shown.params, closed_form([torch.full((3,), 50.0), *models], decay))


def test_without_decay_nothing_is_kept():
    server = averaged([torch.ones(3)], 0.0)
    assert server.memory == {}
    assert ModelEMA().released(server) is server


def test_a_federation_keeps_it_beside_the_algorithm_s_own_memory(federation):
    whole = federation(algorithm=FedAvgM(lr=0.1))
    whole.half = replace(whole.half, average=ModelEMA(0.5))
    begun = ModelEMA(0.5).begun(whole.half.algorithm.start(whole.sites["site-0"].network, 3))
    state, held, models = RoundState(begun), {}, []
    for number in range(1, 4):
        state = run_exchange(Loop(), whole, state, held, SiteState, f"round {number}")
        models.append(state.server.params)
    assert "velocity" in state.server.memory
    judged = Assessing(whole.half.algorithm, whole.sites, SingleLabel(), whole.half.average).open(
        AssessState(state.server, ("site-0",))
    )
    torch.testing.assert_close(judged[1].params, closed_form(models, 0.5))
    assert judged[1].memory == {}
    plain = Assessing(whole.half.algorithm, whole.sites, SingleLabel()).open(AssessState(state.server, ("site-0",)))[1]
    assert torch.equal(plain.params, models[-1])


def test_an_aborted_round_leaves_the_average(federation):
    whole = federation()
    half = replace(whole.half, average=ModelEMA(0.5), participation=replace(whole.half.participation, minimum_cohort=2))
    begun = RoundState(half.average.begun(half.algorithm.start(whole.sites["site-0"].network, 3)))
    size = begun.server.params.shape
    sent = {
        s: Update(s, 1, 1.0, {"delta": torch.ones(size), "buffers": torch.zeros(begun.server.buffers.shape)})
        for s in whole.sites
    }
    after = half.advance(sent, begun)
    aborted = half.advance({}, replace(after, cohort=()))
    assert aborted.aborted
    assert torch.equal(aborted.server.memory["average"], after.server.memory["average"])
    again = half.advance({s: replace(u, round=3) for s, u in sent.items()}, aborted).server
    models = [begun.server.params + 1, begun.server.params + 2]
    torch.testing.assert_close(half.average.released(again).params, closed_form(models, 0.5))


def test_an_average_that_was_lost_is_not_replaced_by_the_last_model():
    with pytest.raises(Failed, match="not in the server's memory"):
        ModelEMA(0.5).released(Server(3, torch.ones(2), torch.zeros(0)))


def test_it_survives_a_checkpoint(federation, tmp_path):
    """A name that the file does not give back would release the last model in silence."""
    server = averaged([torch.rand(3), torch.rand(3)], 0.5)
    save_checkpoint(tmp_path / "c.safetensors", RoundState(server), SiteStates(None))
    back, _ = load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(ModelEMA(0.5).released(back.server).params, ModelEMA(0.5).released(server).params)


def test_a_personal_algorithm_is_refused():
    with pytest.raises(Unlawful, match="model for each site"):
        ModelEMA(0.5).refuse(Ditto())
    ModelEMA(0.0).refuse(Ditto())
