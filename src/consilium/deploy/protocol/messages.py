"""The messages of a federation of real machines, to bytes and back.

    server -> site    study request, broadcast (train), model (assess)
    site -> server    update, assessment, refusal

Every message names its kind, the digest of the study that it belongs to, and its round; a reader says what it waits for
and gets that or one `Refused` line: wrong kind, study, round or site, unknown or missing names, wrong shapes or types,
numbers that are not finite.  An update carries a nonce, new for every update that is made and the same when the
stored bytes are sent again, which distinguishes a second update from a copy.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import torch
from torch import Tensor

from consilium.core.algorithm import Broadcast, Server
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.plain import Json
from consilium.core.update import Update
from consilium.federate.client.assessment import Assessment

from .framing import Bounds, Frame, canonical, heading, pack, quoted, unpack

__all__ = [
    "Context", "RefusalMessage", "Sealed", "StudyRequest", "decode_assessment", "decode_broadcast", "decode_model",
    "decode_refusal", "decode_request", "decode_update", "encode_assessment", "encode_broadcast", "encode_model",
    "encode_refusal", "encode_request", "encode_update", "kind_of",
]  # fmt: skip

_KINDS = ("request", "broadcast", "model", "update", "assessment", "refusal")
_REQUEST_BYTES = Bounds(bytes=1 << 20, header=1 << 20, tensors=0)
_NOTE_BYTES = Bounds(bytes=1 << 16, header=1 << 15, tensors=0)
_MOST_ROUNDS = 1_000_000
_OF_ONE_TRAINING = ("arm", "seed", "training", "constants")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Context:
    """What a reader waits for: the study's digest, the round (None: any), and how much it will read.

    ``shapes`` are the names and shapes that the tensors must have; None where they are not known beforehand.
    """

    study: str
    round: int | None = None
    bounds: Bounds = field(default_factory=Bounds)
    shapes: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class StudyRequest:
    """A server's request to a site before the first round, as plain JSON; the site checks it against its own limits.

    ``study`` is the study's name, ``model``, ``algorithm`` and ``defences`` are configurations of entries, ``sites``
    how many take part, ``local_epochs`` and ``batch`` the local work of each of ``rounds``.  ``assess``: aggregates on
    the site's own held-out records are asked for.  ``code``: the study names a user's import path.  ``plan`` is
    whatever else the two ends need to build the same objects (seed, data shapes, classes): it is carried, not judged.
    """

    study: str
    rounds: int
    sites: int
    local_epochs: int
    batch: int
    algorithm: Mapping[str, Json]
    model: Mapping[str, Json]
    defences: tuple[Mapping[str, Json], ...] = ()
    assess: bool = True
    code: bool = False
    plan: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Plain JSON, one value a field."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def digest(self) -> str:
        """SHA-256 of its canonical JSON, as hex: the study's name in every later message."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()

    def study_digest(self) -> str:
        """SHA-256 of what all trainings of one study among the same sites have in common, as hex.

        A site can name it in its limits before it joins; frozen parameters are compared apart.
        """
        same = {name: value for name, value in self.plan.items() if name not in _OF_ONE_TRAINING}
        if isinstance(names := same.get("roster"), list):
            same["roster"] = sorted(str(name) for name in names)
        return hashlib.sha256(canonical({"study": self.study, **same})).hexdigest()


@dataclass(frozen=True, eq=False)
class Sealed:
    """An update as it came: which one of possibly many (``nonce``), and what is in it."""

    nonce: str
    update: Update


@dataclass(frozen=True)
class RefusalMessage:
    """A site's refusal: the limit (``where``), the reason, and the remedy."""

    site: str
    round: int
    where: str
    reason: str
    remedy: str = ""

    @classmethod
    def of(cls, error: ConsiliumError, site: str, round: int = 0) -> RefusalMessage:
        """The refusal that reports ``error`` to the server; round 0 is before the first one."""
        where, reason, remedy = (_line(text) for text in (error.where, error.reason, error.remedy))
        return cls(site, round, where[:200], reason[:1000] or "no reason is given", remedy[:1000])

    def error(self) -> Refused:
        """The same as an error at the server, under the site's name."""
        return Refused(self.reason, remedy=self.remedy, where=f"{self.site}.{self.where}" if self.where else self.site)


def encode_request(request: StudyRequest) -> bytes:
    """A study request."""
    return pack(Frame({"kind": "request", "study": request.digest(), "request": request.to_json()}, {}))


def decode_request(data: bytes) -> StudyRequest:
    """The requested study; refused where its digest is not that of its content."""
    header = _header(unpack(data, _REQUEST_BYTES), "request", {"study", "request"})
    table = header["request"]
    if not isinstance(table, dict):
        _refuse("request", "describes no study")
    _names(set(table), set(StudyRequest.__dataclass_fields__), "request")
    request = StudyRequest(
        study=_text(table, "study", 200),
        rounds=_count(table, "rounds", 1),
        sites=_count(table, "sites", 1),
        local_epochs=_count(table, "local_epochs", 1),
        batch=_count(table, "batch", 0),
        algorithm=_entry(table["algorithm"], "algorithm"),
        model=_entry(table["model"], "model"),
        defences=tuple(_entry(defence, "defence") for defence in _list(table, "defences")),
        assess=_flag(table, "assess"),
        code=_flag(table, "code"),
        plan=_table(table, "plan"),
    )
    if header["study"] != request.digest():
        _refuse("request", "is not the study whose digest it carries")
    return request


def encode_broadcast(broadcast: Broadcast, study: str) -> bytes:
    """What every site of a round receives."""
    tensors = {"params": broadcast.params, "buffers": broadcast.buffers}
    tensors |= {f"extra/{name}": tensor for name, tensor in broadcast.extra.items()}
    return pack(Frame({"kind": "broadcast", "study": study, "round": broadcast.round}, tensors))


def decode_broadcast(data: bytes, context: Context) -> Broadcast:
    """The broadcast of ``context.round``; ``context.shapes`` names ``params``, ``buffers`` and ``extra/...``."""
    frame = unpack(data, context.bounds)
    header = _header(frame, "broadcast", {"study", "round"}, context)
    tensors = _tensors(frame, "broadcast", context.shapes)
    extra = _below(tensors, "extra", {"params", "buffers"}, "broadcast")
    return Broadcast(_round(header), tensors["params"], tensors["buffers"], extra)


def encode_model(server: Server, study: str) -> bytes:
    """The model that is to be assessed after ``server.round`` rounds; the server's memory stays where it is."""
    header: dict[str, Json] = {"kind": "model", "study": study, "round": server.round, "population": server.population}
    return pack(Frame(header, {"params": server.params, "buffers": server.buffers}))


def decode_model(data: bytes, context: Context) -> Server:
    """The model to assess; its memory is empty."""
    frame = unpack(data, context.bounds)
    header = _header(frame, "model", {"study", "round", "population"}, context)
    tensors = _tensors(frame, "model", context.shapes)
    _names(set(tensors), {"params", "buffers"}, "model")
    population = _count(header, "population", 1)
    return Server(_round(header), tensors["params"], tensors["buffers"], population=population)


def encode_update(update: Update, study: str, nonce: str | None = None) -> bytes:
    """One site's update; encode it once, keep the bytes, and send the same bytes when the request is repeated."""
    header: dict[str, Json] = {"kind": "update", "study": study, "round": update.round, "site": update.site}
    header |= {"weight": float(update.weight), "nonce": secrets.token_hex(16) if nonce is None else nonce}
    return pack(Frame(header, {f"payload/{name}": tensor for name, tensor in update.payload.items()}))


def decode_update(data: bytes, context: Context) -> Sealed:
    """An update of ``context.round``; ``context.shapes`` are those of its payload as it travels (None: coded)."""
    frame = unpack(data, context.bounds)
    header = _header(frame, "update", {"study", "round", "site", "weight", "nonce"}, context)
    shapes = None if context.shapes is None else {f"payload/{n}": shape for n, shape in context.shapes.items()}
    payload = _below(_tensors(frame, "update", shapes), "payload", set(), "update")
    weight, nonce = _number(header, "weight"), header["nonce"]
    if weight is None or not 0 < weight <= 1e15:
        _refuse("update", f"has the weight {quoted(weight)}")
    if not isinstance(nonce, str) or not re.fullmatch("[0-9a-f]{32}", nonce):
        _refuse("update", "has no nonce of 32 hexadecimal digits")
    return Sealed(nonce, Update(_text(header, "site", 200), _round(header), weight, payload))


def encode_assessment(assessment: Assessment, study: str, round: int) -> bytes:
    """One site's aggregates of the model after ``round`` rounds."""
    return pack(Frame({"kind": "assessment", "study": study, "round": round, **vars(assessment)}, {}))


def decode_assessment(data: bytes, context: Context) -> Assessment:
    """A site's aggregates: a count, an accuracy within 0 to 1 and a loss that is not negative, or a reason."""
    fields = set(Assessment.__dataclass_fields__)
    header = _header(unpack(data, _NOTE_BYTES), "assessment", {"study", "round", *fields}, context)
    accuracy, loss = _number(header, "accuracy"), _number(header, "loss")
    if accuracy is not None and not 0 <= accuracy <= 1:
        _refuse("assessment", f"has the accuracy {quoted(accuracy)}")
    if loss is not None and loss < 0:
        _refuse("assessment", f"has the loss {quoted(loss)}")
    n, reason = _count(header, "n", 0, most=1 << 53), _text(header, "reason", 1000, empty=True)
    return Assessment(_text(header, "site", 200), n, accuracy, loss, reason)


def encode_refusal(refusal: RefusalMessage, study: str) -> bytes:
    """A site's reason for refusing a request."""
    return pack(Frame({"kind": "refusal", "study": study, **vars(refusal)}, {}))


def decode_refusal(data: bytes, context: Context) -> RefusalMessage:
    """A site's refusal, of any round unless ``context`` names one."""
    fields = set(RefusalMessage.__dataclass_fields__)
    header = _header(unpack(data, _NOTE_BYTES), "refusal", {"study", *fields}, context)
    return RefusalMessage(
        site=_text(header, "site", 200),
        round=_round(header),
        where=_text(header, "where", 200, empty=True),
        reason=_text(header, "reason", 1000),
        remedy=_text(header, "remedy", 1000, empty=True),
    )


def kind_of(data: bytes, bounds: Bounds | None = None) -> str:
    """Which of the six kinds ``data`` declares; its tensors are not read."""
    kind = heading(data, bounds or Bounds())[0].get("kind")
    return kind if isinstance(kind, str) and kind in _KINDS else _refuse("message", f"has the kind {quoted(kind)}")


def _line(text: str) -> str:
    """``text`` on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _header(frame: Frame, kind: str, names: set[str], context: Context | None = None) -> dict[str, Json]:
    """The header of a message of ``kind``, with exactly ``names``, of the study and round that are waited for."""
    header = dict(frame.header)
    if header.get("kind") != kind:
        _refuse("message", f"is {quoted(header.get('kind'))}, not {kind}")
    _names(set(header), {"kind", *names}, kind)
    if "round" in names:
        _round(header)
    if context is not None and header["study"] != context.study:
        _refuse(kind, f"is of the study {quoted(header['study'])}, not {context.study[:12]}...")
    if context is not None and context.round is not None and header["round"] != context.round:
        _refuse(kind, f"is of round {quoted(header['round'])}, not {context.round}")
    return header


def _tensors(frame: Frame, kind: str, shapes: Mapping[str, tuple[int, ...]] | None) -> Mapping[str, Tensor]:
    """The tensors of ``frame``: finite, and with the expected names and shapes where those are known."""
    if shapes is not None:
        _names(set(frame.tensors), set(shapes), kind)
        for name, shape in shapes.items():
            if tuple(frame.tensors[name].shape) != tuple(shape):
                _refuse(kind, f"holds {name} of shape {tuple(frame.tensors[name].shape)}, not {tuple(shape)}")
    for name, tensor in frame.tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            _refuse(kind, f"is not finite in {quoted(name)}")
    return frame.tensors


def _below(tensors: Mapping[str, Tensor], group: str, beside: set[str], kind: str) -> dict[str, Tensor]:
    """The tensors named ``group/...``; all of ``beside`` must be there, and nothing else."""
    group_tensors = {name.removeprefix(f"{group}/"): t for name, t in tensors.items() if name.startswith(f"{group}/")}
    _names({name for name in tensors if not name.startswith(f"{group}/")}, beside, kind)
    if any(not re.fullmatch(r"[a-z0-9][a-z0-9_./-]{0,99}", name) for name in group_tensors):
        _refuse(kind, f"holds a tensor with no usable name below {group}/")
    return group_tensors


def _names(present: set[str], wanted: set[str], kind: str) -> None:
    for name in sorted(present - wanted):
        _refuse(kind, f"holds the unknown {quoted(name)}")
    for name in sorted(wanted - present):
        _refuse(kind, f"holds no {name}")


def _text(table: Mapping[str, Json], name: str, most: int, *, empty: bool = False) -> str:
    """A printable string: untrusted text may be printed on a terminal."""
    value = table[name]
    if not isinstance(value, str) or len(value) > most or not (value or empty) or not value.isprintable():
        _refuse("message", f"has no printable {name} of at most {most} characters")
    return str(value)


def _count(table: Mapping[str, Json], name: str, least: int, most: int = _MOST_ROUNDS) -> int:
    value = table[name]
    if type(value) is not int or not least <= value <= most:
        _refuse("message", f"has {quoted(value)} for {name}, which is {least} to {most}")
    return int(value)


def _round(header: Mapping[str, Json]) -> int:
    return _count(header, "round", 0)


def _number(table: Mapping[str, Json], name: str) -> float | None:
    value = table[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or not math.isfinite(value):
        _refuse("message", f"has {quoted(value)} for {name}, which is a number")
    return float(value)


def _flag(table: Mapping[str, Json], name: str) -> bool:
    return _of(table[name], bool, name)


def _list(table: Mapping[str, Json], name: str) -> list[Json]:
    return _of(table[name], list, name)


def _table(table: Mapping[str, Json], name: str) -> dict[str, Json]:
    return _of(table[name], dict, name)


def _entry(value: object, name: str) -> dict[str, Json]:
    """An entry's configuration: a table with a kind."""
    table = _of(value, dict, name)
    if not isinstance(table.get("kind"), str):
        _refuse("message", f"names no kind of {name}")
    return table


def _of(value: object, kind: type[_T], name: str) -> _T:
    return value if isinstance(value, kind) else _refuse("message", f"has {quoted(value)} for {name}")


def _refuse(what: str, why: str) -> NoReturn:
    raise Refused(f"the {what} {why}", remedy="send what this release sends")
