"""A number of things in words, for every line that people read: 1 record, 3 records, 1,200 records."""

from __future__ import annotations

__all__ = ["count_words"]


def count_words(count: int, what: str) -> str:
    """3 records, 1 record; ``what`` is the singular of a noun whose plural ends with s."""
    return f"{count:,} {what}{'s' * (count != 1)}"
