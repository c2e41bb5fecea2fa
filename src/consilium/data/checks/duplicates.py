"""Exact duplicates, and units in two given splits, are detected, reported and removed.

A record that is both trained on and judged on makes every figure about it false, and a non-member that equals a
member is no non-member.  One rule decides, and it reads no label: within a split the first record stays; between
splits the higher one keeps it (test > validation > train).  Two equal inputs with different labels fall under the
same rule and are counted apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from consilium.core.records import Records
from consilium.data.dataset import SPLITS, Dataset

from .omissions import of_records

__all__ = ["deduplicate", "input_digests", "untangle"]

_RELABELLED = ", whose copies that stay bear another label: which one is right?"


def deduplicate(dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """The data set with every input once, and how many records were dropped by place.

    Places: ``train`` (twice within it), ``train/validation`` (the validation copy stays), and so on; ``records`` where
    the source has no split; with `` (other label)`` where the copy that stays bears another label.
    """
    digests = list(input_digests(dataset.records))
    split = _split(dataset).tolist()
    first: dict[tuple[int, bytes], int] = {}
    for i, (place, digest) in enumerate(zip(split, digests, strict=True)):
        first.setdefault((place, digest), i)
    highest = {digest: first[place, digest] for place, digest in sorted(first, key=lambda key: key[0])}
    y = dataset.records.y.tolist()
    removed: Counter[str] = Counter()
    mask, same_label = torch.ones(len(y), dtype=torch.bool), torch.ones(len(y), dtype=torch.bool)
    for i, (place, digest) in enumerate(zip(split, digests, strict=True)):
        stays = first[place, digest] if first[place, digest] != i else highest[digest]
        if stays != i:
            mask[i] = False
            same_label[i] = y[i] == y[stays]
            removed[_place(dataset, place, split[stays]) + (" (other label)" if y[i] != y[stays] else "")] += 1
    places = dict(sorted(removed.items()))
    masks = {"exact duplicates removed": mask | ~same_label, f"exact duplicates removed{_RELABELLED}": same_label}
    return _select(dataset, mask, masks), places


def untangle(dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """The data set with every unit in one split: its records stay in the highest, those in others are removed."""
    if dataset.split is None:
        return dataset, {}
    _, unit = torch.unique(dataset.records.units, return_inverse=True)
    split = dataset.split.long()
    highest = torch.zeros(int(unit.max()) + 1, dtype=torch.long).scatter_reduce(0, unit, split, "amax")[unit]
    pairs = zip(split[split < highest].tolist(), highest[split < highest].tolist(), strict=True)
    removed = Counter(_place(dataset, low, high) + " (same unit)" for low, high in pairs)
    stays = split == highest
    rest = _select(dataset, stays, {"records removed whose unit stands in a higher split": stays})
    return rest, dict(sorted(removed.items()))


def _select(dataset: Dataset, mask: Tensor, what: Mapping[str, Tensor]) -> Dataset:
    """The records of ``dataset`` under a boolean mask, with all that belongs to them.

    The others are counted under each word of ``what`` by a mask of its own.
    """
    if bool(mask.all()):
        return dataset
    return replace(
        dataset,
        records=dataset.records.select(mask),
        split=None if dataset.split is None else dataset.split[mask],
        keys=None if dataset.keys is None else dataset.keys[mask],
        omitted=(*dataset.omitted, *(one for word, part in what.items() for one in of_records(word, dataset, part))),
    )


def input_digests(records: Records) -> Iterable[bytes]:
    """16 bytes of BLAKE2b for each input, whose equality is that of the inputs."""
    rows = records.x.reshape(len(records), -1).numpy()
    return (hashlib.blake2b((row + 0.0).data, digest_size=16).digest() for row in rows)  # + 0.0 makes -0.0 equal 0.0


def _split(dataset: Dataset) -> Tensor:
    return torch.zeros(len(dataset.records), dtype=torch.int8) if dataset.split is None else dataset.split


def _place(dataset: Dataset, low: int, high: int) -> str:
    if dataset.split is None:
        return "records"
    return SPLITS[low] if low == high else f"{SPLITS[low]}/{SPLITS[high]}"
