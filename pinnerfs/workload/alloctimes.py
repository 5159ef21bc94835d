"""When a scenario's alloc asks for pages, and how long it keeps what it gets.

An alloc has few requests, and with `gap` the next one depends on how the last one ended. So they are drawn one by one,
unlike the holds of a task.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import NamedTuple

from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.workload.arrivals import NO_LIMIT, QUIET_PHASES, PhaseTimes
from pinnerfs.workload.draws import draw
from pinnerfs.workload.tasks import FOREVER, Stream, random_stream

__all__ = ["AllocTimes", "Request"]


class Request(NamedTuple):
    """A call of cma_alloc at a moment (µs). `hold` is the time from success to cma_release; None: never released."""

    moment: int
    hold: int | None


class _Look(NamedTuple):
    """No request before this moment (µs), unless the last one ends earlier."""

    moment: int


class AllocTimes:
    """The requests of one alloc, in order of time. None is made at `stop` (µs) or later."""

    def __init__(self, alloc: Alloc, seed: int, stop: int) -> None:
        self._alloc = alloc
        self._phases = [PhaseTimes.of(phase) for phase in alloc.phase]
        self._rng = random_stream(seed, alloc.name, 0, Stream.allocs)
        self._stop = stop
        self._requests = 0  # so far
        self._fraction = 0.0  # part of a µs by which the last arrival of a `rate` came after its time
        # Of the last request of a `gap` phase: its moment, and its end, or None as long as that is not known.
        self._asked: int | None = None
        self._free_at: int | None = None
        self._steps = self._generate()
        self._next: Request | _Look = _Look(0)
        self._proceed()

    @property
    def next_event(self) -> int:
        """Return the moment before which nothing happens, or FOREVER. Nothing may happen at that moment."""
        return self._next.moment

    def take(self) -> Request | None:
        """Take the request of the moment `next_event`, or None if there is none."""
        taken = self._next
        self._proceed()
        return taken if isinstance(taken, Request) else None

    def end(self, asked: int, end: int) -> None:
        """Take note that the allocation that was asked for at `asked` ends at `end`: by its failure or its release."""
        if asked == self._asked and self._free_at is None:
            self._free_at = end
            if isinstance(self._next, _Look):
                self._proceed()

    def _proceed(self) -> None:
        self._next = next(self._steps, _Look(FOREVER))

    def _generate(self) -> Iterator[Request | _Look]:
        now, quiet = int(draw(self._alloc.start_distribution, self._rng, 1)[0]), 0
        while now < self._stop:
            for phase in self._phases:
                asked = self._requests
                now = yield from self._phase(phase, now)
                if now >= self._stop:
                    return
                quiet = 0 if self._requests > asked else quiet + 1
                if quiet >= QUIET_PHASES:
                    quiet = 0
                    yield _Look(now)

    def _phase(self, phase: PhaseTimes, now: int) -> Generator[Request | _Look, None, int]:
        """Yield the requests of a phase that begins now. Return when it ends."""
        end = self._stop
        if phase.lasts is not None:
            # At least 1 µs, or phases drawn as 0 would repeat for ever at one moment.
            end = min(self._stop, now + max(1, int(draw(phase.lasts, self._rng, 1)[0])))
        left = NO_LIMIT if phase.repeat is None else phase.repeat
        if phase.every is not None:
            moments = range(now, min(end, now + phase.every * left), phase.every)
            for moment in moments:
                yield self._request(phase, moment)
            now += phase.every * len(moments)
        elif phase.gap is not None:
            now = yield from self._gaps(phase, phase.gap, now, end, left)
        elif phase.mean_wait is not None:
            now = yield from self._poisson(phase, phase.mean_wait, now, end, left)
        if phase.lasts is None:
            return now
        self._fraction = 0.0
        return end

    def _gaps(
        self, phase: PhaseTimes, gap: TimeDistribution, now: int, end: int, left: int
    ) -> Generator[Request | _Look, None, int]:
        for _ in range(left):
            moment = now
            if self._asked is not None:
                if self._free_at is None:
                    yield _Look(end)
                if self._free_at is None:
                    return end
                # At least 1 µs, or a hold and a gap drawn as 0 would repeat for ever at one moment.
                moment = max(now, self._asked + 1, self._free_at + int(draw(gap, self._rng, 1)[0]))
            if moment >= end:
                return end
            self._asked, self._free_at = moment, None
            yield self._request(phase, moment)
        if self._free_at is None:
            yield _Look(end)
        return end if self._free_at is None else max(now, self._free_at)

    def _poisson(
        self, phase: PhaseTimes, wait: float, now: int, end: int, left: int
    ) -> Generator[Request | _Look, None, int]:
        for _ in range(left):
            # Round the sums. If each wait were rounded by itself, short waits would be too short on average.
            self._fraction += float(self._rng.exponential(wait))
            now += math.floor(self._fraction)
            self._fraction %= 1
            if now >= end:
                break
            yield self._request(phase, now)
        return now

    def _request(self, phase: PhaseTimes, moment: int) -> Request:
        self._requests += 1
        return Request(moment, None if phase.hold is None else int(draw(phase.hold, self._rng, 1)[0]))
