"""A simulation that is kept up with a clock, safe to be asked by several threads."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pinnerfs.clock import Clock
from pinnerfs.simulation import Simulation

__all__ = ["Device"]

# Books are kept up at least this often while things happen; more often would only cost processor time.
SHORTEST_NAP = 0.1  # seconds

NEVER = 1 << 64  # beyond any clock's time (µs)


class Device:
    """The fake device behind the files."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self.clock = clock
        self._simulation = simulation
        self._lock = threading.Lock()
        self._due = 0  # until this moment (µs) nothing happens that is not in the books yet
        self._failed = False  # half-way through a change of the books
        self._stopped = False
        self._wake = threading.Event()

    @contextmanager
    def up_to_now(self) -> Iterator[Simulation]:
        """The simulation with every event up to this moment in the books, for one's own use meanwhile."""
        with self._lock:
            self._catch_up(self.clock.now())
            try:
                yield self._simulation
            finally:
                self._note_due()

    def text(self, position: int) -> bytes:
        """The text of a record now, or b"": see `Simulation.text`. Every record read comes here."""
        # Even where nothing is due: it may be a moment later, and then `keep_up` changes the ring under this.
        with self._lock:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            return self._simulation.text(position)

    @property
    def threshold(self) -> int:
        """The threshold in force now, in µs, signed."""
        return self._simulation.threshold

    def write_threshold(self, threshold: int) -> None:
        """Set it, which clears all that has been recorded up to this moment."""
        with self._lock:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            self._simulation.threshold = threshold

    def advance(self, step: int, patience: float) -> int:
        """Let a manual clock go on by `step` µs with the books, for so many seconds at most. How many µs are left."""
        with self._lock:
            self._catch_up(self.clock.now())
            goal = self.clock.advance(step)
            deadline = time.monotonic() + patience
            for _ in self._steps_to(goal):
                if time.monotonic() > deadline:
                    break
            left = goal - self._simulation.now
            self.clock.advance(-left)  # nobody has looked at it meanwhile
            self._note_due()
            return left

    def _catch_up(self, now: int) -> None:
        for _ in self._steps_to(now):
            pass
        self._note_due()

    def _steps_to(self, now: int) -> Iterator[int]:
        """As the simulation's. Once that has failed, for want of memory say, the books are wrong: EIO from then on."""
        if self._failed:
            raise OSError(errno.EIO, "the books have failed: mount anew")
        try:
            yield from self._simulation.steps_to(now)
        except Exception:
            self._failed = True
            self._due = 0
            raise

    def _note_due(self) -> None:
        due = self._simulation.next_event()
        self._due = 0 if self._failed else NEVER if due is None else due

    def do(self, actions: str) -> None:
        """Pin, release and free pages at this moment. PinnerfsError says what is wrong with the actions."""
        with self.up_to_now() as simulation:
            simulation.do(actions)
        # What was due next may now be due sooner.
        self._wake.set()

    def keep_up(self) -> None:
        """Keep the books up to date until `stop`, so that no reader finds much to catch up with.

        Sleeps while nothing is due, for ever if nothing ever is.
        """
        while not self._stopped:
            with self._lock:
                now = self.clock.now()
                # One bounded piece of work at a time: a reader shall not wait for all of it.
                next(self._steps_to(now), None)
                self._note_due()
            # By `now`, not by the time that it is by then: where much happens, something is always due already.
            behind = self._due <= now
            wait = None if self._due == NEVER else self.clock.wait_for(self._due)
            self._wake.wait(0 if behind else None if wait is None else max(wait, SHORTEST_NAP))
            self._wake.clear()

    def stop(self) -> None:
        """Let `keep_up` return."""
        self._stopped = True
        self._wake.set()
