"""Live actions: pages pinned, released, unmapped and freed by hand while a scenario plays.

The live pins of a task behave like those of one more task beside it, with its own pages and random streams. So they
never change the scenario's own events.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.actions import Action, parse_actions
from pinnerfs.scenario.schema import WITH_RELEASE, Scenario, Task
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import FOREVER, ReleaseCalls, Stream, Unmaps, pin_call, random_stream
from pinnerfs.workload.timeline import take_first

__all__ = ["Live"]

# Each action searches all live holds, so their number bounds the time of an action.
MAX_HOLDS = 4096


@dataclass(frozen=True)
class _LiveHold:
    """Pages that were pinned by one action and are still pinned."""

    task: Task
    pfn: Int64s
    end: int  # µs, or FOREVER if only an action releases them
    release: int  # the call (Event) at the end, or NO_RELEASE
    number: int  # of the pin; parts of a hold keep it
    mapped: bool


@dataclass(frozen=True)
class _LiveUnmap:
    """An munmap that is due at a time after the pin, whether the pages are still pinned then or not."""

    hold: _LiveHold
    time: int  # µs


@dataclass
class _Transaction:
    """The result of a text of actions. It is dropped if one of the actions is refused."""

    holds: list[_LiveHold]  # in the order of their pins
    due: list[_LiveUnmap]
    number: int  # of the last pin
    pickers: dict[tuple[str, int], Picker]
    releases: dict[str, ReleaseCalls]
    unmaps: dict[str, Unmaps]
    batches: list[EventBatch]
    pins: int = 0


class Live:
    """The live holds of a scenario and their events. At most `most` pages are pinned at once, and by one text."""

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
        self._holds: list[_LiveHold] = []
        self._due: list[_LiveUnmap] = []
        self._number = 0
        self._pickers: dict[tuple[str, int], Picker] = {}  # by task and number of pages
        self._releases: dict[str, ReleaseCalls] = {}  # by task
        self._unmaps: dict[str, Unmaps] = {}  # by task
        self._ready = EventBatch.of([])  # due, not yet taken
        self._next_end = FOREVER

    def do(self, text: str, now: int) -> None:
        """Carry out all actions of a text, or none. ValueError names the line and what is wrong."""
        transaction = self._begin()
        for action in parse_actions(text, self._scenario):
            try:
                if action.verb == "pin":
                    self._pin(transaction, action, now)
                elif action.verb == "unmap":
                    self._unmap(transaction, action, now)
                else:
                    self._release(transaction, action, now)
            except ValueError as error:
                raise ValueError(f"line {action.line}: {error}") from None
            if action.hold == 0:  # it ends before the next action
                self._end_due(transaction, now)
        pinned = sum(len(hold.pfn) for hold in transaction.holds)
        if pinned > self._most:
            raise ValueError(f"{pinned} pages would be pinned live: wanted at most {self._most}")
        self._commit(transaction)

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if only a new action can cause one."""
        if len(self._ready):
            return int(self._ready.time[0])
        return None if self._next_end == FOREVER else self._next_end

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next events up to and at `until`, on at most `most` frames or a single page. Empty: none left."""
        if not len(self._ready) and self._next_end <= until:
            transaction = self._begin()
            self._end_due(transaction, self._next_end)
            self._commit(transaction)
        taken, self._ready = take_first(self._ready, until, most)
        return taken

    def _begin(self) -> _Transaction:
        return _Transaction(list(self._holds), list(self._due), self._number, {}, {}, {}, [])

    def _commit(self, transaction: _Transaction) -> None:
        self._holds, self._due, self._number = transaction.holds, transaction.due, transaction.number
        self._pickers |= transaction.pickers
        self._releases |= transaction.releases
        self._unmaps |= transaction.unmaps
        ends = [hold.end for hold in self._holds] + [unmap.time for unmap in self._due]
        self._next_end = min(ends, default=FOREVER)
        self._ready = EventBatch.concatenate([self._ready, *transaction.batches])

    def _pin(self, transaction: _Transaction, action: Action, now: int) -> None:
        task = action.task
        if action.hold is not None and "never" in task.releases:
            raise ValueError(f"hold goes with a task that releases its pages, and task {task.name!r} never does")
        if len(transaction.holds) >= MAX_HOLDS:
            raise ValueError(f"{MAX_HOLDS} pins are live already: wanted a `release` or `free` before")
        pfn = self._pick(transaction, action) if task.share is None else self._shared(transaction, action, task.share)
        transaction.pins += len(pfn)
        if transaction.pins > self._most:
            raise ValueError(
                f"{transaction.pins} pages would be pinned up to here: wanted at most {self._most} in one go"
            )
        end = FOREVER if action.hold is None else now + action.hold
        release = self._draw_release(transaction, task)
        # A task with `share` has the pages of another task's process.
        mapped = task.mapped and task.share is None
        transaction.number += 1
        hold = _LiveHold(task, pfn, end, release, transaction.number, mapped)
        transaction.holds.append(hold)
        if task.unmap_distribution is not None:
            transaction.due.append(_LiveUnmap(hold, self._draw_unmap(transaction, task, now)))
        transaction.batches.append(self._events(task, pin_call(task), pfn, now))

    def _pick(self, transaction: _Transaction, action: Action) -> Int64s:
        """Return the next pages, picked in the task's own way."""
        task = action.task
        assert task.region is not None
        region = self._memory.regions[task.region]
        pages = action.pages or task.pages or 1
        first = region.start if task.pfn is None else task.pfn
        room = (region.start + region.frames - first) >> (task.order or 0)
        if pages > room:
            at = "" if task.pfn is None else f" from PFN {task.pfn} on"
            raise ValueError(f"pages = {pages} is more than region {task.region!r} has room for{at} ({room})")
        key = (task.name, pages)
        if key not in transaction.pickers:
            known = self._pickers.get(key)
            transaction.pickers[key] = self._picker(task, pages) if known is None else copy.deepcopy(known)
        return transaction.pickers[key].pick(1).ravel()

    def _picker(self, task: Task, pages: int) -> Picker:
        # Each number of pages has its own run size, and so its own picker.
        live = msgspec.structs.replace(task, name=f"{task.name} live {pages}", instances=1, pages=pages)
        assert task.region is not None
        rng = random_stream(self._seed, live.name, 0, Stream.pages)
        return Picker(live, 0, self._memory.regions[task.region], rng)

    def _draw_release(self, transaction: _Transaction, task: Task) -> int:
        """Return the call that will release a new hold. Drawn at the pin, so later actions do not change it."""
        if task.name not in transaction.releases:
            known = self._releases.get(task.name)
            live = msgspec.structs.replace(task, name=f"{task.name} live")
            transaction.releases[task.name] = (
                ReleaseCalls(live, self._seed, 0) if known is None else copy.deepcopy(known)
            )
        return int(transaction.releases[task.name].draw(1)[0])

    def _draw_unmap(self, transaction: _Transaction, task: Task, now: int) -> int:
        """Return when the pages of a new hold are unmapped."""
        if task.name not in transaction.unmaps:
            known = self._unmaps.get(task.name)
            live = msgspec.structs.replace(task, name=f"{task.name} live")
            transaction.unmaps[task.name] = Unmaps(live, self._seed, 0) if known is None else copy.deepcopy(known)
        begin = np.array([now], dtype=np.int64)
        return int(transaction.unmaps[task.name].draw(begin, begin)[0])

    @staticmethod
    def _shared(transaction: _Transaction, action: Action, owner: str) -> Int64s:
        """Return the pages of the owner's latest live hold."""
        if action.pages is not None:
            raise ValueError(f"task {action.task.name!r} shares the pages of task {owner!r}: leave out pages")
        for hold in reversed(transaction.holds):
            if hold.task.name == owner:
                return hold.pfn
        raise ValueError(
            f"task {action.task.name!r} shares the pages of task {owner!r}, for which nothing is pinned live: "
            f"wanted a `pin task={owner}` before"
        )

    def _release(self, transaction: _Transaction, action: Action, now: int) -> None:
        """Release or free pages that are pinned live for a task, oldest pin first."""
        task = action.task
        by = "free" if action.verb == "free" else action.by
        holds = self._pinned(transaction, action)
        if by is None and "never" in task.releases:
            raise ValueError(f"task {task.name!r} never releases its pages: wanted by=..., such as by=put_page")
        kept = []
        for hold, count in self._taken(holds, action.pages):
            call = Event(hold.release) if by is None else Event[by]
            transaction.batches.append(self._events(task, call, hold.pfn[:count], now))
            if call != Event.free:
                self._unmap_released(transaction, replace(hold, pfn=hold.pfn[:count]), now)
            kept.append((hold, replace(hold, pfn=hold.pfn[count:])))
        self._replace(transaction, kept)

    def _unmap(self, transaction: _Transaction, action: Action, now: int) -> None:
        """Unmap pages that are pinned live for a task, oldest pin first. They stay pinned."""
        task = action.task
        holds = [hold for hold in self._pinned(transaction, action) if hold.mapped]
        mapped = sum(len(hold.pfn) for hold in holds)
        if not mapped or (action.pages or 0) > mapped:
            raise ValueError(f"{mapped} of the pages that are pinned live for task {task.name!r} are mapped")
        split = []
        for hold, count in self._taken(holds, action.pages):
            transaction.batches.append(self._events(task, Event.unmap, hold.pfn[:count], now))
            unmapped = replace(hold, pfn=hold.pfn[:count], mapped=False)
            split.append((hold, unmapped, replace(hold, pfn=hold.pfn[count:])))
        self._replace(transaction, split)

    @staticmethod
    def _pinned(transaction: _Transaction, action: Action) -> list[_LiveHold]:
        """Return the live holds of an action's task, the oldest first."""
        task = action.task
        holds = [hold for hold in transaction.holds if hold.task is task]
        pinned = sum(len(hold.pfn) for hold in holds)
        if not pinned:
            raise ValueError(f"nothing is pinned live for task {task.name!r}: wanted a `pin task={task.name}` before")
        if (action.pages or 0) > pinned:
            raise ValueError(
                f"pages = {action.pages} is more than the {pinned} that are pinned live for task {task.name!r}"
            )
        return holds

    @staticmethod
    def _taken(holds: list[_LiveHold], pages: int | None) -> Iterator[tuple[_LiveHold, int]]:
        """Yield the holds from which an action takes pages, and how many; all pages for None."""
        left = sum(len(hold.pfn) for hold in holds) if pages is None else pages
        for hold in holds:
            if count := min(left, len(hold.pfn)):
                yield hold, count
            left -= count

    @staticmethod
    def _replace(transaction: _Transaction, changed: Sequence[tuple[_LiveHold, ...]]) -> None:
        """Replace the first hold of each tuple by the others, as far as they have pages."""
        parts = {id(hold): others for hold, *others in changed}
        transaction.holds = [
            part for hold in transaction.holds for part in parts.get(id(hold), [hold]) if len(part.pfn)
        ]

    def _unmap_released(self, transaction: _Transaction, hold: _LiveHold, now: int) -> None:
        """Unmap the pages of a hold that is released, if its task asks for that."""
        if hold.mapped and hold.task.unmap == WITH_RELEASE:
            transaction.batches.append(self._events(hold.task, Event.unmap, hold.pfn, now))

    def _end_due(self, transaction: _Transaction, moment: int) -> None:
        """Release the holds that end up to a moment, in the order of their pins. Then unmap what is due."""
        for hold in transaction.holds:
            if hold.end <= moment:
                transaction.batches.append(self._events(hold.task, Event(hold.release), hold.pfn, hold.end))
                self._unmap_released(transaction, hold, hold.end)
        transaction.holds = [hold for hold in transaction.holds if hold.end > moment]
        due = [unmap for unmap in transaction.due if unmap.time <= moment]
        for unmap in due:
            transaction.batches.append(self._events(unmap.hold.task, Event.unmap, unmap.hold.pfn, unmap.time))
        numbers = {unmap.hold.number for unmap in due}
        transaction.due = [unmap for unmap in transaction.due if unmap.time > moment]
        transaction.holds = [
            replace(hold, mapped=False) if hold.number in numbers else hold for hold in transaction.holds
        ]

    def _events(self, task: Task, kind: Event, pfn: Int64s, time: int) -> EventBatch:
        """Return one call for each page."""
        owner = task if task.share is None else self._tasks[task.share]
        return EventBatch(
            time=np.full(len(pfn), time, dtype=np.int64),
            kind=np.full(len(pfn), kind, dtype=np.uint8),
            pfn=pfn,
            order=np.full(len(pfn), owner.order or 0, dtype=np.uint8),
            handle=np.full(len(pfn), self._handles[task.name], dtype=np.int32),
            pages=np.ones(len(pfn), dtype=np.int64),
        )
