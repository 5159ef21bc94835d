"""Pins made by hand while a scenario plays: actions turned into events, at the moment at which they are asked for.

The live pins of a task are like those of one more task beside it, with pages and draws of its own: the scenario's own
events stay what they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.actions import Action, parse_actions
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import NEVER, pin_call, random_streams, release_call
from pinnerfs.workload.timeline import take_first

__all__ = ["Live"]

# Each action looks through all of them.
MAX_HOLDS = 4096


@dataclass(frozen=True)
class _Hold:
    """Pages that were pinned together and are pinned still; `end` is when they are released by themselves, or NEVER."""

    task: Task
    pfn: Int64s
    end: int


@dataclass
class _Trial:
    """What a text of actions comes to; it is thrown away where one of them cannot be carried out."""

    holds: list[_Hold]  # in the order in which they were pinned
    pickers: dict[tuple[str, int], Picker]
    batches: list[EventBatch]
    pins: int = 0


class Live:
    """The live pins of a scenario, and the events that they make: at most `most` pages at once, and in one text."""

    def __init__(
        self, scenario: Scenario, seed: int, memory: MemoryMap, generation: Generation, depot: StackDepot, most: int
    ) -> None:
        self._most = most
        self._scenario = scenario
        self._seed = seed
        self._memory = memory
        self._tasks = {task.name: task for task in scenario.task}
        self._handles = {
            task.name: depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            for task in scenario.task
        }
        self._holds: list[_Hold] = []
        self._pickers: dict[tuple[str, int], Picker] = {}
        self._ready = EventBatch.of([])  # due, not yet taken
        self._next_end = NEVER

    def do(self, text: str, now: int) -> None:
        """Carry out actions at a moment, all of them or none. ValueError says in which line what is wrong."""
        trial = _Trial(list(self._holds), {}, [])
        for action in parse_actions(text, self._scenario):
            try:
                if action.verb == "pin":
                    self._pin(trial, action, now)
                else:
                    self._let_go(trial, action, now)
            except ValueError as error:
                raise ValueError(f"line {action.line}: {error}") from None
            if action.hold == 0:  # it ends before the next action
                self._end(trial, now)
        pinned = sum(len(hold.pfn) for hold in trial.holds)
        if pinned > self._most:
            raise ValueError(f"{pinned} pages would be pinned live: wanted at most {self._most}")
        self._pickers |= trial.pickers
        self._keep(trial)

    def next_event(self) -> int | None:
        """When something next happens, in µs, or None if nothing does unless more is asked for."""
        if len(self._ready):
            return int(self._ready.time[0])
        return None if self._next_end == NEVER else self._next_end

    def take(self, until: int, most: int) -> EventBatch:
        """The next events up to and at `until`, on at most `most` frames (or a single one); empty at the end."""
        if not len(self._ready) and self._next_end <= until:
            trial = _Trial(list(self._holds), {}, [])
            self._end(trial, self._next_end)
            self._keep(trial)
        taken, self._ready = take_first(self._ready, until, most)
        return taken

    def _keep(self, trial: _Trial) -> None:
        self._holds = trial.holds
        self._next_end = min((hold.end for hold in self._holds), default=NEVER)
        self._ready = EventBatch.concatenate([self._ready, *trial.batches])

    def _pin(self, trial: _Trial, action: Action, now: int) -> None:
        task = action.task
        if action.hold is not None and task.release == "never":
            raise ValueError(f"hold goes with a task that releases its pages, and task {task.name!r} never does")
        if len(trial.holds) >= MAX_HOLDS:
            raise ValueError(f"{MAX_HOLDS} pins are live already: wanted a `release` or `free` before")
        pfn = self._pick(trial, action) if task.share is None else self._shared(trial, action, task.share)
        trial.pins += len(pfn)
        if trial.pins > self._most:
            raise ValueError(f"{trial.pins} pages would be pinned up to here: wanted at most {self._most} in one go")
        trial.holds.append(_Hold(task, pfn, NEVER if action.hold is None else now + action.hold))
        trial.batches.append(self._events(task, pin_call(task), pfn, now))

    def _pick(self, trial: _Trial, action: Action) -> Int64s:
        """The next pages of the task's region, by the task's own way of picking."""
        task = action.task
        assert task.region is not None
        region = self._memory.regions[task.region]
        pages = action.pages or task.pages or 1
        room = region.frames >> (task.order or 0)
        if pages > room:
            raise ValueError(f"pages = {pages} is more than region {task.region!r} has room for ({room})")
        key = (task.name, pages)
        if key not in trial.pickers:
            trial.pickers[key] = (
                copy.deepcopy(self._pickers[key]) if key in self._pickers else self._picker(task, pages)
            )
        return trial.pickers[key].pick(1).ravel()

    def _picker(self, task: Task, pages: int) -> Picker:
        beside = msgspec.structs.replace(task, name=f"{task.name} live {pages}", instances=1, pages=pages)
        assert task.region is not None
        return Picker(beside, 0, self._memory.regions[task.region], random_streams(self._seed, beside.name, 0)[1])

    @staticmethod
    def _shared(trial: _Trial, action: Action, owner: str) -> Int64s:
        """The pages of the owner's latest live pin."""
        if action.pages is not None:
            raise ValueError(f"task {action.task.name!r} shares the pages of task {owner!r}: leave out pages")
        for hold in reversed(trial.holds):
            if hold.task.name == owner:
                return hold.pfn
        raise ValueError(
            f"task {action.task.name!r} shares the pages of task {owner!r}, for which nothing is pinned live: "
            f"wanted a `pin task={owner}` before"
        )

    def _let_go(self, trial: _Trial, action: Action, now: int) -> None:
        """Release or free what is pinned live for a task, oldest first."""
        task = action.task
        pinned = sum(len(hold.pfn) for hold in trial.holds if hold.task is task)
        if not pinned:
            raise ValueError(f"nothing is pinned live for task {task.name!r}: wanted a `pin task={task.name}` before")
        left = pinned if action.pages is None else action.pages
        if left > pinned:
            raise ValueError(f"pages = {left} is more than the {pinned} that are pinned live for task {task.name!r}")
        call = Event.free if action.verb == "free" else Event[action.by] if action.by else release_call(task)
        if call is None:
            raise ValueError(f"task {task.name!r} never releases its pages: wanted by=..., such as by=put_page")
        kept = []
        for hold in trial.holds:
            count = min(left, len(hold.pfn)) if hold.task is task else 0
            if count:
                trial.batches.append(self._events(task, call, hold.pfn[:count], now))
            if not count:
                kept.append(hold)
            elif count < len(hold.pfn):
                kept.append(replace(hold, pfn=hold.pfn[count:]))
            left -= count
        trial.holds = kept

    def _end(self, trial: _Trial, moment: int) -> None:
        """Release what was to be held up to a moment, in the order in which it was pinned."""
        for hold in trial.holds:
            call = release_call(hold.task)
            if hold.end <= moment and call is not None:
                trial.batches.append(self._events(hold.task, call, hold.pfn, hold.end))
        trial.holds = [hold for hold in trial.holds if hold.end > moment]

    def _events(self, task: Task, kind: Event, pfn: Int64s, time: int) -> EventBatch:
        """The same call for each page."""
        owner = task if task.share is None else self._tasks[task.share]
        return EventBatch(
            time=np.full(len(pfn), time, dtype=np.int64),
            kind=np.full(len(pfn), kind, dtype=np.uint8),
            pfn=pfn,
            order=np.full(len(pfn), owner.order or 0, dtype=np.uint8),
            handle=np.full(len(pfn), self._handles[task.name], dtype=np.int32),
            pages=np.ones(len(pfn), dtype=np.int64),
        )
