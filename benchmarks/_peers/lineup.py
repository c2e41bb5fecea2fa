"""Who races on which job, and the bars that Consilium set itself.

Peers stand as they come and as well as we could tune them; bars hold against both.  Peers train in fp32; the loop also
in bf16, so that the gain of the precision is not taken for one of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from .race import Entrant

PLAIN = Entrant("plain loop, 2 threads", "plain", counts="plain")
FLOWER = Entrant("Flower, FedAvg.start", "flower", {"wait": "shipped"}, "flower")
POLLED = Entrant("Flower, replies polled every 2 ms", "flower", {"wait": "polled"}, "flower, tuned")
PFL = Entrant("pfl, 1 process x 2 threads", "pfl", {"processes": "1", "threads": "2"}, "pfl")
PFL2 = Entrant("pfl, 2 processes x 1 thread", "pfl", {"processes": "2", "threads": "1"}, "pfl, tuned")
PLAIN_LAST = Entrant("plain loop, channels-last", "plain", {"layout": "channels-last"})
PLAIN_BF16 = Entrant("plain loop, bf16, channels-last", "plain", {"layout": "channels-last", "precision": "bf16"})
PEERS = [PLAIN, FLOWER, POLLED, PFL, PFL2]

LOOP = Entrant("Consilium loop", "loop", {}, "own fp32")
POOL = Entrant("Consilium pool", "pool", {}, "own fp32")
STACKED = Entrant("Consilium stacked", "stacked", {}, "own fp32")
COMPILED = Entrant("Consilium stacked, compiled", "stacked", {"compile": "yes"}, "own fp32")
AUTO = Entrant("Consilium auto", "auto", {}, "own fp32")
LAST = Entrant("Consilium pool, channels-last", "pool", {"layout": "channels-last"}, "own fp32")
BF16 = Entrant(
    "Consilium pool, bf16, channels-last", "pool", {"layout": "channels-last", "precision": "bf16"}, "own bf16"
)


def product(engine: str, **knobs: str) -> Entrant:
    """All that a study does in a round: the engine, the assessment of every site, the log, the checkpoint."""
    return Entrant("Consilium, a study's whole round", "product", {"engine": engine, **knobs})


SMALL = [LOOP, POOL, STACKED, COMPILED, AUTO, product("stacked", compile="yes")]
IMAGES = [PLAIN_LAST, PLAIN_BF16, LOOP, POOL, LAST, BF16, product("pool", layout="channels-last")]
ENTRANTS: Mapping[str, list[Entrant]] = {
    "logistic": [*PEERS, *SMALL],
    "mlp": [*PEERS, *SMALL],
    "cnn": [*PEERS, *IMAGES],
    "resnet9": [*PEERS, *IMAGES],
    "sites": [LOOP, POOL, STACKED],
}

AGAINST = ("flower", "flower, tuned", "pfl", "pfl, tuned", "plain")
BARS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "logistic": {"fp32": (25, 6, 5)},
    "mlp": {"fp32": (14, 5, 4)},
    "cnn": {"fp32": (2.2, 1.8, 1.8), "bf16": (3, 2.4, 2.4)},
    "resnet9": {"fp32": (1.3, 1.2, 1.2), "bf16": (2.2, 2.1, 2.1)},
}
"""Times faster than Flower, pfl and the plain loop."""


def bar(job: str, precision: str, against: str) -> float:
    """The bar of one cell; a tuned peer has that of the peer."""
    return BARS[job][precision][("flower", "pfl", "plain").index(against.removesuffix(", tuned"))]
