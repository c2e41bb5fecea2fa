"""The front door: the one published port.  It lets the fleet's calls through and nothing else.

Flower serves fleet, control and runtime interfaces on one port, and node keys protect the fleet alone: whoever reaches
the rest can start a run, register a key or fetch a task.  So the link listens on the loopback only, and this door
stands before it: TLS, then one strict reading of each request, then the node's signature, and only then a body.

    stream      bytes of a connection, read only when asked for: nobody makes the door hold what it has not asked for
    head        the strict reading of a request's head
    signature   which node has signed it; each signature is good once
    sender      a node pushes replies in its own name only
    admission   how many connections and bytes each party may have at once
    door        listens, and passes what may pass

Needs no torch.
"""

from __future__ import annotations

from .door import Gateway, Listener
from .head import CALLS, ConnectionLimits, Denied, Head, read_head
from .node_authentication import Signatures

__all__ = ["CALLS", "ConnectionLimits", "Denied", "Gateway", "Head", "Listener", "Signatures", "read_head"]
