"""The gateway: the one published port.  It forwards calls of Flower's fleet interface and refuses all others.

Flower serves fleet, control and runtime interfaces on one port, and node keys protect the fleet alone: any client of
the rest can start a run, register a key or fetch a task.  So Flower's server listens on the loopback only, behind this
gateway: TLS, then one strict reading of each request, then the node's signature, and only then a body.

    stream      bytes of a connection, read only on demand: a client cannot fill the gateway's memory
    head        the strict reading of a request's head
    signature   which node signed it; each signature is accepted once
    sender      a node pushes replies in its own name only
    admission   how many connections and bytes each party may have at once
    door        accepts connections and forwards the requests that pass

Needs no torch.
"""

from __future__ import annotations

from .door import Gateway, Listener
from .head import CALLS, ConnectionLimits, Denied, Head, read_head
from .node_authentication import Signatures

__all__ = ["CALLS", "ConnectionLimits", "Denied", "Gateway", "Head", "Listener", "Signatures", "read_head"]
