"""Membership by likelihood ratio: is this answer like those of models trained with the record, or without it?

    phi = log p_y - log(1 - p_y)          per candidate, over shadows with (in) and without it (out)
    online     score = log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2)
    offline    score = (phi - mu_out) / s_out,  of the same order as Pr[N(mu_out, s_out^2) < phi]

mu is the candidate's own.  s too where ``variance`` is ``each``; ``global`` pools the candidates' squared deviations
from their own means, which few shadows need; ``auto`` is ``each`` from 64 shadows on.  With ``queries`` above 1 images
are also queried flipped and shifted by a pixel or two, and the scores of the copies are added (online) or averaged.

Source: Carlini et al. 2022, Membership Inference Attacks From First Principles, arXiv 2112.03570.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.core.threat import RetrainView, ThreatModel
from consilium.core.update import Payload

from ._gaussians import likelihood_ratio, standing_out
from ._judged import judged
from ._shadow_scores import check_shadows, confidences

__all__ = ["LiRA"]

_SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2))
_FEW = 64


@dataclass(frozen=True)
class LiRA(Attack[RetrainView]):
    """Compares the answer on each record with those of shadow models that did and did not learn from it."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[RetrainView]] = RetrainView
    shadows: int = 32
    """Models that are trained like the one attacked, each on a random half of the records: 2 to 4096."""
    mode: Literal["online", "offline"] = "online"
    """Whether shadows with the record are compared too (online), or only those without it (offline)."""
    variance: Literal["auto", "global", "each"] = "auto"
    """One variance for all records (global), one for each, or whichever the number of shadows allows."""
    queries: int = 1
    """Answers asked for each record: itself and shifted or mirrored copies, 1 to 18."""

    def __post_init__(self) -> None:
        check_shadows(self.shadows)
        check(1 <= self.queries <= 2 * len(_SHIFTS), "queries", self.queries, f"1 to {2 * len(_SHIFTS)} queries")

    def retrains(self) -> int:
        """The entry's parameter ``shadows``."""
        return self.shadows

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse several ``queries`` for what is no image.

        Raises Refused: several ``queries`` and inputs that are not images.
        """
        if self.queries > 1 and len(shape) != 3:
            reason = f"only images can be flipped and shifted, and these records have the shape {shape}"
            raise Refused(reason, remedy="use queries = 1", where="queries")

    def run(self, view: RetrainView, memory: Payload, generator: torch.Generator) -> Finding:
        """``queries`` per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        self.check_fit(tuple(view.candidates.x.shape[1:]), view.classes)
        target = self._answers(view.ask, view.candidates, view.task)
        answers, inside = [], []
        for shadow in view.shadows(self.shadows):
            answers.append(self._answers(shadow.module, view.candidates, view.task))
            inside.append(shadow.included[view.at])
        phi, included = torch.stack(answers), torch.stack(inside)
        each = self.variance == "each" or (self.variance == "auto" and self.shadows >= _FEW)
        score = likelihood_ratio if self.mode == "online" else standing_out
        scores = torch.stack([score(target[q], phi[:, q], included, each) for q in range(self.queries)])
        return judged(scores.mean(0), view, generator, *_unseen(included, self.mode))

    def _answers(self, answer: Callable[[Tensor], Tensor], records: Records, task: Task) -> Tensor:
        """phi ``(queries, n)``."""
        copies = _copies(records.x, self.queries)
        return torch.stack([confidences(answer, x, records.y, task) for x in copies])


def _copies(x: Tensor, queries: int) -> Iterator[Tensor]:
    for number in range(queries):
        down, right = _SHIFTS[number // 2]
        moved = torch.roll(x, (down, right), (2, 3)) if number > 1 else x
        yield moved.flip(3) if number % 2 else moved


def _unseen(included: Tensor, mode: str) -> tuple[str, ...]:
    """The note where some candidate is in no shadow, or in all of them."""
    never, always = int((~included.any(0)).sum()), int(included.all(0).sum())
    lacking = always + (never if mode == "online" else 0)
    note = f"{lacking} candidates are in none or all of the shadows: the others' mean stands in.  Use more shadows."
    return (note,) if lacking else ()
