"""A simulation that follows a clock, and that several threads can use."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnerfs.clock import Clock
from pinnerfs.simulation import Simulation

__all__ = ["Device"]

# While events are due, `keep_up` wakes about this often. More often would only cost processor time.
SHORTEST_WAIT = 0.1  # seconds

NOTHING_DUE = 1 << 64  # µs, later than any time of a clock

log = logging.getLogger(__name__)


class Device:
    """The fake device behind the files."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self.clock = clock
        self._simulation = simulation
        self._lock = threading.Lock()
        self._due = 0  # µs: the simulation has every event before this time
        self._failure = ""  # name of the exception of a step that failed half-way
        self._failure_logged = False
        self._stopped = False
        self._wake = threading.Event()

    @contextmanager
    def up_to_now(self) -> Iterator[Simulation]:
        """Lock the simulation for the caller, with every event up to now applied."""
        with self._lock:
            self._catch_up(self.clock.now())
            try:
                yield self._simulation
            finally:
                self._note_due()

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of a record now, or b"": see `Simulation.text`. Each read of a record calls this."""
        # Lock even when nothing is due: `keep_up` could change the ring during the read.
        with self._lock:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            return self._simulation.text(position, file)

    @property
    def threshold(self) -> int:
        """The threshold in force now, in µs, signed."""
        return self._simulation.threshold

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold, which clears all records up to now."""
        with self._lock:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            self._simulation.threshold = threshold

    @property
    def tracking(self) -> bool:
        """Whether failed migrations are tracked now."""
        return self._simulation.tracking

    def write_tracking(self, tracking: bool) -> None:
        """Switch the tracking of failed migrations from now on."""
        with self.up_to_now() as simulation:
            simulation.tracking = tracking

    @property
    def buffer_size(self) -> int:
        """The number of records that `buffer` has room for."""
        return self._simulation.buffer_size

    def write_buffer_size(self, size: int) -> None:
        """Set the number of records, which clears all records up to now. OSError ENOMEM for too many."""
        with self.up_to_now() as simulation:
            simulation.buffer_size = size

    def advance(self, step: int, timeout: float) -> int:
        """Advance a manual clock and the simulation by `step` µs; stop after `timeout` seconds. Return the µs left."""
        with self._lock:
            self._catch_up(self.clock.now())
            goal = self.clock.advance(step)
            deadline = time.monotonic() + timeout
            for _ in self._steps_to(goal):
                if time.monotonic() > deadline:
                    break
            left = goal - self._simulation.now
            self.clock.advance(-left)  # under the lock: no reader has seen the later time
            self._note_due()
            return left

    def _catch_up(self, now: int) -> None:
        for _ in self._steps_to(now):
            pass
        self._note_due()

    def _steps_to(self, now: int) -> Iterator[int]:
        """Run `Simulation.steps_to`. After a failed step (out of memory, say) the state is wrong: EIO from then on."""
        if self._failure:
            if not self._failure_logged:
                # At the time of the failure there may be no memory left to log it, so log it at the next call, too.
                with suppress(MemoryError):
                    log.error("a page_pinner state update failed (%s): every read returns EIO", self._failure)
                    self._failure_logged = True
            raise OSError(errno.EIO, "an earlier page_pinner state update failed: unmount and mount again")
        try:
            yield from self._simulation.steps_to(now)
        except Exception as error:
            self._failure = type(error).__name__
            self._due = 0
            raise

    def _note_due(self) -> None:
        due = self._simulation.next_event()
        self._due = 0 if self._failure else NOTHING_DUE if due is None else due

    def do(self, actions: str) -> None:
        """Pin, release, unmap and free pages now. PinnerfsError names what is wrong with the actions."""
        with self.up_to_now() as simulation:
            simulation.do(actions)
        # The next event may be earlier than the one `keep_up` waits for.
        self._wake.set()

    def keep_up(self) -> None:
        """Apply events as they become due, until `stop`, so that a reader finds little left to apply.

        Sleeps while nothing is due.
        """
        while not self._stopped:
            with self._lock:
                now = self.clock.now()
                # One bounded step under the lock, so that a reader does not wait for all of them.
                next(self._steps_to(now), None)
                self._note_due()
            # Compare with the time before the step: under a high event rate something is always due after it.
            behind = self._due <= now
            wait = None if self._due == NOTHING_DUE else self.clock.wait_for(self._due)
            self._wake.wait(0 if behind else None if wait is None else max(wait, SHORTEST_WAIT))
            self._wake.clear()

    def stop(self) -> None:
        """Make `keep_up` return."""
        self._stopped = True
        self._wake.set()
