"""From a plan's words to the objects that run: consortium, network, rule, participants, server half, exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from consilium.core.algorithm import Algorithm, Server
from consilium.core.attack import Corruption
from consilium.core.defence import UpdateDefence
from consilium.core.errors import Refused
from consilium.core.gradient import GradientRule, Objective, Schedule
from consilium.core.keystream import Secret
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site
from consilium.core.task import Task
from consilium.core.workspace import Compute
from consilium.data.division.canaries import plant
from consilium.data.division.sites import gather
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant
from consilium.federate.client.root_training import RootTraining
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.merge_chain import chained
from consilium.federate.round.round import FederatedRound, RoundExchange, RoundState, ServerHalf
from consilium.federate.round.soundness import public_loss
from consilium.federate.round.weights import Weighing, site_weights
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.study.spec.arms import Arm, arms
from consilium.study.spec.data_table import DataSpec
from consilium.study.spec.federation_table import FederationSpec
from consilium.study.spec.spec import CanarySpec, CorruptionSpec, Spec, TrainingSpec
from consilium.study.store.error_summary import error_summary

from .adapted import check_adapted
from .gradient_check import check_gradients
from .model_start import ModelStart, model_start
from .probe import probed
from .reached import check_in_place

__all__ = [
    "algorithm",
    "assessing",
    "colluders",
    "consortium",
    "divided",
    "enrolled",
    "ever_corrupted",
    "exchange",
    "gradient_rule",
    "network",
    "outputs",
    "participants",
    "released",
    "schedule",
    "start",
    "started",
    "weighing",
    "weights",
]


def consortium(spec: Spec, seed: int) -> Consortium:
    """The study's data for one seed: the split, the partition, the pools and an audit's canaries are drawn from it."""
    return divided(spec.data, spec.canaries, seed)


def divided(data: DataSpec, canaries: CanarySpec | None, seed: int) -> Consortium:
    """The same of the tables ``[data]`` and ``[audit]`` alone.

    Raises Refused: data that cannot be used or divided so, by its place in the study.
    """
    try:
        whole = gather(data.source, data.partition, data.task, **vars(data.shares), stream=Stream(seed).child("data"))
    except Refused as error:
        raise error.at("data", ": " if _names_file(error.where, data) else ".") from error
    return whole if canaries is None else _planted(whole, canaries, Stream(seed).child("canaries"))


def _names_file(where: str, data: DataSpec) -> bool:
    """Whether a place in the data is a file's, and not one of ``[data]``."""
    path = getattr(data.source, "path", None)
    return bool(path) and any(where.startswith(name) for name in (str(path), Path(str(path)).name))


def _planted(data: Consortium, wanted: CanarySpec, stream: Stream) -> Consortium:
    try:
        return plant(data, canaries=wanted.canaries, kind=wanted.kind, site=wanted.site, stream=stream)
    except Refused as error:
        raise error.at("audit") from error


def network(spec: TrainingSpec, consortium: Consortium, seed: int, tried: bool = False) -> Network:
    """The model before training, on the study's device; probed before all else, unless one like it was ``tried``.

    What is probed has no low-rank additions yet: they are added to a model, and checked against plain weights.
    """
    shape, start = spec.federation.shape, started(spec, consortium, seed)
    module = start.module
    compute, classes = Compute(shape.precision, shape.layout), len(consortium.classes)
    if tried:
        net = Network(module, compute, consortium.inputs.tokens)
    else:
        again = partial(_module, spec, consortium, seed)
        net = probed(
            module,
            consortium.shape,
            classes,
            compute,
            task=consortium.task,
            trained=True,
            followed=_follows_inputs(spec) and not consortium.inputs.tokens,  # refused by name where it is tokens
            again=again,
            tokens=consortium.inputs.tokens,
        )
    adapted = start.adapted(Stream(seed).child("low-rank"))
    if adapted is not None:
        net = Network(adapted, compute, consortium.inputs.tokens)
        if not tried:
            check_adapted(net, consortium.shape)
    if not tried and any(map(_is_private, arms(spec))):
        check_gradients(net, consortium)
    check_in_place(net, consortium.shape, [attack.attack.threat.aim for attack in spec.attacks])
    for candidate in _algorithms(spec):
        candidate.bound(net)  # one that needs layers which this model has not refuses it here
        shape.average().refuse(candidate)
        shape.rate().at(candidate, 1)
    return net


def _follows_inputs(spec: TrainingSpec) -> bool:
    """Whether somebody makes adversarial examples in training."""
    defences = any(defence.follows_inputs for arm in arms(spec) for defence in arm.training)
    return defences or any(infection.corruption.follows_inputs for infection in spec.corruptions)


def _is_private(arm: Arm) -> bool:
    """Whether the arm's gradient rule makes a claim; an unlawful arm has none, and is refused by its law."""
    try:
        return gradient_rule(arm).delta is not None
    except Refused:
        return False


def _algorithms(spec: TrainingSpec) -> list[Algorithm]:
    """The study's own and those of its axis."""
    varied = [c.algorithm for choices in spec.vary.values() for c in choices if c.algorithm is not None]
    return [spec.federation.algorithm, *varied]


def started(spec: TrainingSpec, consortium: Consortium, seed: int) -> ModelStart:
    """What a training of ``spec`` begins with, on the study's device.

    Raises Refused: it cannot be built or moved, or the weights that it starts from do not fit.
    """
    draws, tokens = Stream(seed).child("init"), consortium.inputs.tokens
    start = model_start(spec.start, consortium.shape, outputs(consortium), draws, tokens)
    try:
        return replace(start, module=start.module.to(spec.device))
    except BaseException as error:  # memory may not suffice, and layers may have places of their own
        reason = f"the model cannot be moved to {spec.device}: {error_summary(error)}"
        raise Refused(reason, remedy="name no device in its code", where="model") from error


def _module(spec: TrainingSpec, consortium: Consortium, seed: int) -> nn.Module:
    return started(spec, consortium, seed).module


def outputs(consortium: Consortium) -> int:
    """How many numbers a model answers, of each pixel where the task is masks."""
    return consortium.task.answer_shape(len(consortium.classes), consortium.shape)[0]


def gradient_rule(arm: Arm) -> GradientRule:
    """The mean, as the arm's training defences change it."""
    rule: GradientRule = MeanGradient()
    return reduce(lambda inner, defence: defence.rule(inner), arm.training, rule)


def schedule(federation: FederationSpec, rule: GradientRule) -> Schedule:
    """The local work really done: as asked, as the algorithm wants it, as the rule allows it."""
    return rule.schedule(federation.algorithm.schedule(federation.shape.schedule()))


def colluders(corruption: CorruptionSpec | None, sites: tuple[Site, ...], seed: int) -> tuple[str, ...]:
    """The ids of the corrupted sites, drawn by the seed."""
    if corruption is None:
        return ()
    order = torch.randperm(len(sites), generator=Stream(seed).child("colluders").generator()).tolist()
    return tuple(sites[i].id for i in sorted(order[: corruption.count(len(sites))]))


def ever_corrupted(spec: Spec, sites: tuple[Site, ...], seed: int) -> frozenset[str]:
    """The sites that are corrupted in some infection of the study: twins are compared without them (LAWS 22)."""
    return frozenset(site for infection in spec.corruptions for site in colluders(infection, sites, seed))


def exchange(
    spec: TrainingSpec,
    arm: Arm,
    seed: int,
    corruption: CorruptionSpec | None,
    data: Consortium,
    net: Network,
    stream: Stream | None = None,
) -> RoundExchange:
    """Server half and participants of one training; ``stream`` draws for them where it is not the seed's own."""
    stream = stream or Stream(seed).child("train")
    federation = arm.federation(spec)
    bad = colluders(corruption, data.sites, seed)
    half = ServerHalf(
        tuple(site.id for site in data.sites),
        federation.shape.fraction,
        algorithm(spec, arm, net),
        chained(arm.merge, federation.cohort(len(data.sites)), stream.child("merge")),
        _update_defences(arm, net),
        len(data.classes),
        data.task,
        stream,
        federation.shape.participation,
        federation.shape.rate(),
        federation.shape.average(),
        weights(federation, data.sites),
        federation.shape.max_share,
        _most_steps(federation, arm, data.sites),
        None if federation.algorithm.personal else public_loss(net, data.public, data.task),
        _root(spec, arm, data, net, stream),
    )
    people = participants(spec, arm, seed, corruption, data, net, stream=stream)
    if corruption is None or not corruption.rounds:
        whole = FederatedRound(half, LocalRounds(people, federation.shape.compile))
    else:
        honest = participants(spec, arm, seed, None, data, net, stream=stream)
        corrupted = {site: people[site] for site in bad}
        acting = dict.fromkeys(corruption.rounds, corrupted)
        whole = FederatedRound(half, LocalRounds(honest, federation.shape.compile, acting))
    return whole if corruption is None else Corrupted(whole, corruption.corruption, bad, corruption.rounds)


def enrolled(
    spec: TrainingSpec, arm: Arm, whole: RoundExchange, records: Mapping[str, int], units: Mapping[str, int]
) -> RoundExchange:
    """``whole`` for sites that declared so many training ``records`` of so many ``units``: weights and steps follow."""
    federation = arm.federation(spec)
    inner = whole.honest
    counts = units if gradient_rule(arm).unit == "patient" else records
    half = replace(
        inner.half,
        weights=site_weights(records, weighing(federation)),
        steps={site: _steps(federation, arm, records[site], counts[site]) for site in records},
    )
    return inner.served(half)


def participants(
    spec: TrainingSpec,
    arm: Arm,
    seed: int,
    corruption: CorruptionSpec | None,
    data: Consortium,
    net: Network,
    key: Secret | None = None,
    stream: Stream | None = None,
) -> dict[str, Participant]:
    """Every site, ready to train; the colluding ones in the adversary's hands.  With ``key`` their noise is secret."""
    federation = arm.federation(spec)
    bad = {} if corruption is None else corruption.by_site(colluders(corruption, data.sites, seed))
    stream = stream or Stream(seed).child("train")
    like = _like(spec, arm, data.sites[0], net, stream if key is None else stream.secretly(key))
    weighed = weights(federation, data.sites)
    return {
        site.id: replace(
            _participant(federation, arm, site, data, like, bad.get(site.id)),
            weight=weighed[site.id],
        )
        for site in data.sites
    }


def assessing(whole: RoundExchange) -> Assessing:
    """The exchange in which every site judges the model on its own held-out records."""
    inner = whole.honest
    return Assessing(inner.half.algorithm, inner.sites, inner.half.task, inner.half.average)


def algorithm(spec: TrainingSpec, arm: Arm, net: Network) -> Algorithm:
    """The arm's algorithm, made to measure for the network."""
    return arm.federation(spec).algorithm.bound(net)


def released(spec: TrainingSpec, arm: Arm, net: Network, server: Server) -> tuple[Tensor, Tensor] | None:
    """Parameters ``(d,)`` and buffers ``(b,)`` that a training ending in ``server`` gives to everyone, if it does."""
    average = spec.federation.shape.average()
    return algorithm(spec, arm, net).model_for(average.released(server), None)


def start(spec: TrainingSpec, arm: Arm, data: Consortium, net: Network) -> RoundState:
    """The state before the first round."""
    average = spec.federation.shape.average()
    return RoundState(average.begun(algorithm(spec, arm, net).start(net, len(data.sites))))


def _like(spec: TrainingSpec, arm: Arm, site: Site, net: Network, stream: Stream) -> Participant:
    """What all participants have in common, made once: thousands of sites share it."""
    federation, rule = arm.federation(spec), gradient_rule(arm)
    return Participant(
        site=site,
        train=site.records.train,
        weight=1.0,
        network=net,
        algorithm=algorithm(spec, arm, net),
        objective=_objective(arm, spec.data.task),
        rule=rule,
        schedule=schedule(federation, rule),
        defences=_update_defences(arm, net),
        stream=stream,
        participation=federation.shape.participation,
        rate=federation.shape.rate(),
    )


def _objective(arm: Arm, task: Task) -> Objective:
    objective: Objective = TaskLoss(task)
    for defence in arm.training:
        objective = defence.objective(objective)
    return objective


def _participant(
    federation: FederationSpec, arm: Arm, site: Site, data: Consortium, like: Participant, bad: Corruption | None
) -> Participant:
    if bad is None:
        train, participant = _honest(arm, site, data, like.stream), like
    else:
        train, participant = _corrupt(bad, site, data, like)
        work = bad.schedule(schedule(federation, participant.rule))
        method = bad.algorithm(participant.algorithm)
        participant = replace(participant, schedule=work, algorithm=method)
    pools = Pools(train, site.records.validation, site.records.non_members)
    return replace(participant, site=replace(site, records=pools), train=train)


def _honest(arm: Arm, site: Site, data: Consortium, stream: Stream) -> Records:
    records = site.records.train
    for defence in () if data.declared else arm.data:  # records that are elsewhere are changed there
        records = defence.protect(records, len(data.classes), stream.child(defence.kind(), site.id))
    return records


def _corrupt(bad: Corruption, site: Site, data: Consortium, like: Participant) -> tuple[Records, Participant]:
    """A corrupted site obeys no site half of any defence (LAWS 4)."""
    draws = like.stream.child(bad.kind(), site.id)
    records = bad.records(site.records.train, len(data.classes), draws)
    objective = bad.objective(TaskLoss(data.task))
    return records, replace(like, objective=objective, rule=MeanGradient(), defences=())


def weighing(federation: FederationSpec) -> Weighing:
    """What a site's weight is: as the study says, else as the algorithm's paper does."""
    scheme = federation.shape.weights
    return federation.algorithm.weights if scheme == "algorithm" else scheme


def weights(federation: FederationSpec, sites: Sequence[Site]) -> dict[str, float]:
    """What each site counts in the merge, before any cap: of a deployment too, by what was enrolled."""
    return site_weights({site.id: len(site.records.train) for site in sites}, weighing(federation))


def _most_steps(federation: FederationSpec, arm: Arm, sites: Sequence[Site]) -> dict[str, int]:
    rule = gradient_rule(arm)
    pools = {site.id: site.records.train for site in sites}
    return {site: _steps(federation, arm, len(pool), rule.count(pool)) for site, pool in pools.items()}


def _steps(federation: FederationSpec, arm: Arm, records: int, units: int) -> int:
    """The most local steps that a site does in a round: a corrupted one obeys no rule but the mean."""
    private, plain = schedule(federation, gradient_rule(arm)), schedule(federation, MeanGradient())
    return max(private.most_steps(units), plain.most_steps(records))


def _update_defences(arm: Arm, net: Network) -> tuple[UpdateDefence, ...]:
    return tuple(defence.made_for(net) for defence in arm.update)


def _root(spec: TrainingSpec, arm: Arm, data: Consortium, net: Network, stream: Stream) -> RootTraining | None:
    """Undefended work on the public slice, for a rule that reads it."""
    if not any(defence.fits_public() for defence in arm.merge):
        return None
    like, rule = _like(spec, arm, data.sites[0], net, stream), MeanGradient()
    work = schedule(arm.federation(spec), rule)
    return RootTraining.of(replace(like, rule=rule, schedule=work, objective=TaskLoss(data.task)), data.public)
