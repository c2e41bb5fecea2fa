"""Everything that depends on Flower's internal interfaces, version 1.41.

`reply_poller` depends on more of them (a reply arrives in parts), and `gateway` (what a node signs).

Both ends run with `--isolation process`, a public option: Flower carries messages and starts no program of its own.  So
no code that comes over the network is ever run.  A run must ship an app; ours is empty and is never unpacked.
Tasks are assigned by a secret that only this process and its Flower process have.

    operator   control interface: register a site's public key, list nodes, start a run       loopback of the server
    server     runtime interface: take the run's one task, push messages, pull replies        loopback of the server
    site       runtime interface: take a task per message, answer it                          loopback of the site
               fleet interface: deregister a node that ended and could not do so itself       the gateway

Source: flwr 1.41.0, flwr.supercore.control, flwr.supercore.runtime, flwr.superlink.grid, flwr.supernode.runtime.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from consilium.core.errors import Failed, Refused
from consilium.core.files import read_bytes

from .reply_poller import Replies

__all__ = ["Heart", "NodeSeat", "ServerSeat", "depart", "register_sites", "start_run"]

_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})
_APP = b"""[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "consilium-rounds"
version = "1.0.0"
description = "An empty app: both ends run the code that is installed there."
license = "Apache-2.0"
dependencies = ["flwr>=1.41"]
[tool.flwr.app]
publisher = "consilium"
[tool.flwr.app.components]
serverapp = "nothing:app"
clientapp = "nothing:app"
[tool.flwr.app.config]
"""


def register_sites(address: str, ca: bytes | None, sites: Mapping[str, bytes]) -> dict[str, int]:
    """Make the registered keys those of ``sites``: add the new, remove the others.  Returns each site's node id."""
    from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest

    client = _control(address, ca)
    try:
        registered = {node.public_key: node for node in client.ListNodes(ListNodesRequest()).nodes_info}
        for key, node in registered.items():
            if key not in sites.values():
                client.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        return {
            site: int(registered[key].node_id)
            if key in registered
            else int(client.RegisterNode(RegisterNodeRequest(public_key=key, name=site)).node_id)
            for site, key in sites.items()
        }
    finally:
        client.close()


def start_run(address: str, ca: bytes | None) -> int:
    """Start a run of the empty app; returns its id.

    Raises Failed: Flower started no run.
    """
    from flwr.cli.build import build_fab_from_files
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.fab import Fab

    content, _ = build_fab_from_files({"pyproject.toml": _APP, "nothing.py": b"app = None\n"})
    fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
    client = _control(address, ca)
    try:
        answer = client.StartRun(StartRunRequest(fab=fab_to_proto(fab)))
    finally:
        client.close()
    if not answer.HasField("run_id"):
        raise Failed("Flower started no run", remedy="see link.log")
    return int(answer.run_id)


def depart(address: str, ca: Path, key: Path, node: int, seconds: float = 10.0) -> bool:
    """Deregister ``node``, which ended without doing so; True if Flower's server acknowledged it.

    Without it the link takes the node for alive for a minute, and refuses the key to the next one.
    """
    import httpx
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    private = load_ssh_private_key(read_bytes(key, 1 << 20), None)
    assert isinstance(private, EllipticCurvePrivateKey)
    version_header = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    signed = NodeAuthHttpInterceptor(private, private.public_key())
    client = FleetHttpClient.from_server_address(address, False, str(ca), interceptors=[version_header, signed])
    client._client.timeout = httpx.Timeout(seconds)
    try:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))
    except httpx.HTTPStatusError as error:
        return int(error.response.status_code) < 500  # it is deregistered already
    except httpx.HTTPError:
        return False
    finally:
        client.close()
    return True


class Heart:
    """Sends a heartbeat of a task every few seconds, until it is stopped."""

    def __init__(self, client: Any, every: float = 10.0) -> None:
        self.client, self.every, self._end = client, every, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._end.set()
        self._thread.join(5)

    def _beat(self) -> None:
        from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest

        while not self._end.wait(self.every):
            with suppress(Exception):  # the task's own calls report the error
                self.client.SendTaskHeartbeat(SendTaskHeartbeatRequest())


class ServerSeat:
    """The server's side of a run: ``grid`` carries messages to nodes and back; ``alive`` raises when Flower ended."""

    def __init__(
        self, address: str, ca: bytes | None, secret: bytes, run: int, alive: Callable[[], None], seconds: float = 30.0
    ) -> None:
        from flwr.common.serde import run_from_proto
        from flwr.proto.runtime_pb2 import PullTaskInputRequest
        from flwr.supercore.task_identity import TaskIdentity
        from flwr.superlink.grid import HttpGrid

        token = _wait_for_token(address, ca, secret, seconds)
        self._grid = HttpGrid(address, insecure=ca is None, root_certificates=ca, token=token)
        self._grid._retry_invoker = _RetryInvoker(alive)
        self._client = self._grid._runtime_client
        self.grid = Replies(self._grid, self._client, run)
        reply = self._client.PullTaskInput(PullTaskInputRequest())
        if reply.run.run_id != run:
            raise Failed(f"Flower handed out run {reply.run.run_id} instead of {run}", remedy="run `serve` again")
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = reply.task_id, run, reply.context.node_id
        self._grid.set_run(run_from_proto(reply.run))
        self._heart = Heart(self._client)

    def births(self) -> dict[int, str]:
        """Since when each node that is there is there."""
        return {int(node.node_id): str(node.last_activated_at) for node in self._grid.get_nodes()}

    def leave(self, why: str = "") -> None:
        """End the run: completed, or failed because of ``why``."""
        self._heart.stop()
        with suppress(Exception):
            _finish(self._client, why)
        self._grid.close()


class _RetryInvoker:
    """Repeats a call for a minute while Flower's server does not answer or fails, unless ``alive`` raises.

    Flower's own retries never end, and send an interrupt to this process when they are refused.
    """

    def __init__(self, alive: Callable[[], None]) -> None:
        self._alive = alive

    def invoke(self, call: Callable[[], Any]) -> Any:
        """The result of ``call``."""
        import httpx

        end = time.monotonic() + 60
        while True:
            try:
                return call()
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
                if status == 413:
                    raise
                if 0 < status < 500:
                    remedy = "run `serve` again: it resumes after the last finished round"
                    raise Failed(f"Flower's server ended this run (status {status})", remedy=remedy) from error
                self._alive()
                if time.monotonic() > end:
                    what = f"it fails with status {status}" if status else type(error).__name__
                    raise Failed(f"Flower's server does not answer: {what}", remedy="see link.log") from error
            time.sleep(0.5)


class NodeSeat:
    """A site's side of a run: the messages that its node has received, answered one at a time.

    Each message has a thread of its own until it is complete: a run that ends while its message is in transit leaves a
    task in the node whose message never arrives, and that thread alone waits for it.
    """

    def __init__(self, address: str, secret: bytes, failed: Callable[[Exception], None]) -> None:
        self.address, self._desk, self._failed = address, _desk(address, None, secret), failed
        self._turn = threading.Lock()

    def answer(self, handler: Callable[[Any], Any]) -> bool:
        """Begin to answer one message by ``handler`` (Message to RecordDict); False if there is none."""
        token = _token(self._desk, "flwr-clientapp")
        if token is None:
            return False
        threading.Thread(target=self._take, args=(token, handler), name="message", daemon=True).start()
        return True

    def close(self) -> None:
        """Give the connection back."""
        self._desk.close()

    def _take(self, token: str, handler: Callable[[Any], Any]) -> None:
        client = _seated(self.address, None, token)
        heart = Heart(client)
        try:
            self._one(client, handler)
        except Exception as error:  # the node or the message is gone: the server repeats its request
            self._failed(error)
        finally:
            heart.stop()
            client.close()

    def _one(self, client: Any, handler: Callable[[Any], Any]) -> None:
        from flwr.app import Message
        from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

        message, context, _, _ = pull_task_input(client)
        with self._turn:
            content = handler(message)
        push_message(client, Message(content, reply_to=message), context)
        _finish(client, "")


def _control(address: str, ca: bytes | None) -> Any:
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    return ControlHttpClient.from_server_address(
        address, ca is None, ca, interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
    )


def _desk(address: str, ca: bytes | None, secret: bytes) -> Any:
    """The runtime interface as one who may take tasks."""
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    signed = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE)
    spoken = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    return RuntimeHttpClient.from_server_address(address, ca is None, ca, interceptors=[spoken, signed])


def _seated(address: str, ca: bytes | None, token: str) -> Any:
    """The runtime interface as the holder of one task."""
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    version_header = RuntimeVersionHttpInterceptor(component_name="flwr-clientapp")
    token_header = RuntimeTokenHttpInterceptor(token)
    return RuntimeHttpClient.from_server_address(address, ca is None, ca, interceptors=[version_header, token_header])


def _token(desk: Any, kind: str) -> str | None:
    from flwr.proto.runtime_pb2 import AcquireTaskRequest

    reply = desk.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
    return str(reply.token) if reply.HasField("task") and reply.token else None


def _wait_for_token(address: str, ca: bytes | None, secret: bytes, seconds: float) -> str:
    desk, end = _desk(address, ca, secret), time.monotonic() + seconds
    try:
        while (token := _token(desk, "flwr-serverapp")) is None:
            if time.monotonic() > end:
                raise Refused("the run's task was not handed out", remedy="run `serve` again")
            time.sleep(0.1)
        return token
    finally:
        desk.close()


def _finish(client: Any, why: str) -> None:
    from flwr.common.constant import SubStatus
    from flwr.proto.runtime_pb2 import PushTaskOutputRequest

    status = SubStatus.FAILED if why else SubStatus.COMPLETED
    client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=why))
