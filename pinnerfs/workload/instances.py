"""The instances of a task, which draw their next holds together: numpy pays off only with many numbers at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.arrivals import Arrivals, PhaseTimes, largest_block
from pinnerfs.workload.blocks import draw_blocks
from pinnerfs.workload.draws import draw_each, joined
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import ReleaseCalls, Stream, UnmapTimes, random_stream
from pinnerfs.workload.work import BLOCK, BLOCKS, PHASE, Work

__all__ = ["Instances"]

# Blocks that are drawn together are a single one, or take no more work than this. A step is bounded then, and their
# arrays stay in the processor's cache.
TOGETHER = 1 << 15


class _Drawn(NamedTuple):
    """Holds, one block after the other: the first `counts[0]` are those of `instances[0]`, and so on."""

    begin: Int64s
    end: Int64s
    pfn: Int64s
    instances: list[int]
    counts: list[int]


class Instances:
    """The instances of a task. None of their holds begins at `stop` (µs) or later.

    horizon: all holds of an instance that begin before this moment are drawn; FOREVER if it has no more.
    together: the number of instances that may draw together, so that a step is bounded.
    drawn: the number of holds that `take` will return.
    """

    def __init__(self, task: Task, seed: int, stop: int, memory: MemoryMap, work: Work) -> None:
        numbers = range(task.instances)
        streams = [random_stream(seed, task.name, number, Stream.times) for number in numbers]
        starts = draw_each(task.start_distribution, streams, [1] * len(numbers)).tolist()
        self._phases = [PhaseTimes.of(phase) for phase in task.phase]
        self._blocks = [
            Arrivals(task, self._phases, number, stream, start, stop).blocks()
            for number, stream, start in zip(numbers, streams, starts, strict=True)
        ]
        self._pickers: list[Picker] | None = None
        if task.region is not None:
            region = memory.regions[task.region]
            streams = [random_stream(seed, task.name, number, Stream.pages) for number in numbers]
            self._pickers = [Picker(task, number, region, streams[number]) for number in numbers]
        # What an instance does not draw is the same for all of them.
        self._one_release, self._one_unmap = not ReleaseCalls.drawn(task), not UnmapTimes.drawn(task)
        self._releases = [ReleaseCalls(task, seed, number) for number in numbers[: 1 if self._one_release else None]]
        self._unmaps = [UnmapTimes(task, seed, number) for number in numbers[: 1 if self._one_unmap else None]]
        self._search = max(phase.search for phase in self._phases)
        if task.unmap_distribution is not None:
            self._search += task.unmap_distribution.search
        self._work = work
        self.drawn = 0
        self._drawn: list[_Drawn] = []
        self.horizon = np.zeros(task.instances, dtype=np.int64)
        self.together = max(1, TOGETHER // (BLOCK + largest_block(task) * (1 + self._search + (task.pages or 1))))

    def draw(self, instances: Sequence[int]) -> None:
        """Draw the next block of each of these instances."""
        groups: dict[tuple[int, int], list[Arrivals]] = {}
        phases = 0
        for instance in instances:
            block = next(self._blocks[instance])
            phases += block.phases
            if block.size:
                groups.setdefault((block.phase, block.size), []).append(block)
            else:
                self.horizon[instance] = block.reached
        self._work.add(PHASE * phases)
        for (phase, _), blocks in groups.items():
            begin, end = draw_blocks(self._phases[phase], blocks)
            members, counts = [block.instance for block in blocks], [block.count for block in blocks]
            for block in blocks:
                self.horizon[block.instance] = block.reached
            pfn = self._pick(members, counts)
            self._work.add(BLOCKS + BLOCK * len(blocks) + len(begin) * (1 + self._search) + pfn.size)
            if len(begin):
                self.drawn += len(begin)
                self._drawn.append(_Drawn(begin, end, pfn, members, counts))

    def _pick(self, instances: Sequence[int], counts: Sequence[int]) -> Int64s:
        """Return the runs of pages of the next holds: `counts[n]` holds of `instances[n]`."""
        if self._pickers is None:
            return np.empty((sum(counts), 0), dtype=np.int64)
        each = zip(instances, counts, strict=True)
        return joined([self._pickers[instance].pick_runs(count) for instance, count in each])

    def take(self) -> Holds:
        """Return all holds drawn since the call before."""
        begin = joined([drawn.begin for drawn in self._drawn])
        end = joined([drawn.end for drawn in self._drawn])
        pfn = joined([drawn.pfn for drawn in self._drawn])
        instances = list(chain.from_iterable(drawn.instances for drawn in self._drawn))
        counts = list(chain.from_iterable(drawn.counts for drawn in self._drawn))
        self._drawn.clear()
        self.drawn = 0
        if self._one_release:
            release = self._releases[0].draw(len(begin))
        else:
            each = zip(instances, counts, strict=True)
            release = joined([self._releases[instance].draw(count) for instance, count in each])
        if self._one_unmap:
            unmap = self._unmaps[0].draw(begin, end)
        else:
            bounds = np.cumsum(counts[:-1])
            parts = zip(instances, np.split(begin, bounds), np.split(end, bounds), strict=True)
            unmap = joined([self._unmaps[instance].draw(*times) for instance, *times in parts])
        return Holds(begin, end, pfn, np.repeat(instances, counts), release, unmap)
