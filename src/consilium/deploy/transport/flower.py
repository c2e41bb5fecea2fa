"""The deployment engine: the sites are other machines, and Flower carries what is said.

Each phase is a question to every node of the cohort and an answer from each; replies are acted on as they come.  What
this engine adds to the others is what machines do: a node that went away is asked again when it is back, one that never
answers is left behind at the deadline, one that refuses says why, and each is remembered by name.  Whether the answers
that came are enough is the exchange's own rule (the study's minimum cohort).

A question is the study request and one message of :mod:`consilium.deploy.protocol.messages`; an answer is an update, an
assessment or a refusal, and is believed in nothing but its own content: who sent it is known by the node's key.
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
from consilium.federate.engines.engine import Engine, Task

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
"""Between two looks lies a fiftieth of the wait: who takes minutes is not looked for ten times a second."""
_ONE_CALL = 1 << 20
"""Bytes of a message that travels as one object; above, Flower sends arrays in pieces of 5 MiB."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Caller:
    """How nodes are asked: the grid, who stands behind which node, and how long an answer may take.

    ``deadline`` are the seconds of one exchange, ``poll`` those between two looks, ``ahead`` the messages kept behind a
    question so that a node does not sleep.  ``births`` tells since when each node is there,
    ``alive`` raises when the link has ended, ``say`` tells the operator, ``waits`` is told every second of a wait which
    question waits for whom and how long, and for nobody when all have answered.
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
        return _Asking(self, parts, read, name).until_all(sites)


@dataclass(frozen=True)
class Deployment:
    """One training among machines: the request that every question carries, and what the sites declared.

    ``weights`` are those of their updates, as the server worked them out, ``charges`` what one round costs each of
    them.  ``note`` is told the engine's figures whenever they change.  ``records``: how many training records each
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

    def carry(self, task: Task[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """What arrived before the deadline, in the order of the cohort; who is missing is in ``silent`` by ``name``."""
        question, cohort, name = Question.of(task.inbox), task.cohort, task.name
        parts = {"request": wire.encode_request(self.deployment.request), **question.encoded(self._digest)}
        self._declined = set()
        desk = Reception(cohort, self._sites, wire.Context(self._digest, question.round), self.deployment.weights)
        read = partial(self._read, question, desk)
        came, refused = self.caller.ask(cohort, parts, read, name)
        self._turned = {**desk.refused(), **refused} if question.broadcast is not None else {}
        for site, why in refused.items():
            self.caller.say(f"{name}: {site} refuses: {why}")
            self.refusals[site] = why
        silent = [site for site in cohort if site not in came and site not in refused]
        if silent:
            self.silent[f"{name} {task.phase}"] = silent
            self.caller.say(f"{name}: no answer from {', '.join(silent)} in {self.caller.deadline:.0f} s")
        if silent or refused:
            self.deployment.note(self.figures())
        for site in cohort:
            if site in came:
                state = task.states[site]
                state = state if question.broadcast is None else self._charged(site, state)
                yield site, cast(Outbox, came[site]), state

    def turned(self) -> Mapping[str, str]:
        """Whose answers did not count in the last round, and why."""
        return self._turned

    def faulty(self) -> Mapping[str, str]:
        """All of those but the sites that said themselves that they take no part."""
        return {site: why for site, why in self._turned.items() if site not in self._declined}

    def figures(self) -> dict[str, Json]:
        """What the sites declared, who was silent, and who refused and why."""
        records, silent, refusals = dict(self.deployment.records), dict(self.silent), dict(self.refusals)
        return {"kind": "flower", "records": records, "silent": silent, "refusals": refusals}

    def _charged(self, site: str, state: SiteState) -> SiteState:
        """The server's own account of a site: what a round of this study costs it.  The site keeps the true one."""
        charge = self.deployment.charges.get(site)
        if charge is None or not isinstance(state, ParticipantState):
            return state
        return replace(state, ledger=entered(state.ledger, charge))

    def _read(self, question: Question, desk: Reception, site: str, reply: Message) -> object:
        """The answer of ``site``, whose key sent it: one that names another site is refused."""
        data = message_bytes(reply, "answer")
        if (said := refusal_of(site, data, self._digest)) is not None:
            self._declined.add(site)
            raise said
        if question.broadcast is None:
            return self._believed(wire.decode_assessment(data, wire.Context(self._digest, question.round)), site)
        if not desk.take(self.caller.nodes[site], data, 0.0):
            raise Refused(desk.refused()[site], where=site)
        if question.model is None:
            return desk.updates[site]
        before = wire.Context(self._digest, question.model.round)
        assessment = wire.decode_assessment(message_bytes(reply, "assessment"), before)
        return self._believed(assessment, site), desk.updates[site]

    def _believed(self, told_now: Assessment, site: str) -> Assessment:
        """An assessment weighs as much as its records in the mean: no more than the site declared."""
        if told_now.site != site:
            raise Refused(f"the answer claims to be from {told_now.site!r:.80}")
        if told_now.n > self.deployment.held_out.get(site, told_now.n):
            declared = self.deployment.held_out[site]
            raise Refused(f"assessed the model on {told_now.n} records, and the site declared {declared}")
        return told_now


class _Asking(Generic[Answer]):
    """One question to a cohort, from the first message to the last answer.

    Every message carries a token that its node alone has seen; an answer that does not return it came from another
    node, which Flower would not notice: it knows who pushes a reply, and not whether the question was theirs.
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
        """Ask every site and collect what they answer until all have, or the deadline is over."""
        looked = began = time.monotonic()
        self._ask(sites)
        while self._missing(sites) and time.monotonic() < began + self.caller.deadline:
            self.caller.alive()
            for reply in self._replies():
                self._take(reply)
            self._hold()
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                self._miss_reborn()
                if self.lost:
                    self._ask_returned()
                self.caller.waits(self.name, [site for site in sites if self._missing([site])], looked - began)
            if self._missing(sites):
                time.sleep(max(self.caller.poll, min(1.0, (time.monotonic() - began) / _LOOKS)))
        if not self._missing(sites):
            self.caller.waits(self.name, (), time.monotonic() - began)
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
            raise Failed("the link took no message", remedy="see its log")
        for site, number, token in zip(sites, numbers, tokens, strict=True):
            if number:
                self.pending[number] = site, token
            else:  # its node is not there yet
                self.lost.add(site)

    def _miss_reborn(self) -> None:
        """A node that was started anew has lost what the old one had been given, and Flower may not have noticed."""
        born = self.caller.births()
        for site, _ in list(self.pending.values()):
            node = self.caller.nodes[site]
            if self._missing([site]) and born.get(node, self.born.get(node)) != self.born.get(node):
                self.born[node] = born[node]
                self.lost.add(site)
                for number in [number for number, holder in self.caller.holds.items() if holder == node]:
                    del self.caller.holds[number]

    def _ask_returned(self) -> None:
        """Ask those whose node is back; a site that is asked twice sends the same bytes twice."""
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
        """Keep messages that say nothing behind every question.

        A node that finds no message sleeps for three seconds, whatever comes meanwhile; one that has just been given a
        message asks again at once.
        """
        held = list(self.caller.holds.values())
        nodes = {self.caller.nodes[site] for site, _ in self.pending.values() if self._missing([site])}
        short = [node for node in sorted(nodes) for _ in range(self.caller.ahead - held.count(node))]
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
            pass  # asked twice, and answered twice
        elif reply.has_error():
            self.lost.add(site)
            self.caller.say(f"{site}: {reply.error.reason}")
        else:
            try:
                if not self._is_own(reply, site, token):
                    self.caller.say(f"node {reply.metadata.src_node_id} answers in the place of {site}: not read")
                    return  # its own answer may still come
                self.came[site] = self.read(site, reply)
            except Refused as error:
                self.refused[site] = str(error)
        del self.pending[number]

    def _overtake(self, node: int) -> None:
        """A node takes messages in turn: one that answers what came later for seconds on has lost its answer."""
        for number, (site, _) in self.pending.items():
            if self.caller.nodes[site] == node and self._missing([site]):
                first = self.overtaken.setdefault(number, time.monotonic())
                if time.monotonic() - first > _OVERTAKEN:
                    self.overtaken[number] = time.monotonic()
                    self.lost.add(site)
                    self.caller.say(f"{site}: its answer was lost on the way; it is asked again")

    def _is_own(self, reply: Message, site: str, token: bytes) -> bool:
        asked = reply.metadata.src_node_id == self.caller.nodes[site]
        return asked and secrets.compare_digest(message_bytes(reply, "token"), token)


def refusal_of(site: str, data: bytes, study: str) -> Refused | None:
    """What ``site`` says where its answer is a refusal; refused where the refusal names another site."""
    if heading(data, Bounds())[0].get("kind") != "refusal":
        return None
    said = wire.decode_refusal(data, wire.Context(study))
    if said.site != site:
        remedy = f"start it with --site {site}"
        raise Refused(f"its answer is that of {said.site!r:.80}: {said.reason}", remedy=remedy, where=site)
    return said.error()


def question_of(parts: Mapping[str, bytes], node: int) -> Message:
    """The message that asks ``node``: ``request``, ``question``, ``token``, and ``assess`` where that is wanted."""
    return _to(node, parts)


def hold_of(node: int) -> Message:
    """A message that says nothing, and is like no other: Flower stores equal contents once, for all messages."""
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
