"""A mapping whose values are computed while they are read, so that no more than a few of them are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from typing import TypeVar

__all__ = ["Streamed"]

Value = TypeVar("Value")


class Streamed(Mapping[str, Value]):
    """Values by name, in the order of ``names``: ``read`` yields all pairs, and is called for every ``items()``.

    Looking one name up reads all before it: what needs several values at once makes a dict of ``items()``.
    """

    def __init__(self, names: Iterable[str], read: Callable[[], Iterator[tuple[str, Value]]]) -> None:
        self._names, self._read = dict.fromkeys(names), read

    def items(self) -> ItemsView[str, Value]:
        """The pairs, computed one at a time."""
        return _Pairs(self, self._read)

    def __getitem__(self, name: str) -> Value:
        if name in self._names:
            for each, value in self._read():
                if each == name:
                    return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Pairs(ItemsView[str, Value]):
    """What ``items()`` of a streamed mapping returns."""

    def __init__(self, mapping: Mapping[str, Value], read: Callable[[], Iterator[tuple[str, Value]]]) -> None:
        super().__init__(mapping)
        self._read = read

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return self._read()
