"""The holds of one instance of a task: when each begins and ends, drawn in blocks, lazily.

A block's size follows from the scenario alone, never from how far anyone has advanced: so the draws are the same
whoever asks, and whenever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pinnerfs.kernel.events import Event
from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.distributions import TimeDistribution
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.schema import Phase, Task
from pinnerfs.workload.draws import draw
from pinnerfs.workload.picks import Picker

__all__ = ["NEVER", "HoldBlock", "hold_blocks", "pin_call", "random_streams", "release_call"]

PIN_OF = {"FOLL_GET": Event.get_user_pages, "FOLL_PIN": Event.pin_user_pages, "none": Event.get_page}

NEVER = 1 << 62  # the release time of a pin that is never released

# Holds of a phase's first block; each one after it has twice as many: a short phase draws little that it does not use.
FIRST_BLOCK = 16
# Rows (holds times pages) of one block: large enough for numpy to pay, small enough to keep memory bounded, as every
# instance keeps a block at hand: TASK_ROWS is the most for all instances of a task together.
BLOCK_ROWS = 8192
TASK_ROWS = 1 << 20


def pin_call(task: Task) -> Event:
    """The call that pins a task's pages."""
    return PIN_OF[task.foll]


def release_call(task: Task) -> Event | None:
    """The call that ends a task's holds: its own, or the one that goes with its pins; None where nothing ever does."""
    call = next(iter(task.releases))
    return None if call == "never" else Event[call]


@dataclass(frozen=True)
class HoldBlock:
    """Holds in order of their beginning: `begin` and `end` in µs, of shape (holds,); `pfn`, the first frame of each
    run of pages of each hold, of shape (holds, runs): none where the pages are another task's."""

    begin: Int64s
    end: Int64s
    pfn: Int64s

    def __len__(self) -> int:
        return len(self.begin)


def random_streams(seed: int, task: str, instance: int) -> tuple[np.random.Generator, np.random.Generator]:
    """The streams of an instance, for its times and for its pages. They hang on the task's name, not its place."""
    digest = hashlib.sha256(task.encode()).digest()
    key = [int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4)]
    child = np.random.SeedSequence(seed, spawn_key=(*key, instance))
    times, pages = child.spawn(2)
    return np.random.Generator(np.random.PCG64(times)), np.random.Generator(np.random.PCG64(pages))


class _Phase(NamedTuple):
    """A phase with its quantities read."""

    lasts: TimeDistribution | None
    repeat: int | None
    every: int | None
    gap: TimeDistribution | None
    mean_wait: float | None  # µs between arrivals of a rate
    hold: TimeDistribution | None

    @classmethod
    def of(cls, phase: Phase) -> _Phase:
        return cls(
            lasts=phase.lasts_distribution,
            repeat=phase.repeat,
            every=None if phase.every is None else parse_time("every", phase.every),
            gap=phase.gap_distribution,
            mean_wait=None if phase.rate is None else 1 / parse_rate("rate", phase.rate),
            hold=phase.hold_distribution,
        )


class _Times:
    """The beginnings and ends of one instance's holds."""

    def __init__(self, task: Task, rng: np.random.Generator, stop: int) -> None:
        self._phases = [_Phase.of(phase) for phase in task.phase]
        self._rng = rng
        self._stop = stop
        self._block = max(1, min(BLOCK_ROWS, TASK_ROWS // task.instances) // (task.pages or 1))
        self._now = int(draw(task.start_distribution, rng, 1)[0])  # where the current phase begins
        # Of the last hold of a `gap` phase: when the next one may begin at the earliest, and when it ended.
        self._begin_after = 0
        self._free_at: int | None = None

    def blocks(self) -> Iterator[tuple[Int64s, Int64s]]:
        """Phases over and over, until arrivals stop at the scenario's end."""
        while self._now < self._stop:
            for phase in self._phases:
                yield from self._phase(phase)
                if self._now >= self._stop:
                    return

    def _phase(self, phase: _Phase) -> Iterator[tuple[Int64s, Int64s]]:
        end = self._stop
        if phase.lasts is not None:
            # A phase takes time, whatever was drawn: else one could repeat for ever at one moment.
            end = min(self._stop, self._now + max(1, int(draw(phase.lasts, self._rng, 1)[0])))
        left = phase.repeat if phase.repeat is not None else NEVER
        if phase.every is not None:
            yield from self._grid(phase, phase.every, end, left)
        elif phase.gap is not None:
            yield from self._gaps(phase, phase.gap, end, left)
        elif phase.mean_wait is not None:
            yield from self._poisson(phase, phase.mean_wait, end, left)
        if phase.lasts is not None:
            self._now = end

    def _sizes(self) -> Iterator[int]:
        """How many holds each block of a phase has."""
        size = FIRST_BLOCK
        while True:
            yield min(size, self._block)
            size = min(2 * size, self._block)

    def _ends(self, phase: _Phase, begin: Int64s) -> Int64s:
        if phase.hold is None:
            return np.full(len(begin), NEVER, dtype=np.int64)
        return begin + draw(phase.hold, self._rng, len(begin))

    def _grid(self, phase: _Phase, every: int, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        start = self._now
        total = min(left, -(-(end - start) // every))
        first = 0
        for size in self._sizes():
            if first >= total:
                break
            begin = start + every * np.arange(first, min(first + size, total), dtype=np.int64)
            first += size
            yield begin, self._ends(phase, begin)
        self._now = start + every * total

    def _gaps(self, phase: _Phase, gap: TimeDistribution, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        begin_next = self._now
        if self._free_at is not None:
            begin_next = max(begin_next, self._begin_after, self._free_at + int(draw(gap, self._rng, 1)[0]))
        self._now = begin_next
        for size in self._sizes():
            if left <= 0 or begin_next >= end:
                break
            n = min(left, size)
            hold = np.zeros(n, dtype=np.int64) if phase.hold is None else draw(phase.hold, self._rng, n)
            # The next arrival is at least 1 µs on, so that time passes even where both are drawn as 0.
            steps = np.maximum(1, hold + draw(gap, self._rng, n))
            begin = begin_next + np.concatenate(([0], np.cumsum(steps)))
            begin_next, begin = int(begin[-1]), begin[:-1]
            kept = begin < end
            begin, hold = begin[kept], hold[kept]
            left -= len(begin)
            self._begin_after = int(begin[-1]) + 1
            self._free_at = self._now = int(begin[-1] + hold[-1])
            yield begin, begin + hold if phase.hold is not None else self._ends(phase, begin)

    def _poisson(self, phase: _Phase, wait: float, end: int, left: int) -> Iterator[tuple[Int64s, Int64s]]:
        at = self._now
        for size in self._sizes():
            if left <= 0 or at >= end:
                break
            n = min(left, size)
            waits = np.rint(self._rng.exponential(wait, n)).astype(np.int64)
            begin = at + np.cumsum(waits)
            at = int(begin[-1])
            begin = begin[begin < end]
            left -= len(begin)
            if len(begin):
                yield begin, self._ends(phase, begin)
        self._now = at


def hold_blocks(task: Task, rng: np.random.Generator, stop: int, picker: Picker | None) -> Iterator[HoldBlock]:
    """The holds of one instance until arrivals stop at `stop` (µs); `picker` finds their pages, if they are its own."""
    for begin, end in _Times(task, rng, stop).blocks():
        pfn = np.empty((len(begin), 0), dtype=np.int64) if picker is None else picker.pick_runs(len(begin))
        yield HoldBlock(begin, end, pfn)
