"""Seals: SHA-256 of what was written, so that a record or a file that was changed since is noticed.

    record   its field "seal" is the digest of the canonical JSON of all its other fields; a second field, "sealed",
             records that there is one, so no single changed byte makes it look like a record from before seals existed
    file     the digest of its bytes is in a sealed record beside it

A seal finds what a disk, a copy or an editor did to a file.  It holds no key: who changes a record and computes its
seal anew is not found.  Against such a forger, sign the folder or keep its seals elsewhere.

Source: FIPS 180-4 (SHA-256); the canonical form is that of :func:`json.dumps` with sorted keys and no spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from .errors import Refused
from .files import opened

__all__ = ["SEAL", "file_digest", "is_altered", "is_sealed", "seal_of", "sealed", "unsealed"]

SEAL = "seal"
"""The field of a record that holds its seal."""
_Value = TypeVar("_Value")
_MARK, _HOW = "sealed", "SHA-256"


def sealed(record: Mapping[str, object]) -> dict[str, object]:
    """``record`` with its seal as its last field, in place of one that it has."""
    return {**unsealed(record), _MARK: _HOW, SEAL: _digest(record)}


def unsealed(record: Mapping[str, _Value]) -> dict[str, _Value]:
    """``record`` without its seal."""
    return {name: value for name, value in record.items() if name not in (_MARK, SEAL)}


def is_altered(record: Mapping[str, object]) -> bool:
    """True where the seal of ``record`` does not hold; one without a seal, from before there were any, is not."""
    return is_sealed(record) and (record.get(_MARK) != _HOW or record.get(SEAL) != _digest(record))


def is_sealed(record: Mapping[str, object]) -> bool:
    """True where ``record`` declares or has a seal; whether the seal is valid is not checked here."""
    return SEAL in record or _MARK in record


def seal_of(record: Mapping[str, object]) -> str | None:
    """The seal that ``record`` has; None without one."""
    seal = record.get(SEAL)
    return seal if isinstance(seal, str) else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal, as ``sha256sum`` prints it; Refused where it cannot be read.

    Raises Refused: the file cannot be read.
    """
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", remedy="put the file back") from error


def _digest(record: Mapping[str, object]) -> str:
    plain = json.loads(json.dumps(unsealed(record)))  # as it is read back: keys are text, tuples are lists
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
