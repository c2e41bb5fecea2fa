"""A bound that is printed is still a bound: no text of an upper one lies below it, no text of a lower one above."""

from __future__ import annotations

import random

import numpy as np
import pytest

from consilium.core.rounding import round_down, round_up


@pytest.mark.parametrize(
    ("value", "digits", "up", "down"),
    [
        (7.974642, 3, "7.98", "7.97"),
        (7.974642, 4, "7.975", "7.974"),
        (8.0, 3, "8", "8"),
        (0.1, 3, "0.1", "0.1"),
        (1e-5, 3, "1e-05", "1e-05"),
        (9.996, 3, "10", "9.99"),
        (1234.5, 3, "1.24e+03", "1.23e+03"),
        (1 / 389, 1, "0.003", "0.002"),
        (1 / 3, 3, "0.334", "0.333"),
        (0.1 + 0.2, 3, "0.3", "0.3"),
        (0.0, 3, "0", "0"),
        (-0.0456, 2, "-0.045", "-0.046"),
        (float("inf"), 3, "inf", "inf"),
    ],
)
def test_digits_by_hand(value: float, digits: int, up: str, down: str) -> None:
    assert (round_up(value, digits), round_down(value, digits)) == (up, down)


def test_what_is_read_back_is_on_the_safe_side_and_within_one_digit() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        value, digits = 10 ** draw.uniform(-9, 9), draw.randint(1, 6)
        up, down = float(round_up(value, digits)), float(round_down(value, digits))
        assert down * (1 - 1e-12) <= value <= up * (1 + 1e-12)
        assert up - down <= 10.0 ** (1 - digits) * value * (1 + 1e-9)


def test_rounding_to_the_nearest_would_fail_this() -> None:
    assert float(f"{7.974642:.3g}") < 7.974642 <= float(round_up(7.974642))


def test_a_scalar_of_numpy_is_a_number() -> None:
    assert round_up(np.float64(7.974642)) == "7.98"  # type: ignore[arg-type]
