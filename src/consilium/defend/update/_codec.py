"""An update codec: what a site sends is written in fewer bytes, and the server reads it back before anything else.

    at the site   v = u + e,  send C(v),  e <- v - D(C(v))        (e: error feedback, kept at the site; 0 without it)
    at the server D(C(v)), or a refusal by name

Every entry of more than one number is compressed except ``buffers`` (running statistics, in which an error has another
meaning), which are sent unchanged.  Sizes are those that the algorithm expects, never the message's, so a message
cannot make the server reserve memory.  The input was clipped and noised before (LAWS 1): compressing it is
post-processing and costs no privacy, and neither does the residual, which is a function of noised updates alone.

Source: Seide et al. 2014, 1-Bit Stochastic Gradient Descent (Interspeech); Stich et al. 2018, arXiv 1809.07599
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.defence import UpdateDefence
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.update import Payload, Update

__all__ = ["Codec", "refuse", "scales"]

_EXACT = "buffers"
_RESIDUAL = "residual"


@dataclass(frozen=True)
class Codec(UpdateDefence, ABC):
    """Site half encodes, server half decodes; a subclass writes how one flat tensor becomes parts and back."""

    stage: ClassVar[Literal["clip", "noise", "compress", "mask"]] = "compress"

    @property
    def corrects(self) -> bool:
        """True with error feedback: what was not sent is added to the next update."""
        return False

    @abstractmethod
    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """Type and length of every part that encodes ``size`` numbers."""

    @abstractmethod
    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """The parts of ``vector (n,)``, and the codec's next ``memory`` beside the residual."""

    @abstractmethod
    def decode(self, parts: Payload, size: int) -> Tensor:
        """float32 ``(size,)``.  Types and lengths of ``parts`` are right; what else is wrong is refused."""

    def protect(self, update: Update, memory: Payload, stream: Stream) -> tuple[Update, Payload]:
        """The site half: every part under ``entry.part``; residuals stay at the site."""
        sent: dict[str, Tensor] = {}
        next_memory: dict[str, Tensor] = {}
        for name, tensor in update.payload.items():
            if not _compressed(name, tensor.numel()):
                sent[name] = tensor
                continue
            state = {key.removeprefix(f"{name}."): t for key, t in memory.items() if key.startswith(f"{name}.")}
            parts, after = self._encoded(tensor.float().reshape(-1), state, stream.child(name))
            sent |= {f"{name}.{part}": t for part, t in parts.items()}
            next_memory |= {f"{name}.{part}": t for part, t in after.items()}
        return replace(update, payload=sent), next_memory

    def enforce(self, update: Update, expected: Mapping[str, tuple[int, ...]]) -> Update:
        """The server half: the decoded update, or a refusal that names the part and what is wrong with it."""
        unread, payload = dict(update.payload), {}
        for name, shape in expected.items():
            size = math.prod(shape)
            if not _compressed(name, size):
                payload[name] = _take(unread, name, self.kind())
                continue
            parts = {part: _part(unread, f"{name}.{part}", *of, self.kind()) for part, of in self.wire(size).items()}
            try:
                payload[name] = self.decode(parts, size).reshape(shape)
            except Refused as error:
                raise refuse(f"{self.kind()}: {name}: {error.reason}") from error
        if unread:
            raise refuse(f"{self.kind()}: {min(unread)!r} is no part of the message")
        return replace(update, payload=payload)

    def _encoded(self, tensor: Tensor, state: Payload, stream: Stream) -> tuple[Payload, Payload]:
        vector = tensor + state[_RESIDUAL] if _RESIDUAL in state else tensor
        parts, after = self.encode(vector, state, stream.generator(vector.device))
        if not bool(vector.isfinite().all()):  # the server will refuse it; the site must not carry it on for ever
            return parts, state
        if self.corrects:
            after = {**after, _RESIDUAL: vector - self.decode(parts, vector.numel())}
        return parts, after


def refuse(reason: str) -> Refused:
    """What is wrong with a message; the server leaves its sender out of the round."""
    return Refused(reason, remedy="leave this site out")


def scales(values: Tensor) -> Tensor:
    """``values`` if it can be a scale: finite and not negative."""
    if not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise refuse("a scale is negative or not finite")
    return values


def _compressed(name: str, size: int) -> bool:
    return name != _EXACT and size > 1


def _take(parts: dict[str, Tensor], name: str, kind: str) -> Tensor:
    if name not in parts:
        raise refuse(f"not encoded by {kind}: {name} is missing")
    return parts.pop(name)


def _part(parts: dict[str, Tensor], name: str, dtype: torch.dtype, length: int, kind: str) -> Tensor:
    part = _take(parts, name, kind)
    if part.dtype != dtype or tuple(part.shape) != (length,):
        raise refuse(f"{kind}: {name} is {part.dtype} {tuple(part.shape)}, not {dtype} ({length},)")
    return part
