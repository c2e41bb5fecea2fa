"""How people spell the three splits, in folders and in archives; case does not matter."""

from __future__ import annotations

from collections.abc import Iterable

from consilium.core.errors import Refused
from consilium.data.dataset import SPLITS, TEST, TRAIN, VALIDATION

__all__ = ["check_one_spelling", "split_named"]

_SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}


def split_named(name: str) -> int | None:
    """The split that ``name`` spells, or None."""
    return _SPELLINGS.get(name.casefold())


def check_one_spelling(names: Iterable[str], where: str) -> None:
    """Refuse two names of one split, such as ``val`` beside ``valid``: which of them is meant cannot be known.

    Raises Refused: two names for one split.
    """
    spellings: dict[int, str] = {}
    for name in names:
        split = split_named(name)
        if split is not None and spellings.setdefault(split, name) != name:
            raise Refused(
                f"{spellings[split]!r} and {name!r} both name the {SPLITS[split]} split",
                remedy="put them together, or rename one",
                where=where,
            )
