"""A simulation that is kept up with a clock, safe to be asked by several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pinnerfs.clock import Clock
from pinnerfs.simulation import Simulation

__all__ = ["Device"]

# Books are kept up at least this often while things happen; more often would only cost processor time.
SHORTEST_NAP = 0.1  # seconds


class Device:
    """The fake device behind the files."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self.clock = clock
        self._simulation = simulation
        self._lock = threading.Lock()
        self._stopped = False
        self._wake = threading.Event()

    @contextmanager
    def up_to_now(self) -> Iterator[Simulation]:
        """The simulation with every event up to this moment in the books, for one's own use meanwhile."""
        with self._lock:
            self._simulation.advance_to(self.clock.now())
            yield self._simulation

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
                next(self._simulation.steps_to(now), None)
                due = self._simulation.next_event()
            # By `now`, not by the time that it is by then: where much happens, something is always due already.
            behind = due is not None and due <= now
            wait = None if due is None else self.clock.wait_for(due)
            self._wake.wait(0 if behind else None if wait is None else max(wait, SHORTEST_NAP))
            self._wake.clear()

    def stop(self) -> None:
        """Let `keep_up` return."""
        self._stopped = True
        self._wake.set()
