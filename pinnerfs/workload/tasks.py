"""The calls that pin and release a task's pages, and the random streams of its instances."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import Event
from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.schema import LONGTERM, Task
from pinnerfs.workload.draws import draw

__all__ = ["FOREVER", "NO_RELEASE", "ReleaseCalls", "Stream", "UnmapTimes", "pin_call", "random_stream"]

FOREVER = 1 << 62  # µs: later than any event; the end of a hold that is never released

NO_RELEASE = 255  # stands for the releasing call of a hold that is never released

PIN_OF = {
    "FOLL_GET": Event.get_user_pages,
    "FOLL_PIN": Event.pin_user_pages,
    LONGTERM: Event.pin_user_pages,
    "none": Event.get_page,
}


class Stream(IntEnum):
    """The uses of random numbers. Each has its own stream, so drawing for one does not change another."""

    times = 0
    pages = 1
    releases = 2
    unmaps = 3
    allocs = 4


def random_stream(seed: int, task: str, instance: int, stream: Stream) -> np.random.Generator:
    """Return a random stream of an instance. The task counts by its name, so reordering tasks changes nothing."""
    digest = hashlib.sha256(task.encode()).digest()
    key = [int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4)]
    sequence = np.random.SeedSequence(seed, spawn_key=(*key, instance, stream))
    return np.random.Generator(np.random.PCG64(sequence))


def pin_call(task: Task) -> Event:
    """Return the call that pins a task's pages."""
    return PIN_OF[task.foll]


class ReleaseCalls:
    """The calls that release the holds of one instance, in the order of the holds.

    A task with several calls draws one for each hold, by their weights. A task with a single call draws nothing.
    """

    def __init__(self, task: Task, seed: int, instance: int) -> None:
        calls = [NO_RELEASE if call == "never" else Event[call] for call in task.releases]
        self._calls = np.array(calls, dtype=np.uint8)
        self._bounds = np.cumsum([*task.releases.values()])
        self._rng = random_stream(seed, task.name, instance, Stream.releases) if self.drawn(task) else None

    @staticmethod
    def drawn(task: Task) -> bool:
        """Return whether each instance of a task draws its calls. Otherwise all have the same."""
        return len(task.releases) > 1

    def draw(self, holds: int) -> npt.NDArray[np.uint8]:
        """Return the calls (Event) of the next holds, or NO_RELEASE for each."""
        if self._rng is None:
            return np.full(holds, self._calls[0])
        drawn = self._rng.integers(0, self._bounds[-1], size=holds)
        return self._calls[np.searchsorted(self._bounds, drawn, side="right")]


class UnmapTimes:
    """The moments at which the pages of one instance's holds are unmapped, in the order of the holds."""

    def __init__(self, task: Task, seed: int, instance: int) -> None:
        self._with_release = task.unmap == "with-release"
        self._after = task.unmap_distribution
        self._rng = None if self._after is None else random_stream(seed, task.name, instance, Stream.unmaps)

    @staticmethod
    def drawn(task: Task) -> bool:
        """Return whether each instance of a task draws its times. Otherwise one function of its holds gives them."""
        return task.unmap_distribution is not None

    def draw(self, begin: Int64s, end: Int64s) -> Int64s:
        """Return the moments (µs) for the next holds: FOREVER for never."""
        if self._after is not None and self._rng is not None:
            return begin + draw(self._after, self._rng, len(begin))
        return end if self._with_release else np.full(len(begin), FOREVER, dtype=np.int64)
