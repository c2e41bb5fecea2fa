"""Which exact norm is cheaper, from shapes alone: the same shapes take the same route in every run, on any machine.

    instantiate   T D O multiply-adds in small products, and D O numbers written and read again
    ghost         the two Gram matrices, T^2 sums, and T D O multiply-adds in ONE product for the weighted gradient

Times in nanoseconds per multiply-add, fitted to two cores of a Xeon with AMX in fp32; a machine that is slower in all
of them would choose alike.  A wrong choice costs time, never exactness.
"""

from __future__ import annotations

__all__ = ["ghost_is_cheaper"]

_SMALL, _GRAM, _LARGE = 0.0095, 0.012, 0.006
_WARM, _COLD, _HELD = 0.2, 0.8, 2_000_000
_CALL = 20_000
"""Of one more kernel, in nanoseconds: what a batch of small examples notices."""


def ghost_is_cheaper(n: int, t: int, d: int, o: int, gram: int, extra: float = 0.0) -> bool:
    """Whether to take the ghost norm for ``n`` examples of ``t`` positions, ``d`` inputs and ``o`` outputs.

    ``gram`` multiply-adds make U U^T of one example and ``extra`` nanoseconds put it together.
    """
    per_number = _WARM if n * d * o <= _HELD else _COLD
    instantiate = _SMALL * t * d * o + per_number * d * o
    ghost = _GRAM * (gram + t * t * o) + extra + _LARGE * t * d * o
    return n * ghost + 2 * _CALL < n * instantiate
