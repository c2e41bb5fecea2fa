"""LAWS: what may be combined, checked before anything trains.

Each law is a small pure function from an arm to a refusal, or nothing; a refusal has the law's number, the reason and
the remedy.  The laws that need numbers (7, 13) see the sites' sizes; nobody needs a trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from consilium.core.defence import Defence, MergeDefence, ModelDefence, UpdateDefence
from consilium.core.errors import Refused
from consilium.core.gradient import GradientRule
from consilium.core.inputs import random_inputs
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.rounding import round_down, round_up
from consilium.core.update import Update
from consilium.learn.alike import FEW_SIZES, departure
from consilium.measure.accounting.noise_calibration import enough_noise
from consilium.measure.accounting.privacy import Claim
from consilium.study.build.factory import gradient_rule
from consilium.study.spec.federation_table import FederationSpec
from consilium.study.spec.placeholders import open_declarations
from consilium.study.store.error_summary import error_summary

from .case import Case, Refusal, TrainingCase
from .checks.detectors import check_detectors, may_follow
from .checks.merges import check_merges
from .checks.training_defences import check_training
from .privacy_claims import planned_claims

__all__ = [
    "LAWS",
    "MODEL_LAWS",
    "broken_law",
    "detects_records",
    "drawn_once",
    "fits_data",
    "fitted_on_public",
    "lawful_claims",
    "model_order",
    "one_merge",
    "per_example_gradients",
    "public_constants",
    "readable_updates",
    "real_kernels",
    "rules_compose",
    "site_level",
    "units_exist",
    "update_order",
]


_TRIED = 8
"""Records that a model defence is tried on before training."""
_ANSWERS: WeakKeyDictionary[Network, dict[tuple[object, ...], Refusal | None]] = WeakKeyDictionary()
_ORDER = ("clip", "noise", "compress", "mask")


AnyCase = TypeVar("AnyCase", bound=Case)


def broken_law(laws: Iterable[Callable[[AnyCase], Refusal | None]], case: AnyCase) -> Refusal | None:
    """The first of ``laws`` that the arm of ``case`` breaks; None if it is lawful."""
    return next((refusal for law in laws if (refusal := law(case)) is not None), None)


def one_merge(case: TrainingCase) -> Refusal | None:
    """There is one merge rule, it sees what it reads of enough sites, and may stand behind the steps before it."""
    if not case.arm.merge:
        return None
    try:
        check_merges(case.arm, case.spec.federation.cohort(len(case.data.sites)))
    except Refused as error:
        return Refusal.of(error, 1, "keep one of them in a choice")
    return None


def update_order(case: Case) -> Refusal | None:
    """Clip, noise, compress, mask: what stands earlier in an arm acts earlier, so a defence may stand there once."""
    again = _twice(case.arm.update)
    if again is not None:
        return Refusal(1, f"{again} stands twice on the update", "keep one of them")
    for i, first in enumerate(case.arm.update):
        for later in case.arm.update[i + 1 :]:
            one, two = first.kind(), later.kind()
            if _ORDER.index(first.stage) > _ORDER.index(later.stage):
                why = f"{two} ({later.stage}) stands after {one} ({first.stage}): it would not act on what is sent"
                return Refusal(1, why, f"put {two} before {one} in the study's axes")
            if first.stage == later.stage == "compress":
                return Refusal(
                    1, f"{one} and {two} both compress the update, which is written once", "keep one of them"
                )
    return None


def readable_updates(case: TrainingCase) -> Refusal | None:
    """What the algorithm sends must pass every half of every update defence: it is tried on an update of zeros."""
    if case.network is None or not case.arm.update:
        return None
    args = case.spec.federation, case.network, len(case.data.sites), case.arm.update, case.arm.merge
    return _once(case.network, args, lambda: _unreadable(*args))


def _unreadable(
    federation: FederationSpec,
    network: Network,
    sites: int,
    defences: tuple[UpdateDefence, ...],
    merges: tuple[MergeDefence, ...],
) -> Refusal | None:
    try:
        algorithm = federation.algorithm.bound(network)
        expected = dict(algorithm.expects(algorithm.start(network, sites)))
        update = Update("a site", 1, 1.0, {name: torch.zeros(shape) for name, shape in expected.items()})
        for merge in merges:
            expected |= merge.merge_for(federation.cohort(sites), Stream(0)).expects()
        chain = [defence.made_for(network) for defence in defences]
        for defence in chain:
            update, _ = defence.protect(update, {}, Stream(0))
        for defence in reversed(chain):
            update = defence.enforce(update, expected)
    except Refused as error:
        return Refusal(1, f"with {federation.algorithm.kind()}, {error.reason}", error.remedy or "use another codec")
    return None


def fits_data(case: Case) -> Refusal | None:
    """Each defence can act on inputs of this form, and does something with so many classes."""
    for defence in case.arm.defences:
        try:
            defence.check_task(case.data.task)
            defence.check_inputs(case.data.inputs)
            defence.check_fit(tuple(case.data.shape), len(case.data.classes))
        except Refused as error:
            return Refusal.of(error, 1, f"leave out {defence.kind()}")
    return None


def drawn_once(case: Case) -> Refusal | None:
    """A label is randomised once and stored: drawn twice, the second draw can undo the first."""
    again = _twice(case.arm.data)
    return None if again is None else Refusal(11, f"{again} stands twice on the data", "keep one of them")


def _twice(defences: Sequence[Defence]) -> str | None:
    kinds = [d.kind() for d in defences]
    return next((kind for kind in kinds if kinds.count(kind) > 1), None)


def rules_compose(case: TrainingCase) -> Refusal | None:
    """At most one rule turns records into a private gradient, and nothing beside it carries state from step to step."""
    try:
        check_training(case.arm.training, case.spec.federation.shape.rounds)
        gradient_rule(case.arm)
    except Refused as error:
        return Refusal.of(error, 5, "keep one of them")
    return None


def per_example_gradients(case: Case) -> Refusal | None:
    """What mixes the examples of a batch (BatchNorm) has no per-example gradient."""
    if case.network is None or not case.private:
        return None
    args = gradient_rule(case.arm), case.network, case.data.shape
    return _once(case.network, args, lambda: _mixing(*args))


def _mixing(rule: GradientRule, network: Network, shape: tuple[int, ...]) -> Refusal | None:
    try:
        rule.refuse(network, shape)
    except Refused as error:
        return Refusal.of(error, 5, "use another model")
    except BaseException as error:  # the model may be anyone's code
        return Refusal(5, f"gradients of single examples fail: {error_summary(error)}", "use another model")
    return None


def units_exist(case: Case) -> Refusal | None:
    """A claim per patient needs patients: where every record is its own unit, it would be one per example."""
    rule = gradient_rule(case.arm)
    pools = [site.records.train for site in case.data.sites]
    if rule.delta is None or rule.unit != "patient" or any(rule.count(records) < len(records) for records in pools):
        return None
    return Refusal(
        6,
        f"{case.data.name} names no patients: each record is its own unit, so a claim per patient would say no more "
        "than one per example",
        'use unit = "example", or data that say whose each record is (units, or a column patient)',
    )


def site_level(case: TrainingCase) -> Refusal | None:
    """A claim per site: every site counts once, and nothing that is released depends on how many came."""
    if not any(merge.per_site for merge in case.arm.merge):
        return None
    shape, algorithm = case.spec.federation.shape, case.spec.federation.algorithm
    if shape.weights == "records":
        return Refusal(
            15, "weights by records let one site move the sum by more than the clip", 'use weights = "uniform"'
        )
    if shape.participation.minimum_cohort > 1 or shape.max_share < 1:
        knob = "minimum-cohort" if shape.participation.minimum_cohort > 1 else "max-share"
        return Refusal(
            15, "whether a round is aborted would tell how many sites came, without noise", f"use {knob} = 1"
        )
    if shape.participation.late_joiners > 0:
        return Refusal(15, "a fixed number of late joiners is no coin of each site's own", "leave out late-joiners")
    if algorithm.personal:
        return Refusal(15, f"{algorithm.kind()} makes a model for each site, which no noise covers", "use fed-avg")
    return None


def public_constants(case: Case) -> Refusal | None:
    """Ranges and category lists read from private records owe a charge."""
    if not case.data.fitted_on_private or not case.private:
        return None
    if case.data.inputs.tokens:
        return Refusal(
            9,
            f"the words of {case.data.name} were read from private records",
            'give a public list (vocabulary = "words.txt"), or use those of the public slice (vocabulary = "public")',
        )
    return Refusal(
        9,
        f"the inputs of {case.data.name} were scaled or coded with ranges or categories read from private records",
        f"declare them in [data] as public constants: {open_declarations(case.data.inputs)}",
    )


def fitted_on_public(case: Case) -> Refusal | None:
    """What is fitted beside or after training uses the public slice, which must exist and be enough."""
    fitting: tuple[MergeDefence | ModelDefence, ...] = (*case.arm.merge, *case.arm.model)
    for defence in (defence for defence in fitting if defence.fits_public()):
        if not len(case.data.public):
            return Refusal(
                10,
                f"{defence.kind()} is fitted on public records and there are none",
                "set data.public to the share to take out before partition, for example 0.05",
            )
        try:
            if isinstance(defence, ModelDefence):
                defence.check_public(case.data.public, case.data.classes)
        except Refused as error:
            return Refusal.of(error, 10, "set data.public higher")
    return None


def model_order(case: Case) -> Refusal | None:
    """Quantise last: masks and fine-tuning need float weights.  What changes answers alone may follow it."""
    pairs = pairwise(case.arm.model)
    early = next((one.kind() for one, then in pairs if one.ends and not may_follow(then, one)), None)
    if early is None:
        return None
    return Refusal(1, f"{early} must be the last thing done to a model", "put it last in the study's axes")


def detects_records(case: Case) -> Refusal | None:
    """A detector looks at the record itself: nothing changes it on its way there."""
    try:
        check_detectors(case.arm)
    except Refused as error:
        return Refusal.of(error, 1, "leave one of them out")
    return None


def real_kernels(case: Case) -> Refusal | None:
    """What is to be done to the model is tried on the untrained one: hours later would be too late."""
    if case.network is None or not case.arm.model:
        return None
    args = case.network, case.arm.model, case.data.shape
    return _once(case.network, args, lambda: _unfit(*args))


def _unfit(network: Network, defences: tuple[ModelDefence, ...], shape: tuple[int, ...]) -> Refusal | None:
    """Tried on random inputs: what fails, and what answers a record otherwise in another batch."""
    module = network.module_at(*network.start()).cpu()
    x = random_inputs(_TRIED, shape, network.tokens, Stream(0, ("trial",)).generator())
    kind = ""
    try:
        for defence in defences:
            kind = defence.kind()
            module = defence.trial(module, x)
        difference = departure(module, x, max(d.tolerance for d in defences), FEW_SIZES)
    except Refused as error:
        return Refusal(21, error.reason, error.remedy or "leave it out")
    except BaseException as error:  # the model may be anyone's code
        return Refusal(21, f"{kind} cannot be done to this model: {error_summary(error)}", f"leave out {kind}")
    if difference is None:
        return None
    return Refusal(21, f"{' and '.join(d.kind() for d in defences)}: {difference}", f"leave out {kind}")


def _once(network: Network, args: tuple[object, ...], ask: Callable[[], Refusal | None]) -> Refusal | None:
    """What ``ask`` says of a network with ``args``: arms share most of what is asked, and a network may be large."""
    known = _ANSWERS.setdefault(network, {})
    key = tuple(arg for arg in args if arg is not network)  # or the network would keep itself alive
    try:
        hash(key)
    except TypeError:  # an entry from outside with a knob that has no hash
        return ask()
    if key not in known:
        known[key] = ask()
    return known[key]


def lawful_claims(case: TrainingCase) -> Refusal | None:
    """A target must be reachable and a claim must mean something, at every site."""
    try:
        claims = planned_claims(case.spec, case.arm, case.data)
    except Refused as error:
        return Refusal.of(error, 7, "use another target")
    return _capped(claims, case.spec.max_epsilon)


def _capped(claims: tuple[Claim, ...], cap: float) -> Refusal | None:
    """Units are never mixed: each has its own maximum over sites."""
    for unit in dict.fromkeys(c.unit for c in claims):
        worst = max((c for c in claims if c.unit == unit), key=lambda c: c.epsilon)
        if worst.epsilon > cap:
            sigma = worst.noise_multiplier
            noise = "" if sigma is None else f"noise multiplier {round_down(sigma, 6)}, "
            return Refusal(
                13,
                f"epsilon = {round_up(worst.epsilon, 4)} per {unit} at {worst.site} ({noise}{worst.steps} steps, "
                f"n = {worst.n}, {worst.accountant}) is above max-epsilon = {cap:g}: it protects nobody",
                f"use {_enough(worst, cap)}, fewer rounds or a smaller target epsilon",
            )
    return None


def _enough(claim: Claim, cap: float) -> str:
    """The noise with which as many steps of the same sampling would cost no more than the cap."""
    if claim.noise_multiplier is None or claim.batch_size is None or claim.adjacency == "replace-one-label":
        return "more noise"
    batch = claim.batch_size + (0.5 if claim.unit == "site" else 0)  # an expected cohort may have been rounded down
    rate = min(1.0, batch / claim.n) if claim.sampler.startswith("Poisson") else 1.0
    needed = enough_noise(cap, claim.delta, rate, claim.steps, claim.adjacency)
    return f"more noise (a noise multiplier of {round_up(needed, 6)} meets epsilon {cap:g})"


LAWS: tuple[Callable[[TrainingCase], Refusal | None], ...] = (
    one_merge,
    fits_data,
    update_order,
    readable_updates,
    drawn_once,
    rules_compose,
    per_example_gradients,
    units_exist,
    site_level,
    public_constants,
    fitted_on_public,
    model_order,
    detects_records,
    real_kernels,
    lawful_claims,
)
"""Of an arm that trains its model, in the order in which they are checked."""

MODEL_LAWS: tuple[Callable[[Case], Refusal | None], ...] = (
    *(fits_data, fitted_on_public, model_order),
    *(detects_records, real_kernels),
)
"""Those of them that an arm of a trained model could break: the others are of data, trainings, updates and merges."""
