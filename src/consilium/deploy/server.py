"""`consilium serve`: the server of a federation of real machines.

    site --TLS--> front door --TLS, loopback--> link (Flower's SuperLink) <--loopback-- this process

The link listens on the loopback only and keeps its state in a private database; the front door is the one port that
others reach.  This process starts both, registers the sites' keys, starts a run and is its one server: it trains the
study's arms as `run` would, with the engine flower.  It goes on from its own checkpoint; the link's state is only what
is on its way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.core.charge import Charge, Composed
from consilium.core.entry import check
from consilium.core.errors import Failed, Refused
from consilium.federate.assess import Assessing
from consilium.federate.deployed import wire
from consilium.federate.engines.flower import Caller, Deployment, Flower, refuse_refusal, told
from consilium.federate.round import FederatedRound, RoundExchange
from consilium.study.build import gradient_rule, schedule
from consilium.study.engines import write_engine_record
from consilium.study.plan import Plan, TrainingNode
from consilium.study.run import Outcome, run_plan
from consilium.study.spec import FederationSpec
from consilium.study.store import Store
from consilium.study.study import Study

from .description import describe
from .enrolment import Enrolment, decode_enrolment
from .keys import ServerKeys, roster, server_keys
from .link import ServerSeat, register, start_run
from .processes import Child, free_port, new_secret, parse_address, program, refuse_insecure, require_flower, wait_open

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["Terms", "serve", "serve_study"]


@dataclass(frozen=True)
class Terms:
    """How a server is reached, and how long it waits: ``deadline`` seconds for an exchange, ``gather`` for the sites.

    ``keys`` is the folder of `consilium keys server`; without it ``insecure`` must be said, on the loopback.  ``ahead``
    messages are kept behind a question, so that a node does not go to sleep.
    """

    address: str
    keys: Path | None
    insecure: bool = False
    deadline: float = 3600.0
    gather: float = 3600.0
    ahead: int = 2

    def check(self) -> None:
        """Refuse what others could reach without TLS and keys."""
        host, _ = parse_address(self.address)
        refuse_insecure(host, self.insecure, self.keys is None, "--keys")
        for name in ("deadline", "gather"):
            check(0 < getattr(self, name) < 1e7, name, getattr(self, name), "seconds above 0")


def serve_study(study: Path, out: Path, terms: Terms, command: str, say: Callable[[str], None]) -> tuple[Path, Outcome]:
    """Train the study in a file; returns its folder."""
    terms.check()
    store, outcome = serve(Study.read(study).plan(), out, terms, command, say)
    return store.folder, outcome


def serve(plan: Plan, out: Path, terms: Terms, command: str, say: Callable[[str], None]) -> tuple[Store, Outcome]:
    """Train every arm of ``plan`` with the sites that hold a key; the folder is that of a run."""
    require_flower()
    terms.check()
    _check(plan)
    store = Store.of(out, plan.spec.name)
    keys = None if terms.keys is None else server_keys(terms.keys)
    names = [site.id for site in plan.materials.consortium(plan.spec.seeds[0]).sites]
    held = {} if keys is None else roster(keys)
    if keys is not None and set(held) != set(names):
        raise Refused(
            f"keys are there for {', '.join(held)}, and the study's sites are {', '.join(names)}",
            remedy="one ID.pub for each site of the study, and no other",
            where=str(keys.sites),
        )
    with _link(store.folder / "link", terms, keys) as link, link.seat(held, say) as caller:
        return store, run_plan(plan, store, command, carrier=_carrier(plan, store, caller, terms))


def _check(plan: Plan) -> None:
    spec = plan.spec
    if spec.federation is None:
        raise Refused("an audit trains nothing", remedy="run it: consilium run", where="model")
    if spec.corruptions:
        raise Refused("a deployment infects nobody", remedy="simulate corruptions with `run`", where="corruptions")
    if spec.model.kind() == "module":
        raise Refused("sites run no code that a server names", remedy="use a model of the catalogue", where="model")


def _carrier(
    plan: Plan, store: Store, caller: Caller, terms: Terms
) -> Callable[[TrainingNode, RoundExchange, Assessing], Flower]:
    def make(node: TrainingNode, whole: RoundExchange, _: Assessing) -> Flower:
        data = plan.materials.consortium(node.seed)
        request = describe(plan.spec, node, data)
        enrolled = _enrol(caller, terms, request, [site.id for site in data.sites])
        assert isinstance(whole, FederatedRound)
        weights = {site: enrolment.weight for site, enrolment in enrolled.items()}
        charges = {site: _charge(plan, node, enrolment.train) for site, enrolment in enrolled.items()}
        note = partial(write_engine_record, store.training(node.digest))
        records = {site: enrolment.train for site, enrolment in enrolled.items()}
        return Flower(caller, Deployment(request, weights, charges, note, records))

    return make


def _enrol(caller: Caller, terms: Terms, request: wire.StudyRequest, sites: list[str]) -> dict[str, Enrolment]:
    """Every site's declaration; refused by name where one says no or does not come."""
    digest, question = request.digest(), wire.encode_request(request)

    def read(site: str, reply: Message) -> Enrolment:
        data = told(reply, "answer")
        refuse_refusal(site, data, digest)
        return decode_enrolment(data, digest, site)

    caller.say(f"waiting for {', '.join(sites)}")
    patient = replace(caller, deadline=terms.gather)
    came, refused = patient.ask(sites, {"request": question, "question": question}, read)
    for site, why in refused.items():
        raise Refused(f"{site} refuses: {why}", remedy="change the study, or leave the site out", where=site)
    if missing := [site for site in sites if site not in came]:
        raise Failed(f"{', '.join(missing)} did not come in {terms.gather:.0f} s", remedy="start them, and serve again")
    caller.say(", ".join(f"{site} has {came[site].train} records" for site in sites))
    return came


def _charge(plan: Plan, node: TrainingNode, n: int) -> Charge | None:
    """What one round costs a site of ``n`` records."""
    federation = plan.spec.federation
    assert isinstance(federation, FederationSpec)
    rule = gradient_rule(node.arm)
    work = schedule(federation, rule)
    step = rule.step_charge(n, work)
    return None if step is None else Composed(step, work.steps(n))


class _Link:
    """The processes behind a published address."""

    def __init__(self, folder: Path, terms: Terms, keys: ServerKeys | None) -> None:
        self.folder, self.terms, self.keys = folder, terms, keys
        self.ca = None if keys is None else keys.ca.read_bytes()
        self.children: list[Child] = []
        self.secret = b""
        self.address = ""

    def start(self) -> None:
        """Start the link, then the door before it."""
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        secret_file = self.folder / "link.secret"
        self.secret = new_secret(secret_file)
        command = [program("flower-superlink"), "--host", "127.0.0.1", "--port", str(port), "--isolation", "process"]
        command += ["--superexec-auth-secret-file", str(secret_file), "--database", str(self.folder / "state.db")]
        command += ["--disable-runtime-dependency-installation", *self._tls()]
        self._child("the link", command, ("127.0.0.1", port))
        door = [sys.executable, "-m", "consilium.deploy.front_door", "--listen", self.terms.address]
        door += ["--upstream", self.address]
        if self.keys is not None:
            door += [
                "--certificate",
                str(self.keys.certificate),
                "--key",
                str(self.keys.key),
                "--ca",
                str(self.keys.ca),
            ]
        host, at = parse_address(self.terms.address)
        self._child("the front door", door, ("127.0.0.1" if host in ("0.0.0.0", "::") else host, at))

    def _tls(self) -> list[str]:
        if self.keys is None:
            return ["--insecure"]
        files = ("--ssl-certfile", self.keys.certificate), ("--ssl-keyfile", self.keys.key)
        named = [str(part) for pair in (*files, ("--ssl-ca-certfile", self.keys.ca)) for part in pair]
        return [*named, "--enable-supernode-auth"]

    def _child(self, name: str, command: list[str], address: tuple[str, int]) -> None:
        child = Child(
            name, command, self.folder / "flower", self.folder / f"{name.removeprefix('the ').replace(' ', '-')}.log"
        )
        self.children.append(child)
        wait_open(child, address)

    def check(self) -> None:
        """Raise if a process has ended."""
        for child in self.children:
            child.check()

    def stop(self) -> None:
        """End the processes, the door first."""
        for child in reversed(self.children):
            child.stop()

    @contextmanager
    def seat(self, held: dict[str, bytes], say: Callable[[str], None]) -> Iterator[Caller]:
        """Register the keys, start a run and sit down in it."""
        nodes = register(self.address, self.ca, held)
        seat = ServerSeat(self.address, self.ca, self.secret, start_run(self.address, self.ca))
        why = "the server ended"
        try:
            yield Caller(seat.grid, nodes, self.terms.deadline, ahead=self.terms.ahead, alive=self.check, say=say)
            why = ""
        finally:
            seat.leave(why)


@contextmanager
def _link(folder: Path, terms: Terms, keys: ServerKeys | None) -> Iterator[_Link]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    link = _Link(folder, terms, keys)
    with ExitStack() as stack:
        stack.callback(link.stop)
        link.start()
        yield link
