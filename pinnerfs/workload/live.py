"""Live actions: pages pinned, released, unmapped and freed by hand while a scenario plays.

The live pins of a task behave like those of one more task beside it, with its own pages and random streams. So they
never change the scenario's own events.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import Int64s, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.actions import Action, AllocAction, parse_actions
from pinnerfs.scenario.longterm import settled
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.workload.allocs import MAX_LIVE, Allocs
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.picks import Picker
from pinnerfs.workload.tasks import FOREVER, ReleaseCalls, Stream, UnmapTimes, pin_call, random_stream
from pinnerfs.workload.timeline import take_first

__all__ = ["Live"]

_Key = TypeVar("_Key", bound=Hashable)
_Draws = TypeVar("_Draws")

# Each action searches all live holds, so their number bounds the time of an action.
MAX_HOLDS = 4096
# And this bounds the time of a text: the live holds that its actions search, one action after the other.
MAX_SEARCHED = 1 << 20
# And this that of its allocations, in pins of a single page.
MAX_WORK = 1 << 24


@dataclass(frozen=True)
class _LiveHold:
    """Pages that were pinned by one action and are still pinned."""

    task: Task
    pfn: Int64s
    end: int  # µs, or FOREVER if only an action releases them
    release: int  # the call (Event) at the end, or NO_RELEASE
    unmapped: int = 0  # the first so many pages were unmapped by actions


@dataclass(frozen=True)
class _LiveUnmap:
    """Pages of a live pin that are unmapped by themselves later."""

    task: Task
    pfn: Int64s
    moment: int


class _AllocCall(NamedTuple):
    """A call of cma_alloc or cma_release by an action."""

    moment: int
    action: AllocAction


@dataclass
class _Transaction:
    """The result of a text of actions. It is dropped if one of the actions is refused."""

    holds: list[_LiveHold]  # in the order of their pins
    unmaps: list[_LiveUnmap]
    pickers: dict[tuple[str, int], Picker]
    releases: dict[str, ReleaseCalls]
    unmap_times: dict[str, UnmapTimes]
    batches: list[EventBatch | _AllocCall]
    pins: int = 0
    allocs: int = 0
    room: int = 0  # for live allocations, before the first of these
    work: int = 0  # of these allocations


def _draft(drafts: dict[_Key, _Draws], kept: Mapping[_Key, _Draws], key: _Key, make: Callable[[], _Draws]) -> _Draws:
    """Return a transaction's own copy of random draws, which is dropped if one of its actions is refused."""
    if key not in drafts:
        drafts[key] = copy.deepcopy(kept[key]) if key in kept else make()
    return drafts[key]


def _joined(parts: list[EventBatch | _AllocCall]) -> list[EventBatch | _AllocCall]:
    """Return the same events and calls, with all events between two calls in one batch."""
    joined: list[EventBatch | _AllocCall] = []
    batches: list[EventBatch] = []
    for part in [*parts, None]:
        if isinstance(part, EventBatch):
            batches.append(part)
            continue
        if batches:
            joined.append(EventBatch.concatenate(batches))
            batches = []
        if part is not None:
            joined.append(part)
    return joined


def _live(task: Task) -> Task:
    """Return the task with a name of its own, so that live draws do not change those of the scenario."""
    return msgspec.structs.replace(task, name=f"{task.name} live")


class Live:
    """The live holds of a scenario and their events. At most `most` pages are pinned at once, and by one text.

    Live allocations are those of `allocs`: here is only their place among the other actions.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        memory: MemoryMap,
        generation: Generation,
        depot: StackDepot,
        most: int,
        allocs: Allocs,
    ) -> None:
        self._most = most
        self._allocs = allocs
        self._scenario = scenario = settled(scenario)
        self._seed = seed
        self._memory = memory
        self._tasks = {task.name: task for task in scenario.task}
        self._handles = {
            task.name: depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            for task in scenario.task
        }
        self._holds: list[_LiveHold] = []
        self._pickers: dict[tuple[str, int], Picker] = {}  # by task and number of pages
        self._releases: dict[str, ReleaseCalls] = {}  # by task
        self._unmaps: list[_LiveUnmap] = []
        self._unmap_times: dict[str, UnmapTimes] = {}  # by task
        self._ready: list[EventBatch | _AllocCall] = []  # due, not yet taken
        self._next_end = FOREVER

    def do(self, text: str, now: int) -> None:
        """Carry out all actions of a text, or none. ValueError names the line and what is wrong."""
        transaction = self._begin()
        searched = 0
        for action in parse_actions(text, self._scenario):
            if isinstance(action, AllocAction):
                searched += MAX_HOLDS if action.verb == "release" else 1
            elif action.verb != "pin" or action.hold == 0 or action.task.share is not None:
                searched += len(transaction.holds)
            if searched > MAX_SEARCHED:
                raise ValueError(
                    f"line {action.line}: too many actions for {len(transaction.holds)} live pins: wanted "
                    "fewer lines in one go"
                )
            try:
                if isinstance(action, AllocAction):
                    self._allocate(transaction, action, now)
                elif action.verb == "pin":
                    self._pin(transaction, action, now)
                elif action.verb == "unmap":
                    self._unmap(transaction, action, now)
                else:
                    self._release(transaction, action, now)
            except ValueError as error:
                raise ValueError(f"line {action.line}: {error}") from None
            if action.hold == 0 and action.verb == "pin":  # it ends before the next action
                self._release_due(transaction, now)
        pinned = sum(len(hold.pfn) for hold in transaction.holds)
        if pinned > self._most:
            raise ValueError(f"{pinned} pages would be pinned live: wanted at most {self._most}")
        self._commit(transaction)

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if only a new action can cause one."""
        if self._ready:
            first = self._ready[0]
            return first.moment if isinstance(first, _AllocCall) else int(first.time[0])
        return None if self._next_end == FOREVER else self._next_end

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next events up to and at `until`, on at most `most` frames or a single page.

        If a call of cma_alloc or cma_release comes next, make it instead. Empty: it was made, or no event is left.
        """
        if not self._ready and self._next_end <= until:
            transaction = self._begin()
            self._release_due(transaction, self._next_end)
            self._commit(transaction)
        if not self._ready:
            return EventBatch.of([])
        first = self._ready.pop(0)
        if isinstance(first, _AllocCall):
            if first.action.verb == "alloc":
                self._allocs.begin_live(first.action, first.moment)
            else:
                self._allocs.release_live(first.action)
            return EventBatch.of([])
        taken, left = take_first(first, until, most)
        if len(left):
            self._ready.insert(0, left)
        return taken

    def _begin(self) -> _Transaction:
        return _Transaction(list(self._holds), list(self._unmaps), {}, {}, {}, [])

    def _commit(self, transaction: _Transaction) -> None:
        self._holds = transaction.holds
        self._pickers |= transaction.pickers
        self._releases |= transaction.releases
        self._unmaps = transaction.unmaps
        self._unmap_times |= transaction.unmap_times
        ends = [hold.end for hold in self._holds] + [unmap.moment for unmap in self._unmaps]
        self._next_end = min(ends, default=FOREVER)
        if transaction.batches:
            self._ready = _joined([*self._ready, *transaction.batches])

    def _allocate(self, transaction: _Transaction, action: AllocAction, now: int) -> None:
        """Let an allocation or a release take place behind the actions before it."""
        if action.verb == "alloc":
            if not transaction.allocs:
                transaction.room = self._allocs.room
            transaction.allocs += 1
            transaction.work += self._allocs.work(action)
            if transaction.allocs > transaction.room:
                raise ValueError(f"{MAX_LIVE} allocations are live already: wanted a `release` before")
            if transaction.work > MAX_WORK and transaction.allocs > 1:
                raise ValueError(
                    f"{transaction.allocs} allocations up to here take as much work as {transaction.work} pins of a "
                    f"single page: wanted at most {MAX_WORK} in one go"
                )
        elif not self._allocs.live(action) and not transaction.allocs:
            word = f"area={action.area}" if action.alloc is None else f"name={action.alloc.name}"
            raise ValueError(f"no live allocation of {word} has pages: wanted an `alloc {word}` before")
        transaction.batches.append(_AllocCall(now, action))

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
        transaction.holds.append(_LiveHold(task, pfn, end, self._draw_release(transaction, task)))
        transaction.batches.append(self._events(task, pin_call(task), pfn, now))
        if task.unmap_distribution is not None:
            transaction.unmaps.append(_LiveUnmap(task, pfn, self._draw_unmap(transaction, task, now)))

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
        return _draft(transaction.pickers, self._pickers, key, lambda: self._picker(task, pages)).pick(1).ravel()

    def _picker(self, task: Task, pages: int) -> Picker:
        # Each number of pages has its own run size, and so its own picker.
        live = msgspec.structs.replace(task, name=f"{task.name} live {pages}", instances=1, pages=pages)
        assert task.region is not None
        rng = random_stream(self._seed, live.name, 0, Stream.pages)
        return Picker(live, 0, self._memory.regions[task.region], rng)

    def _draw_release(self, transaction: _Transaction, task: Task) -> int:
        """Return the call that will release a new hold. Drawn at the pin, so later actions do not change it."""
        calls = _draft(
            transaction.releases, self._releases, task.name, lambda: ReleaseCalls(_live(task), self._seed, 0)
        )
        return int(calls.draw(1)[0])

    def _draw_unmap(self, transaction: _Transaction, task: Task, now: int) -> int:
        """Return when the pages of a new hold are unmapped."""
        times = _draft(
            transaction.unmap_times, self._unmap_times, task.name, lambda: UnmapTimes(_live(task), self._seed, 0)
        )
        begin = np.array([now], dtype=np.int64)
        return int(times.draw(begin, begin)[0])

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
        pinned = sum(len(hold.pfn) for hold in transaction.holds if hold.task is task)
        if not pinned:
            raise ValueError(f"nothing is pinned live for task {task.name!r}: wanted a `pin task={task.name}` before")
        left = pinned if action.pages is None else action.pages
        if left > pinned:
            raise ValueError(f"pages = {left} is more than the {pinned} that are pinned live for task {task.name!r}")
        by = "free" if action.verb == "free" else action.by
        if by is None and "never" in task.releases:
            raise ValueError(f"task {task.name!r} never releases its pages: wanted by=..., such as by=put_page")
        kept = []
        for hold in transaction.holds:
            count = min(left, len(hold.pfn)) if hold.task is task else 0
            if count:
                call = Event(hold.release) if by is None else Event[by]
                self._let_go(transaction, task, call, hold.pfn[:count], now)
            if not count:
                kept.append(hold)
            elif count < len(hold.pfn):
                kept.append(replace(hold, pfn=hold.pfn[count:], unmapped=max(0, hold.unmapped - count)))
            left -= count
        transaction.holds = kept

    def _unmap(self, transaction: _Transaction, action: Action, now: int) -> None:
        """Unmap pages that are pinned live for a task and not unmapped yet, oldest pin first. They stay pinned."""
        task = action.task
        mapped = sum(len(hold.pfn) - hold.unmapped for hold in transaction.holds if hold.task is task)
        left = mapped if action.pages is None else action.pages
        if not 1 <= left <= mapped:
            wanted = f"wanted at least {max(1, left)}"
            raise ValueError(f"pages pinned live for task {task.name!r} and not unmapped: {mapped}; {wanted}")
        for at, hold in enumerate(transaction.holds):
            count = min(left, len(hold.pfn) - hold.unmapped) if hold.task is task else 0
            if count:
                unmapped = hold.unmapped + count
                transaction.batches.append(self._events(task, Event.unmap, hold.pfn[hold.unmapped : unmapped], now))
                transaction.holds[at] = replace(hold, unmapped=unmapped)
                left -= count

    def _release_due(self, transaction: _Transaction, moment: int) -> None:
        """Release the holds that end up to a moment, in the order of their pins, and unmap what is due."""
        for hold in transaction.holds:
            if hold.end <= moment:
                self._let_go(transaction, hold.task, Event(hold.release), hold.pfn, hold.end)
        transaction.holds = [hold for hold in transaction.holds if hold.end > moment]
        for unmap in transaction.unmaps:
            if unmap.moment <= moment:
                transaction.batches.append(self._events(unmap.task, Event.unmap, unmap.pfn, unmap.moment))
        transaction.unmaps = [unmap for unmap in transaction.unmaps if unmap.moment > moment]

    def _let_go(self, transaction: _Transaction, task: Task, call: Event, pfn: Int64s, now: int) -> None:
        """Release pages, and unmap them if the task does so with the release."""
        transaction.batches.append(self._events(task, call, pfn, now))
        if task.unmap == "with-release":
            transaction.batches.append(self._events(task, Event.unmap, pfn, now))

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
