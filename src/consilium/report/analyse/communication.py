"""Accuracy for bytes: how well the sites' own held-out records are answered after so many bytes sent by each site.

    x_r = (bytes up in rounds 1 .. r) / sites,    y_r = mean over sites of the accuracy after round r

Bytes are those of the messages that were sent, framing included; what a round's model costs on its way down is the same
for every codec and is not in x.  Arms that share their trainings (they differ after training) are one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consilium.evidence.round import RoundEvidence
from consilium.measure.intervals import across_seeds
from consilium.report.load.records import StudyRecord

from .summary import Row

__all__ = ["Traffic", "traffic"]


@dataclass(frozen=True)
class Traffic:
    """One line: the arms it represents, its points (means over ``seeds``), and its end with a 95 % interval."""

    codes: tuple[str, ...]
    arms: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    sent: float
    accuracy: float
    low: float | None
    high: float | None
    seeds: int
    rounds: int

    @property
    def code(self) -> str:
        """Its letters: the first arm's, and how many more it stands for."""
        return self.codes[0] + (f" +{len(self.codes) - 1}" if len(self.codes) > 1 else "")

    def drawn(self) -> Mapping[str, object]:
        """Plain JSON for the page's script."""
        x, y = ([point[i] for point in self.points] for i in (0, 1))
        end = {"v": self.accuracy, "l": self.low, "h": self.high}
        return {"code": self.code, "arm": " · ".join(self.arms), "x": x, "y": y, "end": end}


def traffic(study: StudyRecord, rows: Sequence[Row]) -> tuple[Traffic, ...]:
    """One line per training of the clean arms, the cheapest first; nothing where all of them send the same."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        trainings = tuple(t for cell in row.cells if (t := cell.training) and study.rounds.get(t))
        if row.infected_by == "none" and trainings:
            groups.setdefault(trainings, []).append(row)
    entries = [_line(study, trainings, shared) for trainings, shared in groups.items()]
    known = [line for line in entries if line is not None]
    whole = max((line.rounds for line in known), default=0)  # a training that was cut off is cheap for no merit
    lines = sorted((line for line in known if line.rounds == whole), key=lambda line: line.sent)
    return tuple(lines) if len({line.sent for line in lines}) > 1 else ()


def _line(study: StudyRecord, trainings: Sequence[str], rows: Sequence[Row]) -> Traffic | None:
    paths = [_path(study.rounds[training], len(study.data.sites)) for training in trainings]
    every = set(paths[0]).intersection(*paths)
    if not every:
        return None
    points = [(_mean([path[r][0] for path in paths]), _mean([path[r][1] for path in paths])) for r in sorted(every)]
    last = [path[max(every)] for path in paths]
    mean, low, high = across_seeds([accuracy for _, accuracy in last])
    if low is not None and high is not None:  # cutting at the range loses no coverage
        low, high = max(low, 0.0), min(high, 1.0)
    return Traffic(
        codes=tuple(row.code for row in rows),
        arms=tuple(row.arm.name for row in rows),
        points=tuple(points),
        sent=points[-1][0],
        accuracy=mean,
        low=low,
        high=high,
        seeds=len(paths),
        rounds=max(every),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _path(rounds: Sequence[RoundEvidence], sites: int) -> dict[int, tuple[float, float]]:
    """Bytes sent per site so far and accuracy, by round; only rounds after which the model was judged."""
    total, path = 0.0, {}
    for record in rounds:
        total += record.bytes_up or 0.0
        if record.mean_accuracy is not None and total > 0:
            path[record.round] = (total / max(sites, 1), record.mean_accuracy)
    return path
