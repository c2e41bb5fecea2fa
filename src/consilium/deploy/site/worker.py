"""A site's worker: it reads a study, checks it against its own limits, and answers the server's requests.

    request     enrol: the study is built here, from what is installed here        -> enrolment or refusal
    broadcast   a round's local work                                               -> update or refusal
    model       accuracy and loss on the site's own held-out records               -> assessment or refusal

Every error becomes a refusal with its reason; only that line is sent.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from consilium.core.algorithm import Server
from consilium.core.errors import ConsiliumError, Failed, Refused
from consilium.core.network import Network
from consilium.core.records import Consortium, Records
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import DescribedStudy, understand
from consilium.deploy.protocol.difference import refuse_difference
from consilium.deploy.protocol.enrolment import Enrolment, encode_enrolment
from consilium.deploy.protocol.schema import Schema, check_named
from consilium.deploy.transport.flower import answer_of, message_bytes, says
from consilium.federate.client.assessment import Assessment, assess
from consilium.federate.client.participant import Participant
from consilium.federate.engines.engine import one_thread
from consilium.study.build.factory import gradient_rule, network, participants
from consilium.study.plan.stage_keys import constants_mark
from consilium.study.spec.arms import arms

from .policy_enforcement import Admitted, Guard
from .site_store import SiteStore

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict

__all__ = ["Holding", "Worker"]

_WEIGHTS = "model.weights"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("consilium.site")


@dataclass(frozen=True)
class Holding:
    """A site's data: ``gather`` makes a consortium whose one site it is; ``own`` is False in a rehearsal."""

    gather: Callable[[DescribedStudy, str], Consortium]
    own: bool


@dataclass(frozen=True, eq=False)
class _Prepared:
    admitted: Admitted
    store: SiteStore
    enrolment: Enrolment

    @property
    def person(self) -> Participant:
        return self.admitted.person


class Worker:
    """One site: its name, its data, its state on disk, and the guard of its limits and its ledger."""

    def __init__(self, site: str, holding: Holding, state: Path, guard: Guard) -> None:
        self.site, self.holding, self.state, self.guard = site, holding, state, guard
        self._studies: dict[str, _Prepared] = {}
        self._cautions: tuple[str, ...] = ()

    def __call__(self, message: Message) -> RecordDict:
        """The answer to one message, with the request's token."""
        if says(message, "hold"):
            return answer_of({"hold": b"-"})
        parts, digest = {}, "?"
        try:
            parts["token"] = message_bytes(message, "token")
            request = wire.decode_request(message_bytes(message, "request"))
            digest = request.digest()
            if says(message, "greet"):
                return answer_of({**parts, "answer": self._greeting(request, digest)})
            study, question = self._prepared(request, digest), message_bytes(message, "question")
            if says(message, "assess"):
                parts["assessment"] = self._assess_before(study, digest, question)
            return answer_of({**parts, "answer": self._answer(study, digest, question)})
        except ConsiliumError as error:
            answer = self._refusal(error, digest)
        except OSError as error:
            remedy = "free disk space" if error.errno in _NO_SPACE else "see the site's log"
            reason = f"the site's disk does not serve it: {error.strerror or type(error).__name__}"
            answer = self._refusal(Failed(reason, remedy=remedy), digest)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # one line leaves, and not what an error may hold of the records
            _log.exception("the site's work failed")
            answer = self._refusal(Refused(f"the site's work failed: {type(error).__name__}"), digest)
        return answer_of({**parts, "answer": answer})

    def _answer(self, study: _Prepared, digest: str, question: bytes) -> bytes:
        kind = wire.kind_of(question)
        if kind == "request":
            _log.info("enrolled in %s: %d rounds", study.admitted.request.study, study.admitted.request.rounds)
            return encode_enrolment(study.enrolment, digest)
        if kind == "broadcast":
            return self._work(study, digest, question)
        return self._assess(study, digest, question)

    def _work(self, study: _Prepared, digest: str, question: bytes) -> bytes:
        broadcast = wire.decode_broadcast(question, wire.Context(digest))
        sent = study.store.answer(broadcast.round, question)
        if sent is not None:
            _log.info("round %d: sent again", broadcast.round)
            return sent
        self.guard.pay(study.admitted, broadcast.round, question)
        with one_thread():
            update, state = study.person.work(broadcast, study.store.state(broadcast.round))
        answer = wire.encode_update(update, digest)
        study.store.keep(broadcast.round, question, answer, state)
        _log.info("round %d: %d bytes sent", broadcast.round, len(answer))
        return answer

    def _assess(self, study: _Prepared, digest: str, question: bytes) -> bytes:
        model = wire.decode_model(question, wire.Context(digest))
        return wire.encode_assessment(self._assessment(study, model, question), digest, model.round)

    def _assess_before(self, study: _Prepared, digest: str, question: bytes) -> bytes:
        """The assessment of the model that a round starts from, before training."""
        broadcast = wire.decode_broadcast(question, wire.Context(digest))
        population = study.admitted.request.sites
        model = Server(broadcast.round - 1, broadcast.params, broadcast.buffers, population=population)
        return wire.encode_assessment(self._assessment(study, model, question), digest, model.round)

    def _assessment(self, study: _Prepared, model: Server, question: bytes) -> Assessment:
        person = study.person
        try:
            self.guard.assess(study.admitted.request, question)
        except Refused as error:  # no assessment by this site; the training goes on
            return Assessment(self.site, 0, None, None, error.reason)
        state = person.algorithm.model_for(model, study.store.state(model.round + 1).algorithm)
        if state is None:
            return Assessment(self.site, 0, None, None, "the site has no model yet")
        with one_thread():
            return assess(person.site, person.network, person.objective.task, *state)

    def _prepared(self, request: wire.StudyRequest, digest: str) -> _Prepared:
        if digest not in self._studies:
            self.guard.judge(request)
            self._studies = {digest: self._prepare(request, digest)}  # one at a time: data may be large
        return self._studies[digest]

    def _greeting(self, request: wire.StudyRequest, digest: str) -> bytes:
        """Before there is a plan: whether these are own records, and how many; nothing is trained or spent."""
        self.guard.judge(request)
        data = self._gathered(understand(request))
        pools = data.sites[0].records
        n, m, units = len(pools.train), len(pools.validation), _units(pools.train)
        enrolment = Enrolment(self.site, n, m, 1.0, self.holding.own, units, Schema.of(data).digest())
        return encode_enrolment(enrolment, digest)

    def _gathered(self, study: DescribedStudy) -> Consortium:
        if self.site not in study.roster:
            raise Refused(
                f"the study has no site {self.site}", remedy="obtain the site's name from the study's operator"
            )
        data = self._read(study)
        private = any(gradient_rule(arm).delta is not None for arm in arms(study.spec))
        refuse_difference(Schema.of(data), study.schema, private=private)
        check_named(data)
        return data

    def _read(self, study: DescribedStudy) -> Consortium:
        """The site's data; of an error in its own data only the fact is sent, since the reason may contain records."""
        try:
            data = self.holding.gather(study, self.site)
        except ConsiliumError as error:
            if not self.holding.own:
                raise
            _log.warning("the data cannot be used: %s", error)
            raise Refused("the site's own data cannot be used", remedy="see the site's log", where="data") from None
        if self.holding.own:
            self._log_cautions(data)
        return data

    def _log_cautions(self, data: Consortium) -> None:
        """Log what is left out and what may be wrong in the site's own log; once for the same data."""
        lines = (*(f"left out or clipped: {one.line()}" for one in data.omitted), *data.cautions)
        for line in lines:
            if line not in self._cautions:
                _log.warning("%s", line)
        self._cautions = lines

    def _prepare(self, request: wire.StudyRequest, digest: str) -> _Prepared:
        study = understand(request)
        data = self._gathered(study)
        known = self.guard.recognise(request, data.sites[0].records.train)
        net = _network(study, data)
        _check_constants(net, study)
        person = participants(study.spec, study.arm, study.seed, None, data, net, known.key)[self.site]
        labels = [charge for d in study.arm.data if (charge := d.charge(len(data.classes))) is not None]
        admitted = self.guard.admit(request, known, person, labels)
        n, m = len(person.train), len(person.site.records.validation)
        inputs = Schema.of(data).digest()
        enrolment = Enrolment(self.site, n, m, person.weight, self.holding.own, _units(person.train), inputs)
        return _Prepared(admitted, SiteStore(self.state / digest), enrolment)

    def _refusal(self, error: ConsiliumError, digest: str) -> bytes:
        _log.warning("refused: %s", error)
        return wire.encode_refusal(wire.RefusalMessage.of(error, self.site), digest)


def _network(study: DescribedStudy, data: Consortium) -> Network:
    """The model.  The study names the file of its weights: only the fact that it cannot be used is sent.

    Raises Refused: the model cannot be built here.
    """
    try:
        return network(study.arm.study(study.spec), data, study.seed)
    except Refused as error:
        if not error.where.startswith(_WEIGHTS):
            raise
        _log.warning("the weights cannot be used: %s", error)
        reason = "the weights that the study names cannot be used at this site"
        raise Refused(reason, remedy="see the site's log", where=_WEIGHTS) from None


def _check_constants(net: Network, study: DescribedStudy) -> None:
    """What is frozen is never sent, so both ends must start from the same weights.

    Raises Refused: they do not.
    """
    if constants_mark(net) != study.constants:
        raise Refused(
            f"the frozen parameters here ({constants_mark(net) or 'none'}) are not those of the server "
            f"({study.constants or 'none'})",
            remedy="put the same weights into the place that the study names, at every site",
            where=_WEIGHTS,
        )


def _units(records: Records) -> int:
    """How many units ``records`` are of; 0 where each is its own."""
    count = len(torch.unique(records.units))
    return count if count < len(records) else 0
