"""Adversarial images: clean, the perturbation amplified, and adversarial side by side, small enough for one page.

Up to eight examples per attack are shown; where images are large, fewer, so that all galleries of a study together stay
within a budget of pixels.  Where a finding has no pictures, it says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consilium.report.load.records import CellRecord, FindingRecord
from consilium.report.load.scores import read_examples

from .png import data_uri, difference_image

__all__ = ["Example", "allowance", "examples", "no_pictures"]

_MOST = 8
_PIXELS = 12_000_000


@dataclass(frozen=True)
class Example:
    """Three data URIs and their captions; ``linf`` is the largest change of a pixel.

    ``scale`` is how many times the change is amplified, empty where nothing was changed.
    """

    clean: str
    adversarial: str
    difference: str
    label: str
    before: str
    after: str
    linf: float
    scale: str

    @property
    def fooled(self) -> bool:
        """True where a right answer became a wrong one."""
        return self.before == self.label != self.after


def allowance(cells: Sequence[CellRecord], shape: tuple[int, ...]) -> int:
    """How many examples each attack may show: 8, fewer for large images, none where records are no images."""
    if not _drawable(shape):
        return 0
    stages = sum(len(cell.aimed("evasion")) for cell in cells) or 1
    return max(1, min(_MOST, _PIXELS // (stages * 3 * shape[1] * shape[2])))


def examples(finding: FindingRecord, classes: Sequence[str], most: int) -> tuple[Example, ...]:
    """The first ``most`` examples of a finding; none where its file holds no images."""
    examples = read_examples(finding.file) if most else {}
    clean, changed = examples.get("clean"), examples.get("adversarial")
    if clean is None or changed is None or clean.shape != changed.shape or clean.ndim != 4:
        return ()
    if clean.shape[1] not in (1, 3):
        return ()
    labels = zip(
        *(_names(examples.get(key), classes, len(clean)) for key in ("label", "answer_before", "answer_after")),
        strict=True,
    )
    return tuple(_example(*images) for images in zip(clean[:most], changed[:most], labels, strict=False))


def no_pictures(finding: FindingRecord, shape: Sequence[int], *, share: bool) -> str:
    """Why there is none of a finding of evasion without examples on the page, as a sentence; empty where it failed."""
    if finding.status != "ok":
        return ""
    if len(shape) != 3:
        return f"No pictures: the records{_of(shape)} are no images."
    if not _drawable(shape):
        return f"No pictures: images of {shape[0]} channels are not drawn, only those of one or three."
    if share:
        return "Images of records are left out of this page."
    return "No pictures: the file of this attack's examples is not in the folder as it was written."


def _of(shape: Sequence[int]) -> str:
    return f" (of {' × '.join(map(str, shape))} numbers)" if shape else ""


def _drawable(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _example(clean: NDArray[np.float64], changed: NDArray[np.float64], labels: tuple[str, str, str]) -> Example:
    linf = float(np.abs(np.nan_to_num(changed - clean)).max())
    return Example(
        data_uri(clean),
        data_uri(changed),
        data_uri(difference_image(clean, changed)),
        *labels,
        linf,
        _scale(clean, linf),
    )


def _scale(clean: NDArray[np.float64], linf: float) -> str:
    """The largest change has the whole colour; in RGB it is half of the range, around grey."""
    return f"{(1.0 if len(clean) == 1 else 0.5) / linf:.3g}" if linf else ""


def _names(indices: NDArray[np.float64] | None, classes: Sequence[str], n: int) -> list[str]:
    if indices is None or len(indices) != n:
        return ["?"] * n
    if indices.ndim == 1:
        return [classes[i] if 0 <= i < len(classes) else str(i) for i in indices.astype(int).tolist()]
    if indices.ndim > 2:
        return ["mask"] * n
    if indices.shape[1] == len(classes) and bool(np.isin(indices, (0, 1)).all()):
        named = ([name for name, there in zip(classes, row, strict=True) if there] for row in indices.tolist())
        return [", ".join(names) or "none" for names in named]
    return [", ".join(f"{value:.3g}" for value in row) for row in indices.tolist()]
