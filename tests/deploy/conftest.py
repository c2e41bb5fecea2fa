"""A node as the gateway sees it: a key, and what it signs, written without Flower."""

import datetime
from base64 import b64encode

import pytest


class Node:
    """A key on P-384 and the three fields of its calls."""

    def __init__(self):
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP384R1())
        self.rule = ec.ECDSA(hashes.SHA256())
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        self.pem = self.key.public_key().public_bytes(*form)

    def sign(self, stamp):
        return self.key.sign(stamp.encode(), self.rule)

    def fields(self, moment, *, pem=None, stamp=None, signature=None):
        """What a call at ``moment`` carries; any of the three can be another."""
        stamp = stamp or datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat()
        signature = self.sign(stamp) if signature is None else signature
        return (
            (b"flwr-public-key", b64encode(pem or self.pem)),
            (b"flwr-timestamp", stamp.encode()),
            (b"flwr-signature", b64encode(signature)),
        )

    def lines(self, moment, **more):
        """The same as lines of a head."""
        return b"".join(name + b": " + value + b"\r\n" for name, value in self.fields(moment, **more))


@pytest.fixture
def new_node():
    """Makes nodes with a new key each."""
    pytest.importorskip("cryptography", reason="the extra flower is not installed")
    return Node
