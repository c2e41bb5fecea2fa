"""Words that hold a number: measurements with a mark (52H, 90+, 12 of 30), or categories (stage 2, 10-20, T1a)?

    begins with a number    52H, ~4, (12), #7, ca. 5, USD 4, n=3     more than 20 different ones are measurements
    begins, or holds one    the above, ward 7, A12                   most of the values, most of them different: too

Few that come round again and again are categories, and so are many that begin with a letter (ICD codes, wards).  An
undeclared column of measurements would become a feature for each value, and its order would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["measured_words"]

_ABOUT = (
    r"ca|circa|approx|approximately|about|around|roughly|nearly|almost|over|under|above|below|up to|less than|more than"
    r"|greater than|at least|at most|usd|eur|gbp|chf|jpy|inr|minus|plus"
)
_BEGINS = re.compile(rf"(?:(?i:{_ABOUT})\b\.?|[^\W\d]\w{{0,11}}\s?[=<>≤≥:~≈])?(?:<[^<>\d]*>|[^\w])*[\d½¼¾⅓⅔⅛⅜⅝⅞]")
_HOLDS = re.compile(r"[\d½¼¾⅓⅔⅛⅜⅝⅞]")
_MANY = 20
"""More different words that begin with a number are no categories; five-year bands of age are 19."""
_FEW = 8
"""Among fewer values, most may be different by chance."""


def measured_words(texts: Sequence[str]) -> str:
    """Why the words ``(n,)`` of a column are measurements; empty for categories."""
    begins = [text for text in texts if _BEGINS.match(text)]
    different = len(set(begins))
    if different > _MANY:
        return f"{different} different values begin with a number: too many for categories"
    if _mostly_different(begins, len(texts)):
        return f"{len(begins)} of its {len(texts)} values begin with a number, {different} different ones"
    holds = [text for text in texts if _HOLDS.search(text)]
    if _mostly_different(holds, len(texts)) and len(set(texts)) < len(texts):  # else they name the rows
        return f"{len(holds)} of its {len(texts)} values hold a number, {len(set(holds))} different ones"
    return ""


def _mostly_different(words: Sequence[str], n: int) -> bool:
    return len(words) >= _FEW and 2 * len(words) >= n and 2 * len(set(words)) > len(words)
