"""One update breaks no model: what cannot be trained on is no state; its sender is named, or the round is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from consilium.core.algorithm import Server
from consilium.core.errors import Failed
from consilium.core.network import Network
from consilium.core.records import Records
from consilium.defend.update.norm_bound import NormBound
from consilium.defend.update.top_k import TopK
from consilium.federate.algorithms.fed_nova import FedNova
from consilium.federate.algorithms.scaffold import Scaffold
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.round import FederatedRound, RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.round.soundness import public_loss, suspects, unsound
from consilium.learn.tasks.single_label import SingleLabel


def begun(exchange: FederatedRound, network: Network) -> RoundState:
    return RoundState(exchange.half.algorithm.start(network, 3))


def updates(exchange: FederatedRound, network: Network):
    inbox = exchange.half.algorithm.broadcast(begun(exchange, network).server)
    return {name: person.work(inbox, SiteState())[0] for name, person in exchange.sites.items()}


def holding(update, **tensors):
    return replace(update, payload={**update.payload, **tensors})


def without(exchange, sent, state, site="site-1"):
    return exchange.half.advance({name: u for name, u in sent.items() if name != site}, state)


def check_left_out(exchange, network, change, reason) -> None:
    """What site-1 sends instead is refused by name, and the model is that of the others, to the last bit."""
    sent, state = updates(exchange, network), begun(exchange, network)
    after = exchange.half.advance({**sent, "site-1": change(sent["site-1"])}, state)
    assert list(after.refused) == ["site-1"] and reason in after.refused["site-1"], after.refused
    assert after.aborted == ""
    wanted = without(exchange, sent, state).server
    assert torch.equal(after.server.params, wanted.params) and after.server.params.dtype == torch.float32
    assert all(torch.equal(after.server.memory[name], wanted.memory[name]) for name in wanted.memory)


@pytest.mark.parametrize("size", [3e38, -3e38, 1e19, 1e18, 1e9])
def test_one_finite_update_does_not_end_a_federation(federation, network, size) -> None:
    reason = "float32 has no square of that" if abs(size) > 1e18 else "breaks the merged model"
    check_left_out(federation(), network, lambda u: holding(u, delta=torch.full_like(u.payload["delta"], size)), reason)


def test_one_coordinate_is_enough_to_be_told(federation, network) -> None:
    def one(update):
        delta = update.payload["delta"].clone()
        delta[3] = 1e15
        return holding(update, delta=delta)

    check_left_out(federation(), network, one, "breaks the merged model")


def test_a_control_variate_can_break_a_state_too(federation, network) -> None:
    exchange = federation(algorithm=Scaffold(lr=0.1), defences=[NormBound(bound=0.5)])
    check_left_out(
        exchange, network, lambda u: holding(u, control=torch.full_like(u.payload["control"], 1e16)), "its control are"
    )


def test_a_merge_that_counts_steps_is_told_no_more_than_were_planned(federation, network) -> None:
    """FedNova multiplies everybody's changes by the steps that the sites count."""
    exchange = federation(algorithm=FedNova(lr=0.1, momentum=0.9))
    planned = {site: person.schedule.most_steps(len(person.train)) for site, person in exchange.sites.items()}
    exchange = exchange.served(replace(exchange.half, steps=planned))
    assert not exchange.half.advance(updates(exchange, network), begun(exchange, network)).refused
    for said in (1e12, -1.0, 10 * planned["site-1"]):
        check_left_out(
            exchange, network, lambda u, n=said: holding(u, steps=torch.tensor([float(n)])), "effective steps"
        )


@pytest.mark.parametrize("weight", [1e12, 0.0, 34.0])
def test_a_weight_that_the_server_did_not_give_is_refused(federation, network, weight) -> None:
    exchange = federation()
    weights = {site: person.weight for site, person in exchange.sites.items()}
    exchange = exchange.served(replace(exchange.half, weights=weights))
    check_left_out(exchange, network, lambda u: replace(u, weight=weight), "and the server gives it 33")


def test_a_cap_bounds_what_one_site_moves(federation, network) -> None:
    plain, capped = federation(), federation()
    capped = capped.served(replace(capped.half, max_share=0.4))
    sent = updates(plain, network)
    one = {**sent, "site-1": replace(sent["site-1"], weight=1e12)}
    owned = plain.half.advance(one, begun(plain, network))
    assert owned.shares["site-1"] > 0.999, "without a cap it owns the model"
    after = capped.half.advance(one, begun(capped, network))
    assert after.shares == pytest.approx({"site-0": 0.4, "site-1": 0.4, "site-2": 0.2})
    few = capped.half.advance({"site-0": sent["site-0"], "site-1": sent["site-1"]}, begun(capped, network))
    assert few.aborted == "2 of 3 updates", "two sites cannot have 0.4 at most each"


TYPES = [torch.int64, torch.int32, torch.bool, torch.float64, torch.float16, torch.bfloat16, torch.uint8]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("defences", [(), (NormBound(bound=1.0),)], ids=["plain", "norm-bound"])
def test_another_type_is_refused_by_name(federation, network, dtype, defences) -> None:
    name = str(dtype).removeprefix("torch.")
    check_left_out(
        federation(defences=defences),
        network,
        lambda u: holding(u, delta=u.payload["delta"].to(dtype)),
        f"delta is of {name}, not of float32",
    )


def test_behind_a_codec_too(federation, network) -> None:
    exchange = federation(defences=[TopK(share=0.5)])
    check_left_out(exchange, network, lambda u: holding(u, buffers=u.payload["buffers"].double()), "of float64")


def test_the_first_site_does_not_set_the_type_of_the_merge(federation, network) -> None:
    exchange = federation()
    sent = updates(exchange, network)
    half = {name: t.half() for name, t in sent["site-0"].payload.items()}
    state = begun(exchange, network)
    after = exchange.half.advance({**sent, "site-0": replace(sent["site-0"], payload=half)}, state)
    assert torch.equal(after.server.params, without(exchange, sent, state, "site-0").server.params)


def test_zero_of_either_sign_and_the_smallest_numbers_are_numbers(federation, network) -> None:
    exchange = federation()
    sent, state = updates(exchange, network), begun(exchange, network)
    for value in (-0.0, 1e-45, -1e-40):
        small = holding(sent["site-1"], delta=torch.full_like(sent["site-1"].payload["delta"], value))
        assert not exchange.half.advance({**sent, "site-1": small}, state).refused


def loud(update, size=1e12):
    return holding(update, delta=torch.full_like(update.payload["delta"], size))


def test_where_nobody_stands_out_the_round_is_refused_and_the_last_good_state_stays(federation, network) -> None:
    exchange = federation()
    state = begun(exchange, network)
    good = state.server.params
    for number in (1, 2):
        sent = {name: replace(loud(u), round=number) for name, u in updates(exchange, network).items()}
        state = exchange.half.advance(sent, state)
        assert "the merged model is broken" in state.aborted and state.broken == number
        assert torch.equal(state.server.params, good) and state.server.round == number
    sent = {name: replace(loud(u), round=3) for name, u in updates(exchange, network).items()}
    with pytest.raises(Failed, match=r"round 3: the merged model is broken.*no single update is responsible"):
        exchange.half.advance(sent, state)


def test_a_good_round_ends_the_count(federation, network) -> None:
    exchange = federation()
    state = exchange.half.advance({n: loud(u) for n, u in updates(exchange, network).items()}, begun(exchange, network))
    sent = {name: replace(u, round=2) for name, u in updates(exchange, network).items()}
    after = exchange.half.advance(sent, state)
    assert (state.broken, after.broken, after.aborted) == (1, 0, "")


def test_what_an_engine_turned_away_is_divergence_too(federation, network) -> None:
    exchange = federation()
    state = exchange.reject(begun(exchange, network), {"site-0": "the update is not finite", "site-2": "not finite"})
    _, noted = exchange.half.arrivals({}, state)
    with pytest.raises(Failed, match=r"no update of round 1 could be used \(site-0: the update is not finite"):
        exchange.half.advance({}, noted)
    one = exchange.half.arrivals({}, exchange.reject(begun(exchange, network), {"site-0": "not finite"}))[1]
    assert exchange.half.advance({}, one).aborted == "0 of 1 updates", "one site may be at fault"


def test_suspects_are_few_and_the_longest_first(federation, network) -> None:
    sent = updates(federation(), network)
    assert suspects(list(sent.values())) == []
    assert suspects([sent["site-0"], loud(sent["site-1"]), sent["site-2"]]) == ["site-1"]
    assert suspects([sent["site-0"], loud(sent["site-1"]), loud(sent["site-2"])]) == []
    assert suspects([loud(sent["site-0"])]) == []


def test_a_model_whose_loss_on_public_records_is_no_number_is_refused(network) -> None:
    public = Records.of(torch.rand(20, 6), torch.randint(0, 2, (20,)))
    params, buffers = network.start()
    before = Server(0, params, buffers)
    loss = public_loss(network, public, SingleLabel())
    assert loss is not None and unsound(before, replace(before, params=params * 2), loss) is None
    worse = replace(before, params=params * 1e5)
    assert unsound(before, worse) is None, "the bound of length is wider"
    assert "its loss on public records is" in (unsound(before, worse, loss) or "")
    assert public_loss(network, public.select(torch.zeros(20, dtype=torch.bool)), SingleLabel()) is None


def test_judging_on_public_records_draws_nothing(network) -> None:
    public = Records.of(torch.rand(20, 6), torch.randint(0, 2, (20,)))
    loss, before = public_loss(network, public, SingleLabel()), torch.random.get_rng_state()
    assert loss is not None
    loss(*network.start())
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_simulation_of_the_attack_ends_as_one_without_the_attacker(federation, network) -> None:
    """Ten rounds, the attacker from the fifth on: the same code as in a deployment."""

    class Attacked(LocalRounds):
        def site(self, phase, site, inbox, state):
            update, after = super().site(phase, site, inbox, state)
            return (loud(update, 3e38) if site == "site-2" and inbox.round >= 5 else update), after

    exchange = federation()
    attacked = FederatedRound(exchange.half, Attacked(exchange.sites))
    state, held = begun(exchange, network), {}
    for number in range(1, 11):
        state = run_exchange(Loop(), attacked, state, held, SiteState, f"round {number}")
        assert list(state.refused) == (["site-2"] if number >= 5 else [])
        assert state.aborted == "" and bool(state.server.params.isfinite().all())
    assert float(state.server.params.norm()) < 100
