"""The deployment engine: the sites are other machines, and Flower carries the messages.

Each phase is a request to every node of the cohort and a reply from each; replies are processed as they arrive.  Beyond
the other engines this one handles the faults of machines: a request is repeated when a node reconnects, a node without
a reply at the deadline is dropped, a refusal carries its reason, and each is recorded by site.  Whether the replies
suffice is the exchange's own rule (the study's minimum cohort).

A request is the study request and one message of :mod:`consilium.deploy.protocol.messages`; a reply is an update, an
assessment or a refusal.  Only its payload is trusted; the sender is identified by the node's key.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from consilium.core.charge import Charge
from consilium.core.errors import Failed, Refused
from consilium.core.exchange import Inbox, Outbox, SiteState
from consilium.core.plain import Json
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.framing import Bounds, heading
from consilium.deploy.protocol.reply_check import Reception
from consilium.deploy.protocol.request import Question
from consilium.federate.client.assessment import Assessment
from consilium.federate.client.charges_paid import entered
from consilium.federate.client.participant import SiteState as ParticipantState
from consilium.federate.engines.engine import Engine, PhaseWork

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.serverapp import Grid

__all__ = [
    "Caller",
    "Deployment",
    "Flower",
    "answer_of",
    "hold_of",
    "message_bytes",
    "question_of",
    "refusal_of",
    "says",
]  # fmt: skip

_SMALL, _LARGE = "short", "long"
_OVERTAKEN = 10.0
_LOOKS = 50
"""The time between two polls is a fiftieth of the wait: a reply that takes minutes is not polled ten times a second."""
_ONE_CALL = 1 << 20
"""Bytes of a message that travels as one object; above, Flower sends arrays in pieces of 5 MiB."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Caller:
    """How nodes are queried: the grid, the node of each site, and how long a reply may take.

    ``deadline`` are the seconds of one exchange, ``poll`` those between two polls, ``ahead`` the messages kept behind a
    request so that a node does not idle.  ``births`` returns the time of each node's registration,
    ``alive`` raises when Flower's server has ended, ``say`` logs a line for the operator, ``waits`` is called every
    second of a wait with the request, the missing sites and the seconds, and without sites when all have answered.
    """

    grid: Grid
    nodes: Mapping[str, int]
    deadline: float
    poll: float = 0.1
    ahead: int = 2
    holds: dict[str, int] = field(default_factory=dict)
    births: Callable[[], Mapping[int, str]] = field(default=dict)
    alive: Callable[[], None] = field(default=lambda: None)
    say: Callable[[str], None] = field(default=lambda _: None)
    waits: Callable[[str, Sequence[str], float], None] = field(default=lambda *_: None)

    def ask(
        self, sites: Sequence[str], parts: Mapping[str, bytes], read: Callable[[str, Message], Answer], name: str
    ) -> tuple[dict[str, Answer], dict[str, str]]:
        """What ``read`` makes of each site's answer, and why others refuse; who is in neither did not answer.

        ``name`` is that of the question, for people.
        """
        return _Poll(self, parts, read, name).until_all(sites)


@dataclass(frozen=True)
class Deployment:
    """One training among machines: the request that every question carries, and what the sites declared.

    ``weights`` are those of their updates, as the server computed them, ``charges`` what one round costs each of them.
    ``note`` is called with the engine's figures whenever they change.  ``records``: how many training records each
    declared; a claim is of those.  ``held_out``: how many validation records; an assessment is of no more.
    """

    request: wire.StudyRequest
    weights: Mapping[str, float]
    charges: Mapping[str, Charge | None]
    note: Callable[[Mapping[str, Any]], None] = field(default=lambda _: None)
    records: Mapping[str, int] = field(default_factory=dict)
    held_out: Mapping[str, int] = field(default_factory=dict)


class Flower(Engine):
    """Carries exchanges over a Flower grid.  Answers come in any order, so all of a phase are in memory."""

    joins = True

    def __init__(self, caller: Caller, deployment: Deployment) -> None:
        self.caller, self.deployment = caller, deployment
        self.silent: dict[str, list[str]] = {}
        self.refusals: dict[str, str] = {}
        self._digest = deployment.request.digest()
        self._sites = {node: site for site, node in caller.nodes.items()}
        self._turned: dict[str, str] = {}
        self._declined: set[str] = set()
        deployment.note(self.figures())

    def carry(self, work: PhaseWork[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """What arrived before the deadline, in the order of the cohort; who is missing is in ``silent`` by ``name``."""
        question, cohort, name = Question.of(work.inbox), work.cohort, work.name
        parts = {"request": wire.encode_request(self.deployment.request), **question.encoded(self._digest)}
        self._declined = set()
        desk = Reception(cohort, self._sites, wire.Context(self._digest, question.round), self.deployment.weights)
        read = partial(self._decode, question, desk)
        answers, refused = self.caller.ask(cohort, parts, read, name)
        self._turned = {**desk.refused(), **refused} if question.broadcast is not None else {}
        for site, why in refused.items():
            self.caller.say(f"{name}: {site} refuses: {why}")
            self.refusals[site] = why
        silent = [site for site in cohort if site not in answers and site not in refused]
        if silent:
            self.silent[f"{name} {work.phase}"] = silent
            self.caller.say(f"{name}: no answer from {', '.join(silent)} in {self.caller.deadline:.0f} s")
        if silent or refused:
            self.deployment.note(self.figures())
        for site in cohort:
            if site in answers:
                state = work.states[site]
                state = state if question.broadcast is None else self._charged(site, state)
                yield site, cast(Outbox, answers[site]), state

    def rejections(self) -> Mapping[str, str]:
        """Whose answers did not count in the last round, and why."""
        return self._turned

    def faulty(self) -> Mapping[str, str]:
        """All sites but those that refused to take part."""
        return {site: why for site, why in self._turned.items() if site not in self._declined}

    def figures(self) -> dict[str, Json]:
        """What the sites declared, who was silent, and who refused and why."""
        records, silent, refusals = dict(self.deployment.records), dict(self.silent), dict(self.refusals)
        return {"kind": "flower", "records": records, "silent": silent, "refusals": refusals}

    def _charged(self, site: str, state: SiteState) -> SiteState:
        """The server's estimate of what a round of this study costs a site; the site's own ledger is authoritative."""
        charge = self.deployment.charges.get(site)
        if charge is None or not isinstance(state, ParticipantState):
            return state
        return replace(state, ledger=entered(state.ledger, charge))

    def _decode(self, question: Question, desk: Reception, site: str, reply: Message) -> object:
        """The answer of ``site``, whose key sent it: one that names another site is refused."""
        data = message_bytes(reply, "answer")
        if (refusal := refusal_of(site, data, self._digest)) is not None:
            self._declined.add(site)
            raise refusal
        if question.broadcast is None:
            return self._believed(wire.decode_assessment(data, wire.Context(self._digest, question.round)), site)
        if not desk.take(self.caller.nodes[site], data, 0.0):
            raise Refused(desk.refused()[site], where=site)
        if question.model is None:
            return desk.updates[site]
        before = wire.Context(self._digest, question.model.round)
        assessment = wire.decode_assessment(message_bytes(reply, "assessment"), before)
        return self._believed(assessment, site), desk.updates[site]

    def _believed(self, assessment: Assessment, site: str) -> Assessment:
        """An assessment weighs as much as its records in the mean: no more than the site declared."""
        if assessment.site != site:
            raise Refused(f"the answer claims to be from {assessment.site!r:.80}")
        if assessment.n > self.deployment.held_out.get(site, assessment.n):
            declared = self.deployment.held_out[site]
            raise Refused(f"the assessment is over {assessment.n} records; the site declared {declared}")
        return assessment


class _Poll(Generic[Answer]):
    """One question to a cohort, from the first message to the last answer.

    Every message carries a token that only its node received; a reply without it came from another node, which Flower
    does not detect: it authenticates the sender of a reply, not whether the request was addressed to it.
    """

    def __init__(
        self, caller: Caller, parts: Mapping[str, bytes], read: Callable[[str, Message], Answer], name: str = ""
    ) -> None:
        self.caller, self.parts, self.read, self.name = caller, parts, read, name
        self.pending: dict[str, tuple[str, bytes]] = {}
        self.overtaken: dict[str, float] = {}
        self.born: dict[int, str] = {}
        self.lost: set[str] = set()
        self.came: dict[str, Answer] = {}
        self.refused: dict[str, str] = {}

    def until_all(self, sites: Sequence[str]) -> tuple[dict[str, Answer], dict[str, str]]:
        """Query every site and collect replies until all have answered or the deadline is over."""
        last_look = start = time.monotonic()
        self._ask(sites)
        while self._missing(sites) and time.monotonic() < start + self.caller.deadline:
            self.caller.alive()
            for reply in self._replies():
                self._take(reply)
            self._hold()
            if time.monotonic() - last_look > 1:
                last_look = time.monotonic()
                self._miss_reborn()
                if self.lost:
                    self._ask_returned()
                self.caller.waits(self.name, [site for site in sites if self._missing([site])], last_look - start)
            if self._missing(sites):
                time.sleep(max(self.caller.poll, min(1.0, (time.monotonic() - start) / _LOOKS)))
        if not self._missing(sites):
            self.caller.waits(self.name, (), time.monotonic() - start)
        return self.came, self.refused

    def _missing(self, sites: Sequence[str]) -> bool:
        return any(site not in self.came and site not in self.refused for site in sites)

    def _ask(self, sites: Sequence[str]) -> None:
        self.born |= self.caller.births()
        tokens = [secrets.token_bytes(16) for _ in sites]
        questions = [{**self.parts, "token": token} for token in tokens]
        nodes = [self.caller.nodes[site] for site in sites]
        numbers = list(self.caller.grid.push_messages(list(map(question_of, questions, nodes))))
        if len(numbers) != len(sites):
            raise Failed("Flower's server accepted no message", remedy="see link.log")
        for site, number, token in zip(sites, numbers, tokens, strict=True):
            if number:
                self.pending[number] = site, token
            else:  # its node is not there yet
                self.lost.add(site)

    def _miss_reborn(self) -> None:
        """A restarted node has lost the messages of the old one, which Flower may not have detected."""
        births = self.caller.births()
        for site, _ in list(self.pending.values()):
            node = self.caller.nodes[site]
            if self._missing([site]) and births.get(node, self.born.get(node)) != self.born.get(node):
                self.born[node] = births[node]
                self.lost.add(site)
                for number in [number for number, holder in self.caller.holds.items() if holder == node]:
                    del self.caller.holds[number]

    def _ask_returned(self) -> None:
        """Query the sites whose node has reconnected; a site sends the same bytes for a repeated request."""
        here = set(self.caller.grid.get_node_ids())
        self.lost = {site for site in self.lost if self._missing([site])}
        back = sorted(site for site in self.lost if self.caller.nodes[site] in here)
        self.lost -= set(back)
        if back:
            self._ask(back)

    def _replies(self) -> Sequence[Message]:
        waiting = [*self.pending, *self.caller.holds]
        return list(self.caller.grid.pull_messages(waiting)) if waiting else []

    def _hold(self) -> None:
        """Keep empty messages queued behind every request.

        A node without a message waits three seconds, whatever arrives meanwhile; a node that has just received a
        message polls again at once.
        """
        holders = list(self.caller.holds.values())
        nodes = {self.caller.nodes[site] for site, _ in self.pending.values() if self._missing([site])}
        short = [node for node in sorted(nodes) for _ in range(self.caller.ahead - holders.count(node))]
        if short:
            numbers = self.caller.grid.push_messages([hold_of(node) for node in short])
            self.caller.holds.update({number: node for number, node in zip(numbers, short, strict=True) if number})

    def _take(self, reply: Message) -> None:
        number = reply.metadata.reply_to_message_id
        if (node := self.caller.holds.pop(number, None)) is not None:
            self._overtake(node)
        if number not in self.pending:
            return
        site, token = self.pending[number]
        if not self._missing([site]):
            pass  # the request was repeated, and so was the reply
        elif reply.has_error():
            self.lost.add(site)
            self.caller.say(f"{site}: {reply.error.reason}")
        else:
            try:
                if not self._is_own(reply, site, token):
                    self.caller.say(f"node {reply.metadata.src_node_id} answers in the place of {site}: not read")
                    return  # the site's own reply may still arrive
                self.came[site] = self.read(site, reply)
            except Refused as error:
                self.refused[site] = str(error)
        del self.pending[number]

    def _overtake(self, node: int) -> None:
        """A node processes messages in order: one that replied to a later message seconds ago has lost this one."""
        for number, (site, _) in self.pending.items():
            if self.caller.nodes[site] == node and self._missing([site]):
                first = self.overtaken.setdefault(number, time.monotonic())
                if time.monotonic() - first > _OVERTAKEN:
                    self.overtaken[number] = time.monotonic()
                    self.lost.add(site)
                    self.caller.say(f"{site}: its reply was lost in transit; the request is repeated")

    def _is_own(self, reply: Message, site: str, token: bytes) -> bool:
        from_node = reply.metadata.src_node_id == self.caller.nodes[site]
        return from_node and secrets.compare_digest(message_bytes(reply, "token"), token)


def refusal_of(site: str, data: bytes, study: str) -> Refused | None:
    """The error of ``site`` where its reply is a refusal; refused where the refusal names another site.

    Raises Refused: the refusal names another site.
    """
    if heading(data, Bounds())[0].get("kind") != "refusal":
        return None
    refusal = wire.decode_refusal(data, wire.Context(study))
    if refusal.site != site:
        remedy = f"start it with --site {site}"
        raise Refused(f"the reply is that of {refusal.site!r:.80}: {refusal.reason}", remedy=remedy, where=site)
    return refusal.error()


def question_of(parts: Mapping[str, bytes], node: int) -> Message:
    """The message to ``node``: ``request``, ``question``, ``token``, and ``assess`` where requested."""
    return _to(node, parts)


def hold_of(node: int) -> Message:
    """An empty message with unique content: Flower stores equal contents once, for all messages."""
    return _to(node, {"hold": secrets.token_bytes(8)})


def answer_of(parts: Mapping[str, bytes]) -> RecordDict:
    """What a node answers with: ``answer``, the question's ``token``, and perhaps an ``assessment``."""
    return _content(parts)


def message_bytes(message: Message, name: str) -> bytes:
    """The bytes that ``message`` carries under ``name``; refused where it carries something else."""
    if name in message.content.config_records.get(_SMALL, {}):
        value = message.content.config_records[_SMALL][name]
        return value if isinstance(value, bytes) else _refuse(name)
    try:
        array = message.content.array_records[_LARGE][name].numpy()  # never a pickle: Flower reads without them
    except (KeyError, ValueError, TypeError, EOFError):
        return _refuse(name)
    return bytes(array.tobytes()) if str(array.dtype) == "uint8" and array.ndim == 1 else _refuse(name)


def says(message: Message, name: str) -> bool:
    """Whether ``message`` carries something short under ``name``."""
    return message.has_content() and name in message.content.config_records.get(_SMALL, {})


def _refuse(name: str) -> NoReturn:
    raise Refused(f"the message carries no {name}", remedy="send what this release sends")


def _to(node: int, parts: Mapping[str, bytes]) -> Message:
    from flwr.app import Message

    return Message(_content(parts), dst_node_id=node, message_type="query")


def _content(parts: Mapping[str, bytes]) -> RecordDict:
    """Bytes by name: in one record while short, since every object is a call of its own; else as arrays, in pieces."""
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    if sum(map(len, parts.values())) <= _ONE_CALL:
        return RecordDict({_SMALL: ConfigRecord(dict(parts))})
    arrays = {name: Array(np.frombuffer(data, dtype=np.uint8)) for name, data in parts.items()}
    return RecordDict({_LARGE: ArrayRecord(arrays)})
