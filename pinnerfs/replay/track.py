"""The records of one file on a time line, and the ring that they enter."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence

from pinnerfs.replay.recording import Entry

__all__ = ["Track"]


class Track:
    """A ring of `size` slots, and the entries that come to it within each `period` (µs).

    A period of 0: all of them come at once, at time 0. `loop`: they come in each period, and not only in the first.
    `takes` tells whether the kernel takes an entry now; call `rules_changed` when it would answer otherwise.
    """

    def __init__(
        self, entries: Sequence[Entry], size: int, period: int, loop: bool, takes: Callable[[Entry], bool]
    ) -> None:
        self._entries = entries
        self._period = period
        self._loop = loop
        self._takes = takes
        # Within a period. The last entry comes at its end, and none at its beginning.
        span = max(1, entries[-1].time) if entries else 1
        self._times = [max(1, period * entry.time // span) for entry in entries]
        self._come = 0  # entries up to now, in all periods
        self._ring: deque[bytes] = deque(maxlen=size)
        self.appended = 0
        self.overwritten = 0
        self.rules_changed()
        if not period:
            self._let_come(len(entries))

    def rules_changed(self) -> None:
        """Note that the kernel takes other entries from now on."""
        self._taken = [place for place, entry in enumerate(self._entries) if self._takes(entry)]

    @property
    def filled(self) -> int:
        """Return the number of records in the ring."""
        return len(self._ring)

    @property
    def size(self) -> int:
        """Return the number of slots."""
        return self._ring.maxlen or 0

    def newest(self, position: int) -> bytes:
        """Return the record `position` places after the newest, or b"" for an empty slot."""
        return self._ring[-1 - position] if position < len(self._ring) else b""

    def clear(self) -> None:
        """Empty every slot."""
        self._ring.clear()

    def resize(self, size: int) -> None:
        """Replace all slots by so many empty ones."""
        self._ring = deque(maxlen=size)

    def next_event(self) -> int | None:
        """Return the time (µs) at which the next entry comes, or None if there are no more."""
        if self._come >= len(self._entries) and not (self._loop and self._entries):
            return None
        rounds, place = divmod(self._come, len(self._entries))
        return rounds * self._period + self._times[place]

    def advance_to(self, moment: int) -> None:
        """Let all entries up to and at a moment (µs) come."""
        if not self._period:
            return
        rounds, rest = divmod(moment, self._period)
        come = rounds * len(self._entries) + bisect_right(self._times, rest)
        self._let_come(come if self._loop else min(come, len(self._entries)))

    def _let_come(self, come: int) -> None:
        """Let entries come until there were so many. However many rounds that are, it only handles a ring full."""
        first, end = self._taken_before(self._come), self._taken_before(come)
        self._come = max(self._come, come)
        if end <= first:
            return
        self.appended += end - first
        self.overwritten += max(0, self.filled + end - first - self.size)
        places = (self._taken[number % len(self._taken)] for number in range(max(first, end - self.size), end))
        self._ring.extend(self._entries[place].text for place in places)

    def _taken_before(self, come: int) -> int:
        """Return how many of the first so many entries the kernel would take by its present rules."""
        if not self._taken:
            return 0
        rounds, rest = divmod(come, len(self._entries))
        return rounds * len(self._taken) + bisect_left(self._taken, rest)
