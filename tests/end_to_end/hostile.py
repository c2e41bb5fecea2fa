"""A site with a valid key that sends what no site may send: one kind of attack in each round, and honest work between.

    python hostile.py ADDRESS SITE KEY CA STATE

It is the site's own program with another worker; everything below it (node, TLS, signatures) is as it should be.
"""

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path

import torch

from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.enrolment import Enrolment, encode_enrolment
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.deploy.site.site import SiteConnection, join
from consilium.deploy.site.site_data import holding_of
from consilium.deploy.site.worker import Worker
from consilium.deploy.transport.flower import answer_of, message_bytes, says


def of_type(dtype):
    return lambda update, study: sent(update, study, delta=update.payload["delta"].to(dtype))


def of_value(value):
    return lambda update, study: sent(update, study, delta=torch.full_like(update.payload["delta"], value))


def one_value(value):
    def forge(update, study):
        delta = update.payload["delta"].clone()
        delta[7] = value
        return sent(update, study, delta=delta)

    return forge


def sent(update, study, **payload):
    return wire.encode_update(replace(update, payload={**update.payload, **payload}), study)


def declared(update, study):
    """A tensor of 2^40 numbers, by its index alone."""
    data = wire.encode_update(replace(update, payload={}), study)
    index = {"payload/delta": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    text = json.dumps(index).encode()
    return data + struct.pack("<Q", len(text)) + text


def long_header(update, study):
    """A header of two gigabytes, by its length alone."""
    data = bytearray(wire.encode_update(update, study))
    data[6:10] = struct.pack("<I", (1 << 31) - 1)
    return bytes(data)


ATTACKS = {
    2: ("a weight of 1e12", lambda update, study: wire.encode_update(replace(update, weight=1e12), study), "weighs"),
    3: ("int64", of_type(torch.int64), "int64"),
    4: ("float16", of_type(torch.float16), "float16"),
    5: ("float64", of_type(torch.float64), "float64"),
    6: ("3e38", of_value(3e38), "long"),
    7: ("1e12, finite", of_value(1e12), "breaks the merged model"),
    8: ("one NaN", one_value(float("nan")), "not finite"),
    9: ("one infinity", one_value(float("-inf")), "not finite"),
    10: ("another shape", lambda u, study: sent(u, study, delta=u.payload["delta"][:-1]), "shape"),
    11: ("a tensor more", lambda u, study: sent(u, study, control=u.payload["delta"]), "control"),
    12: ("another's name", lambda update, study: wire.encode_update(replace(update, site="site-0"), study), "site-0"),
    13: ("another round", lambda update, study: wire.encode_update(replace(update, round=3), study), "round 3"),
    14: ("2^40 numbers", declared, "shape"),
    15: ("a header of 2 GiB", long_header, "header"),
    16: ("6 MB of noise", lambda *_: torch.randint(0, 256, (6_000_000,), dtype=torch.uint8).numpy().tobytes(), "not a"),
    17: ("no answer in its answer", None, "no answer"),
}
"""By round: what it is, what is sent in the place of the honest update, and what the server says of it."""

ENROLMENTS = [
    lambda honest: replace(honest, weight=1e12),
    lambda honest: replace(honest, train=1 << 40, weight=float(1 << 40)),
    lambda honest: replace(honest, site="site-0"),
]
"""What it declares before it declares the truth."""


class Hostile(Worker):
    """The worker of a site that lies."""

    lies = iter(ENROLMENTS)

    def __call__(self, message):
        answer = super().__call__(message)
        if says(message, "hold") or says(message, "greet") or self.round not in ATTACKS or ATTACKS[self.round][1]:
            return answer
        return answer_of({"token": message_bytes(message, "token")})

    round = 0

    def _work(self, study, digest, question):
        honest = super()._work(study, digest, question)
        self.round = wire.decode_broadcast(question, wire.Context(digest)).round
        _, forge, _ = ATTACKS.get(self.round, ("", None, ""))
        update = wire.decode_update(honest, wire.Context(digest)).update
        return honest if forge is None else forge(update, digest)

    def _answer(self, study, digest, question):
        if wire.kind_of(question) != "request":
            return super()._answer(study, digest, question)
        lie = next(self.lies, None)
        enrolment: Enrolment = study.enrolment if lie is None else lie(study.enrolment)
        return encode_enrolment(enrolment, digest)


def main(address, site, key, ca, state):
    folder = Path(state)
    worker = Hostile(site, holding_of("study"), folder / "studies", Guard(SiteLimits(), folder / "ledger"))
    join(SiteConnection(address, Path(key), Path(ca)), worker, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
