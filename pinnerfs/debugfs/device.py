"""A simulation or a replay that follows a clock, and that several threads can use."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, thread_time
from typing import TYPE_CHECKING

from pinnerfs.clock import Clock
from pinnerfs.debugfs.engine import Deferred, Engine
from pinnerfs.debugfs.inject import Faults, cma_files
from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.words import count_of

if TYPE_CHECKING:
    from pinnerfs.kernel.cma.allocation import Allocation  # imports numpy

__all__ = ["Device"]

# While events are due, `keep_up` wakes about this often. Each wake costs about 2 ms of processor time, whatever is due:
# code and data are no longer in the processor's caches.
SHORTEST_WAIT = 0.25  # seconds

NOTHING_DUE = 1 << 64  # µs, later than any time of a clock

# An advance gets this share of its timeout as processor time. So one that needs little work does not time out only
# because other processes are busy.
LEAST_WORK = 0.2

SLIP_LOG_INTERVAL = 60.0  # seconds

log = logging.getLogger(__name__)


class Device:
    """The fake device behind the files.

    A request applies all due events before its answer. If that takes too long, the clock slips: it goes back to the
    moment that the simulation has reached, and the request is answered as of that moment.

    The clock's budget is for all requests together, because each of them also waits for those before it. The budget
    recovers while no request works, and the clock stands still after a slip until it has. So readers get at least half
    of the time.

    A deferred engine is built by `build`, in another thread. Requests that need the engine wait until then.
    """

    def __init__(self, simulation: Engine | Deferred, clock: Clock) -> None:
        self.clock = clock
        self.areas = tuple(simulation.areas)
        self.cma_directories: dict[str, str] = {}  # the areas by the names of their directories
        for area in self.areas:
            # If the names of two areas are cut to the same, the second directory is not created.
            self.cma_directories.setdefault(simulation.mm.directory(area), area)
        files = [*simulation.generation.files, *cma_files(self.cma_directories)]
        self.faults = Faults(simulation.faults, simulation.seed, files, self.now)
        self.mm: Mm = simulation.mm  # the memory management around page_pinner
        self._built = threading.Event()
        self._deferred: Deferred | None = None
        self._simulation: Engine
        if isinstance(simulation, Deferred):
            self._deferred = simulation
        else:
            self._simulation = simulation
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by the next thread to get `_lock`
        self._slipped_to = -1  # µs: the clock slipped to this moment
        self._slips = 0
        self._next_slip_log = 0.0
        self._spent = 0.0  # seconds of the budget
        self._worked_until = 0.0
        self._due = 0  # µs: the simulation has every event before this time; 0 before it is built
        self._failure = ""  # name of the exception of a step that failed half-way
        self._failure_logged = False
        self._stopped = False
        self._wake = threading.Event()

    def build(self) -> None:
        """Build the engine if it is deferred. Raise what its `build` raises: then requests for it fail with EIO."""
        try:
            if self._deferred is not None:
                self._simulation = self._deferred.build()
                self._deferred = None
        finally:
            self._built.set()

    def _engine(self) -> Engine:
        """Return the engine. Wait until it is built. OSError EIO if that failed."""
        if self._deferred is not None:
            self._built.wait()
            if self._deferred is not None:
                raise OSError(errno.EIO, "the simulation could not be built: unmount and mount again")
        return self._simulation

    def _await_lock(self) -> None:
        """Acquire `_lock`, which another thread holds, before `keep_up` gets it again."""
        with self._turn:
            self._lock.acquire()

    @contextmanager
    def up_to_now(self) -> Iterator[Engine]:
        """Lock the simulation for the caller, with every event up to now applied."""
        if not self._lock.acquire(False):
            self._await_lock()
        try:
            self._catch_up(self.clock.now())
            try:
                yield self._engine()
            finally:
                self._note_due()
        finally:
            self._lock.release()

    def now(self) -> int:
        """Return boot time in µs. It never falls, and every event up to then is applied."""
        with self.up_to_now() as simulation:
            return simulation.now

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of a record now, or b"": see `Simulation.text`. Each read of a record calls this."""
        # Lock even when nothing is due: `keep_up` could change the ring during the read.
        if not self._lock.acquire(False):
            self._await_lock()
        try:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            return self._simulation.text(position, file)
        finally:
            self._lock.release()

    def read_threshold(self) -> int:
        """Return the threshold in force now, in µs, signed."""
        return self._engine().read_threshold()

    def write_threshold(self, threshold: int) -> None:
        """Set the threshold, which clears all records up to now."""
        if not self._lock.acquire(False):
            self._await_lock()
        try:
            if (now := self.clock.now()) >= self._due:
                self._catch_up(now)
            self._simulation.write_threshold(threshold)
        finally:
            self._lock.release()

    def read_tracking(self) -> bool:
        """Return whether failed migrations are tracked now."""
        return self._engine().tracking

    def write_tracking(self, tracking: bool) -> None:
        """Switch the tracking of failed migrations from now on."""
        with self.up_to_now() as simulation:
            simulation.tracking = tracking

    def read_buffer_size(self) -> int:
        """Return the number of records that `buffer` has room for."""
        return self._engine().buffer_size

    def write_buffer_size(self, size: int) -> None:
        """Set the number of records, which clears all records up to now. OSError ENOMEM for too many."""
        with self.up_to_now() as simulation:
            simulation.buffer_size = size

    def advance(self, step: int, timeout: float) -> int:
        """Advance a manual clock and the simulation by `step` µs; stop after `timeout` seconds. Return the µs left."""
        with self.up_to_now() as simulation:
            goal = self.clock.advance(step)
            end, least = monotonic() + timeout, thread_time() + timeout * LEAST_WORK
            for _ in self._steps_to(goal):
                if monotonic() >= end and thread_time() >= least:
                    break
            self.clock.slip(simulation.now, 0)  # under the lock: no reader has seen the later time
            return goal - simulation.now

    def start_alloc(self, area: str, pages: int) -> Allocation:
        """Begin an allocation from a CMA area, whose pages debugfs can free: see `Simulation.start_alloc`."""
        with self.up_to_now() as simulation:
            allocation = simulation.start_alloc(area, pages, kept=True)
        # The next round may be earlier than the event that `keep_up` waits for.
        self._wake.set()
        return allocation

    def _catch_up(self, now: int) -> None:
        if now == self._slipped_to and not self._failure:
            return
        start, began = self._engine().now, monotonic()  # the first one may wait for the engine
        spent = max(0.0, self._spent - (began - self._worked_until))
        for _ in self._steps_to(now):
            self._note_due()
            self._worked_until = monotonic()
            self._spent = spent + self._worked_until - began
            if self._due <= now and self._spent >= self.clock.budget:
                self._slip(self._simulation.now - start, self._worked_until - began)
                break
        self._note_due()

    def _slip(self, applied: int, worked: float) -> None:
        """Set the clock back to the moment reached, by a request that applied `applied` µs in `worked` seconds."""
        before = self.clock.slipped
        self._slipped_to = self._simulation.now
        self.clock.slip(self._slipped_to, rest=self._spent)
        self._slips += 1
        if self._worked_until < self._next_slip_log:
            return
        self._next_slip_log = self._worked_until + SLIP_LOG_INTERVAL
        log.warning(
            "the clock slipped by %.6f s (in all by %.6f s in %s): applying the events of %.6f s took %.3f s, and the "
            "clock runs at speed %g; lower --speed, or let readers wait longer with a higher --max-lag",
            (self.clock.slipped - before) / 1e6,
            self.clock.slipped / 1e6,
            count_of(self._slips, "slip"),
            applied / 1e6,
            worked,
            self.clock.speed,
        )

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
            yield from self._engine().steps_to(now)
        except Exception as error:
            self._failure = type(error).__name__
            self._due = 0
            raise

    def _note_due(self) -> None:
        due = self._simulation.next_event()
        self._due = 0 if self._failure else NOTHING_DUE if due is None else due

    def do(self, actions: str) -> None:
        """Pin, release, unmap, free and allocate pages now. PinnerfsError names what is wrong with the actions."""
        with self.up_to_now() as simulation:
            simulation.do(actions)
        # The next event may be earlier than the one `keep_up` waits for.
        self._wake.set()

    def keep_up(self) -> None:
        """Apply events as they become due, until `stop`, so that a reader finds little left to apply.

        Sleeps while nothing is due.
        """
        while not self._stopped:
            with self._turn:
                self._lock.acquire()
            try:
                now = self.clock.now()
                # One bounded step under the lock, so that a reader does not wait for all of them.
                next(self._steps_to(now), None)
                self._note_due()
            finally:
                self._lock.release()
            # Compare with the time before the step: under a high event rate something is always due after it.
            behind = self._due <= now
            wait = None if self._due == NOTHING_DUE else self.clock.wait_for(self._due)
            self._wake.wait(0 if behind else None if wait is None else max(wait, SHORTEST_WAIT))
            self._wake.clear()

    def stop(self) -> None:
        """Make `keep_up` return."""
        self._stopped = True
        self._wake.set()
