"""The live actions themselves: what each of them does to the pages that are pinned live."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.actions import Action, AllocAction
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.allocs import MAX_LIVE, Allocs
from pinnerfs.workload.livedraws import LiveDraws
from pinnerfs.workload.livestate import AllocCall, LiveHold, LiveUnmap, Transaction
from pinnerfs.workload.tasks import FOREVER, pin_call

__all__ = ["MAX_HOLDS", "LiveActions"]

# Each action searches all live holds, so their number bounds the time of an action.
MAX_HOLDS = 4096
# This bounds the time of the allocations of a text, in pins of a single page.
MAX_WORK = 1 << 24


class LiveActions:
    """The actions of a scenario's tasks. At most `most` pages are pinned by one text. `handles` has the tasks' stacks.

    Raise ValueError for an action that the state of a transaction refuses.
    """

    def __init__(self, tasks: dict[str, Task], handles: dict[str, int], draws: LiveDraws, most: int, allocs: Allocs):
        self._tasks = tasks
        self._handles = handles
        self._draws = draws
        self._most = most
        self._allocs = allocs

    def allocate(self, transaction: Transaction, action: AllocAction, now: int) -> None:
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
        transaction.batches.append(AllocCall(now, action))

    def pin(self, transaction: Transaction, action: Action, now: int) -> None:
        """Pin pages for a task."""
        task = action.task
        if action.hold is not None and "never" in task.releases:
            raise ValueError(f"hold goes with a task that releases its pages, and task {task.name!r} never does")
        if len(transaction.holds) >= MAX_HOLDS:
            raise ValueError(f"{MAX_HOLDS} pins are live already: wanted a `release` or `free` before")
        pfn = (
            self._draws.pick(transaction.drafts, task, action.pages)
            if task.share is None
            else self._shared(transaction, action, task.share)
        )
        transaction.pins += len(pfn)
        if transaction.pins > self._most:
            raise ValueError(
                f"{transaction.pins} pages would be pinned up to here: wanted at most {self._most} in one go"
            )
        end = FOREVER if action.hold is None else now + action.hold
        transaction.holds.append(LiveHold(task, pfn, end, self._draws.release(transaction.drafts, task)))
        transaction.batches.append(self._events(task, pin_call(task), pfn, now))
        if task.unmap_distribution is not None:
            transaction.unmaps.append(LiveUnmap(task, pfn, self._draws.unmap(transaction.drafts, task, now)))

    @staticmethod
    def _shared(transaction: Transaction, action: Action, owner: str) -> Int64s:
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

    def release(self, transaction: Transaction, action: Action, now: int) -> None:
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

    def unmap(self, transaction: Transaction, action: Action, now: int) -> None:
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

    def release_due(self, transaction: Transaction, moment: int) -> None:
        """Release the holds that end up to a moment, in the order of their pins, and unmap what is due."""
        for hold in transaction.holds:
            if hold.end <= moment:
                self._let_go(transaction, hold.task, Event(hold.release), hold.pfn, hold.end)
        transaction.holds = [hold for hold in transaction.holds if hold.end > moment]
        for unmap in transaction.unmaps:
            if unmap.moment <= moment:
                transaction.batches.append(self._events(unmap.task, Event.unmap, unmap.pfn, unmap.moment))
        transaction.unmaps = [unmap for unmap in transaction.unmaps if unmap.moment > moment]

    def _let_go(self, transaction: Transaction, task: Task, call: Event, pfn: Int64s, now: int) -> None:
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
