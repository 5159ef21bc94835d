"""The pages that a hold pins: given frames, the next run of the region, or pages scattered over it."""

from __future__ import annotations

import hashlib

import numpy as np

from pinnerfs.kernel.pages import FrameRange, Int64s
from pinnerfs.scenario.schema import Task

__all__ = ["Picker"]

AHEAD = 128  # frames drawn at least in one go: a call of `integers` takes as long as a thousand of its draws


class Picker:
    """A source of pages for one instance's holds. A run is a number of pages side by side."""

    def __init__(self, task: Task, instance: int, region: FrameRange, rng: np.random.Generator) -> None:
        self._pages = task.pages or 1
        self._order = task.order or 0
        self._start = region.start
        self._slots = region.frames >> self._order
        self._scattered = task.pick == "scattered"
        self._rng = rng
        self._drawn = np.empty(0, dtype=np.int64)  # frames of later holds
        self._runs = self._slots // self._pages
        if task.pfn is None:
            # Tasks start at different runs, from a hash of their names. Instances take the runs in turn.
            self._next = int.from_bytes(hashlib.sha256(task.name.encode()).digest()[:8]) % self._runs + instance
            self._step = task.instances
        else:
            # Every hold has the same run. It may lie anywhere in the region.
            self._start = task.pfn
            self._next = instance
            self._step = 0

    @property
    def run_pages(self) -> int:
        """Return the number of pages in a run."""
        return 1 if self._scattered else self._pages

    def pick(self, holds: int) -> Int64s:
        """Return the first frame of each page of the next holds: shape (holds, pages). A hold has no page twice."""
        offsets = np.arange(self.run_pages, dtype=np.int64) << self._order
        return (self.pick_runs(holds)[:, :, None] + offsets).reshape(holds, self._pages)

    def pick_runs(self, holds: int) -> Int64s:
        """Return the first frame of each run of the next holds: shape (holds, runs)."""
        if self._scattered and self._pages == 1:
            return self._single(holds)[:, None]
        return self._frames(self._scatter(holds) if self._scattered else self._next_runs(holds))

    def _frames(self, slots: Int64s) -> Int64s:
        return self._start + (slots << self._order)

    def _single(self, holds: int) -> Int64s:
        drawn = self._drawn
        if len(drawn) < holds:
            more = self._rng.integers(0, self._slots, size=max(holds - len(drawn), AHEAD))
            drawn = np.concatenate([drawn, self._frames(more)])
        self._drawn = drawn[holds:].copy()
        return drawn[:holds]

    def _next_runs(self, holds: int) -> Int64s:
        runs = (self._next + self._step * np.arange(holds, dtype=np.int64)) % self._runs
        self._next = (self._next + self._step * holds) % self._runs
        return runs[:, None] * self._pages

    def _scatter(self, holds: int) -> Int64s:
        slots = self._rng.integers(0, self._slots, size=(holds, self._pages))
        ordered = np.sort(slots, axis=1)
        for row in np.flatnonzero((np.diff(ordered, axis=1) == 0).any(axis=1)):
            slots[row] = self._rng.choice(self._slots, size=self._pages, replace=False)
        return slots
