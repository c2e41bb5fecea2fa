"""Counts in words: one of a thing is one, and none, two or a thousand are several."""

import pytest

from consilium.core.count_words import count_words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 test records"), (1, "1 test record"), (2, "2 test records"), (1200, "1,200 test records")],
)
def test_one_is_singular(count, text):
    assert count_words(count, "test record") == text
