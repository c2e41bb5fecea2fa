"""How many connections and bytes each party may have at once.

    Crowd   at most so many connections; where they are full, a newcomer takes the place of the oldest one of the party
            that has the most.  One party alone cannot fill it: a client with a thousand open connections
            loses those, and a hospital behind the same address needs a place only during its handshake
    Share   at most so many bytes; a request for more waits until others are released

Evicting from the party with the most connections is the rule of a fair queue: a party with few connections is untouched
while another has more.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

__all__ = ["Crowd", "Notes", "Share"]


class Crowd:
    """Who is inside, the oldest of each party first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._party: dict[object, Hashable] = {}
        self._inside: dict[Hashable, dict[object, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._party)

    def enter(self, party: Hashable, one: object, end: Callable[[], None]) -> None:
        """Admit ``one`` of ``party``; when full, ``end`` of another connection is called."""
        while len(self) >= self.most:
            self._turn_out()
        self._party[one] = party
        self._inside.setdefault(party, {})[one] = end

    def leave(self, one: object) -> None:
        """Remove ``one``, if it is inside."""
        if one in self._party:
            party = self._party.pop(one)
            del self._inside[party][one]
            if not self._inside[party]:
                del self._inside[party]

    def _turn_out(self) -> None:
        greediest = max(self._inside.values(), key=len)  # of equals the first
        one, end = next(iter(greediest.items()))
        self.leave(one)
        end()


class Share:
    """Bytes that one party may have in the door at once."""

    def __init__(self, most: int) -> None:
        self.most, self.free = most, most
        self._room = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes, or all there are if that is less, from when there is room on."""
        size = min(size, self.most)
        while self.free < size:
            await self._room.wait()
        self.free -= size
        try:
            yield
        finally:
            self.free += size
            self._room.set()  # every waiting task checks again
            self._room = asyncio.Event()


class Notes:
    """Lines for the log, at most ``most`` in ``seconds``: who is refused a million times does not fill the disk."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float], most: int = 20, seconds: float = 60
    ) -> None:
        self._say, self._clock, self._most, self._seconds = say, clock, most, seconds
        self._said: deque[float] = deque()
        self._left_out: Counter[str] = Counter()

    def note(self, kind: str, line: str) -> None:
        """Log ``line``, or count it under its ``kind``."""
        now = self._clock()
        while self._said and now - self._said[0] > self._seconds:
            self._said.popleft()
        if len(self._said) >= self._most:
            self._left_out[kind] += 1
            return
        if self._left_out:
            self._say("and " + ", ".join(f"{n} more ({kind})" for kind, n in self._left_out.items()))
            self._left_out.clear()
        self._said.append(now)
        self._say(line)
