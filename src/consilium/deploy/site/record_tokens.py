"""Which patients a study learns from, without revealing who they are.

    token(record) = BLAKE2b(key; the record's input)          16 bytes, keyed by the site's secret
    a person      = the tokens of all records of one unit (and of its stable name, if the site gives names)

Tokens depend on content alone: not on the order of records, their numbers, their labels, or the study.  Two data sets
share a person where they share one token, so adding records, leaving some out or renaming the file does not make a
fresh budget.  Records that are exported again (other size, other scaling) have other content: only names identify
those.

Source: RFC 7693 (BLAKE2)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from consilium.core.errors import Refused
from consilium.core.records import Records

__all__ = ["SIZE", "Fingerprint", "fingerprint", "split_tokens"]

SIZE = 16
"""Bytes of a token."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """``persons``: which tokens each person has; ``n`` records; ``order``: a digest of records and labels in order.

    Labels that are randomised once are the same again only where ``order`` is.
    """

    persons: tuple[frozenset[bytes], ...]
    n: int
    order: str

    def tokens(self) -> bytes:
        """Every token once, sorted, end to end."""
        return b"".join(sorted(frozenset().union(*self.persons)))

    def digest(self) -> str:
        """SHA-256 of :meth:`tokens`, as hex: equal for equal sets of records."""
        return hashlib.sha256(self.tokens()).hexdigest()

    def shares(self, known: Mapping[str, frozenset[bytes]]) -> frozenset[frozenset[str]]:
        """Which of the ``known`` token sets hold a person, as one set a case; the largest cases only."""
        owners: dict[bytes, list[int]] = {}
        for number, person in enumerate(self.persons):
            for token in person:
                owners.setdefault(token, []).append(number)
        token_sets: list[set[str]] = [set() for _ in self.persons]
        for name, tokens in known.items():
            for token in owners.keys() & tokens:
                for number in owners[token]:
                    token_sets[number].add(name)
        cases = {frozenset(case) for case in token_sets}
        return frozenset(case for case in cases if not any(case < other for other in cases))


def fingerprint(records: Records, key: bytes, names: Sequence[str] | None = None) -> Fingerprint:
    """The fingerprint of ``records`` under ``key`` (32 bytes); ``names`` are stable names of their units, one a record.

    A person is a unit of ``records``; records with the same content, or the same name, are the same person's.

    Raises Refused: no records, or another number of names.
    """
    if not len(records):
        raise Refused("there are no training records", remedy="check the site's data")
    if names is not None and len(names) != len(records):
        raise Refused(f"{len(names)} names for {len(records)} records", remedy="give each record the name of its unit")
    flat = (records.x.detach().cpu().to(torch.float32).reshape(len(records), -1) + 0.0).contiguous()  # + 0.0: no -0.0
    content = [_token(key, b"content", row.tobytes()) for row in flat.numpy()]
    order = hashlib.blake2b(b"".join(content), key=key)
    order.update(records.y.detach().cpu().contiguous().numpy().tobytes())
    persons: dict[int, set[bytes]] = {}
    for number, (unit, token) in enumerate(zip(records.units.tolist(), content, strict=True)):
        person = persons.setdefault(unit, set())
        person.add(token)
        if names is not None:
            person.add(_token(key, b"name", names[number].encode()))
    return Fingerprint(tuple(map(frozenset, persons.values())), len(records), order.hexdigest()[:32])


def split_tokens(data: bytes) -> frozenset[bytes]:
    """What :meth:`Fingerprint.tokens` joined."""
    return frozenset(data[at : at + SIZE] for at in range(0, len(data), SIZE))


def _token(key: bytes, what: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=SIZE, key=key, person=what).digest()
