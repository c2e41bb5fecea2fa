"""The two exchangeable parts of a private step: how its batch is selected, and how noise is added to its clipped sum.

    value = sum of the clipped gradients of the selected units;   released = noise mechanism(value, deviation)

Both are values without state of their own.  What a part must store (the last noise of a correlated mechanism, who
was in the last batches) is its ``memory``: tensors by name, handed in and out at every step.  Within a round the oracle
carries it; at the end of a round it goes into the site's state, and so into the checkpoint of that round.  A resumed
training repeats the killed round from its start, with the memory and the streams of that start, and gets the same
bits.  A part without memory leaves nothing there.  Memory is as secret as the noise: it stays at the site, and is not
rolled back with a lost update, because that update was sent all the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from .charge import Adjacency, Charge
from .random import Stream
from .update import Payload

__all__ = ["BatchSelection", "NoiseMechanism"]


class BatchSelection(ABC):
    """Selects the units of each step's batch: Poisson, a fixed number, b-min-sep, truncated Poisson.

    ``words`` is its description in a claim, "" where the charges suffice.  ``adjacencies`` are those under which
    :meth:`charge` is right; a rule under another one is refused.
    """

    words: ClassVar[str] = ""
    adjacencies: ClassVar[frozenset[Adjacency]] = frozenset({"add-or-remove-one", "replace-one"})

    @abstractmethod
    def select(self, n: int, batch: int, stream: Stream, memory: Payload) -> tuple[Tensor, Payload]:
        """Booleans ``(n,)``: which of ``n`` units are in the next batch; and the memory after.

        ``stream`` is the step's.  ``stream.coins`` are secret at a deployed site: fresh, and not reproducible.
        """

    @abstractmethod
    def expected(self, n: int, batch: int) -> float:
        """The expected number of units in a batch: what the noisy sum is divided by, whatever was selected."""

    @abstractmethod
    def charge(self, n: int, batch: int, release: Charge) -> Charge:
        """What ``release``, run on a batch selected like this, does to one of ``n`` units."""


class NoiseMechanism(ABC):
    """Adds noise to the clipped sums of consecutive steps: independent Gaussian noise, or correlated noise.

    ``independent``: each step has a charge of its own, and charges of steps compose.
    """

    independent: ClassVar[bool] = True

    @abstractmethod
    def noised(self, value: Tensor, deviation: float, stream: Stream, memory: Payload) -> tuple[Tensor, Payload]:
        """``value (d,)`` with noise, and the memory after; ``stream`` is the step's.

        It takes the value and not a shape, so that ``stream.noised`` can round the sum to its grid: noise added in
        floating point afterwards would distinguish values by their last bits (``core.keystream``).
        """

    @abstractmethod
    def charge(self, multiplier: float, steps: range, selected: Callable[[Charge], Charge]) -> Charge:
        """What the noise of these ``steps``, counted from the first of the training, charges together.

        ``multiplier`` is the deviation over the sensitivity under add-or-remove-one; ``selected`` makes the charge of
        a release on a selected batch of that of a release on all units.  The charges of consecutive ranges compose.
        """
