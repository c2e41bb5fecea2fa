"""How soon a federation was good: rounds and bytes until a target accuracy was first reached.

The accuracy is that of the sites' held-out records (a mean over records), reported after each round that was assessed;
the bytes are all that was sent until then, up and down, by all sites.  A target that was never reached has no figure: a
mean over the seeds that did reach it would flatter.

Source: McMahan et al. 2017, arXiv:1602.05629, tables 1 to 3 (rounds to a target accuracy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consilium.core.finding import Measure

__all__ = ["to_accuracy"]


def to_accuracy(target: float, rounds: Sequence[Mapping[str, Any]]) -> tuple[Measure, Measure]:
    """``rounds_to_accuracy`` and ``bytes_to_accuracy`` from the lines of ``rounds.jsonl``.

    ``n`` is the number of held-out records behind the round's accuracy.
    """
    sent, best = 0, 0.0
    for report in rounds:
        sent += report["bytes_up"] + report["bytes_down"]
        accuracy = report["mean_accuracy"]
        if accuracy is None:
            continue
        best = max(best, accuracy)
        if accuracy >= target:
            n = sum(site["n"] for site in report["sites"] if site["accuracy"] is not None)
            return (
                Measure("rounds_to_accuracy", float(report["round"]), n=n, unit="rounds"),
                Measure("bytes_to_accuracy", float(sent), n=n, unit="B"),
            )
    reason = f"{target:.3g} was not reached in {len(rounds)} rounds (best {best:.3f})"
    return Measure.undefined("rounds_to_accuracy", reason), Measure.undefined("bytes_to_accuracy", reason)
