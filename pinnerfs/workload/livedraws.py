"""What live actions draw at random: pages, the calls that release them, and when they are unmapped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np

from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import ReleaseCalls, Stream, UnmapTimes, random_stream

__all__ = ["Drafts", "LiveDraws"]

_Key = TypeVar("_Key", bound=Hashable)
_Draws = TypeVar("_Draws")


@dataclass
class Drafts:
    """The random draws of a text of actions. They are dropped if one of the actions is refused."""

    pickers: dict[tuple[str, int], Picker] = field(default_factory=dict)  # by task and number of pages
    releases: dict[str, ReleaseCalls] = field(default_factory=dict)  # by task
    unmap_times: dict[str, UnmapTimes] = field(default_factory=dict)  # by task


def _draft(drafts: dict[_Key, _Draws], kept: Mapping[_Key, _Draws], key: _Key, make: Callable[[], _Draws]) -> _Draws:
    """Return a transaction's own copy of random draws, which is dropped if one of its actions is refused."""
    if key not in drafts:
        drafts[key] = copy.deepcopy(kept[key]) if key in kept else make()
    return drafts[key]


def _live(task: Task) -> Task:
    """Return the task with a name of its own, so that live draws do not change those of the scenario."""
    return msgspec.structs.replace(task, name=f"{task.name} live")


class LiveDraws:
    """The random draws of all texts so far."""

    def __init__(self, seed: int, memory: MemoryMap) -> None:
        self._seed = seed
        self._memory = memory
        self._kept = Drafts()

    def keep(self, drafts: Drafts) -> None:
        """Continue with the draws of a text that was carried out."""
        self._kept.pickers |= drafts.pickers
        self._kept.releases |= drafts.releases
        self._kept.unmap_times |= drafts.unmap_times

    def pick(self, drafts: Drafts, task: Task, pages: int | None) -> Int64s:
        """Return the next pages, picked in the task's own way. None is the task's own number."""
        assert task.region is not None
        region = self._memory.regions[task.region]
        pages = pages or task.pages or 1
        first = region.start if task.pfn is None else task.pfn
        room = (region.start + region.frames - first) >> (task.order or 0)
        if pages > room:
            at = "" if task.pfn is None else f" from PFN {task.pfn} on"
            raise ValueError(f"pages = {pages} is more than region {task.region!r} has room for{at} ({room})")
        key = (task.name, pages)
        return _draft(drafts.pickers, self._kept.pickers, key, lambda: self._picker(task, pages)).pick(1).ravel()

    def _picker(self, task: Task, pages: int) -> Picker:
        # Each number of pages has its own run size, and so its own picker.
        live = msgspec.structs.replace(task, name=f"{task.name} live {pages}", instances=1, pages=pages)
        assert task.region is not None
        rng = random_stream(self._seed, live.name, 0, Stream.pages)
        return Picker(live, 0, self._memory.regions[task.region], rng)

    def release(self, drafts: Drafts, task: Task) -> int:
        """Return the call that will release a new hold. Drawn at the pin, so later actions do not change it."""
        calls = _draft(
            drafts.releases, self._kept.releases, task.name, lambda: ReleaseCalls(_live(task), self._seed, 0)
        )
        return int(calls.draw(1)[0])

    def unmap(self, drafts: Drafts, task: Task, now: int) -> int:
        """Return when the pages of a new hold are unmapped."""
        times = _draft(
            drafts.unmap_times, self._kept.unmap_times, task.name, lambda: UnmapTimes(_live(task), self._seed, 0)
        )
        begin = np.array([now], dtype=np.int64)
        return int(times.draw(begin, begin)[0])
