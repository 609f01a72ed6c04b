"""What a local limiter holds for one key: chunks that are reserved, and how fast they are spent. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .limits import LimitDecision

HORIZON = 2.0
"""A chunk is about what was asked for in this many seconds."""
MAX_CHUNK = 1_000


@dataclass(slots=True, eq=False)
class Chunk:
    """A reserved amount, from which requests are admitted until it is spent or too old."""

    reservation_id: str
    reserved: int
    expires_at: float
    """When the reservation ends by itself, by the clock of the client."""
    usable_until: float
    """When it must be settled, so that this arrives before the expiry."""
    limits: tuple[LimitDecision, ...] = ()
    used: int = 0
    retired: bool = False
    """Nothing is admitted from it any more, so `used` is final."""

    @property
    def left(self) -> int:
        return 0 if self.retired else self.reserved - self.used


@dataclass(slots=True, eq=False)
class Lease:
    """The chunks of one key, oldest first. The limiter's lock protects it."""

    chunks: list[Chunk] = field(default_factory=list)
    _demand: float = 0.0
    _demand_at: float = -math.inf
    _cap: int = MAX_CHUNK

    def ask(self, amount: int, now: float) -> None:
        """Counts what a request asks for."""
        self._demand = self._current_demand(now) + amount
        self._demand_at = now

    def take(self, amount: int, now: float) -> tuple[Sequence[Chunk], list[Chunk]] | None:
        """Takes an amount, all or nothing. Returns the chunks that it came from, and those that are spent now."""
        usable = [chunk for chunk in self.chunks if now < chunk.usable_until and chunk.left]
        if sum(chunk.left for chunk in usable) < amount:
            return None
        touched = []
        for chunk in usable:
            part = min(amount, chunk.left)
            chunk.used += part
            amount -= part
            touched.append(chunk)
            if not amount:
                break
        spent = [chunk for chunk in touched if not chunk.left]
        for chunk in spent:
            self.retire(chunk)
        return touched, spent

    def retire(self, chunk: Chunk) -> None:
        """Admits nothing from a chunk any more."""
        chunk.retired = True
        if chunk in self.chunks:
            self.chunks.remove(chunk)

    def size(self, now: float) -> int:
        """Returns how much to reserve next."""
        return max(1, min(self._cap, math.ceil(self._current_demand(now))))

    def needs_more(self, now: float) -> bool:
        """Reports whether the next chunk should be fetched ahead: what is left lasts for less than half the horizon.

        At less than one request per second, it would often be given back unused.
        """
        demand = self._current_demand(now)
        return demand >= HORIZON and sum(chunk.left for chunk in self.chunks) < min(demand, self._cap) / 2

    def refused(self, size: int) -> None:
        """Halves the chunks, because the limit has less left."""
        self._cap = max(1, size // 2)

    def granted(self) -> None:
        self._cap = min(MAX_CHUNK, 2 * self._cap)

    def _current_demand(self, now: float) -> float:
        """Returns what was asked for in about the last `HORIZON` seconds."""
        return self._demand * math.exp((self._demand_at - now) / HORIZON)
