"""Knobs of [federation] that no algorithm of a study reads: they were written down, and would do nothing."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from consilium.core.errors import Refused
from consilium.core.gradient import Schedule

from .federation_table import FederationSpec
from .spec import Choice

__all__ = ["check_read"]


def check_read(table: Container[str], federation: FederationSpec, vary: Mapping[str, tuple[Choice, ...]]) -> None:
    """Refuse a batch size or number of epochs in ``table`` that changes the local work of no algorithm.

    Raises Refused: no algorithm of the study reads a knob that ``table`` sets.
    """
    varied = (choice.algorithm for choices in vary.values() for choice in choices)
    algorithms = [federation.algorithm, *(a for a in varied if a is not None)]
    shape = federation.shape
    work = Schedule(shape.rounds, shape.local_epochs, shape.batch)
    others = {"batch": replace(work, batch=work.batch + 1), "local-epochs": replace(work, epochs=work.epochs + 1)}
    for knob, other in others.items():
        if knob in table and all(a.schedule(work) == a.schedule(other) for a in algorithms):
            raise Refused(
                f"{federation.algorithm.kind()} does not read {knob}: it would do nothing",
                remedy=f"leave out {knob}, or choose an algorithm of local epochs, such as fed-avg",
                where=f"federation.{knob}",
            )
