"""Live actions: pages pinned, released, unmapped and freed by hand while a scenario plays.

The live pins of a task behave like those of one more task beside it, with its own pages and random streams. So they
never change the scenario's own events.
"""

from __future__ import annotations

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.pages import MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.actions import AllocAction, parse_actions
from pinnerfs.scenario.longterm import settled
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.allocs import Allocs
from pinnerfs.workload.callchains import call_chain
from pinnerfs.workload.liveactions import MAX_HOLDS, LiveActions
from pinnerfs.workload.livedraws import Drafts, LiveDraws
from pinnerfs.workload.livestate import AllocCall, LiveHold, LiveUnmap, Transaction, joined
from pinnerfs.workload.tasks import FOREVER
from pinnerfs.workload.timeline import take_first

__all__ = ["Live"]

# This bounds the time of a text: the live holds that its actions search, one action after the other.
MAX_SEARCHED = 1 << 20


class Live:
    """The live holds of a scenario and their events. At most `most` pages are pinned at once, and by one text.

    The allocator of `allocs` has the live allocations: this class keeps only their place among the other actions.
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
        handles = {
            task.name: depot.save(call_chain(scenario.stack[task.stack], generation), task.name)
            for task in scenario.task
        }
        self._draws = LiveDraws(seed, memory)
        tasks = {task.name: task for task in scenario.task}
        self._actions = LiveActions(tasks, handles, self._draws, most, allocs)
        self._holds: list[LiveHold] = []
        self._unmaps: list[LiveUnmap] = []
        self._ready: list[EventBatch | AllocCall] = []  # due, not yet taken
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
                    self._actions.allocate(transaction, action, now)
                elif action.verb == "pin":
                    self._actions.pin(transaction, action, now)
                elif action.verb == "unmap":
                    self._actions.unmap(transaction, action, now)
                else:
                    self._actions.release(transaction, action, now)
            except ValueError as error:
                raise ValueError(f"line {action.line}: {error}") from None
            if action.hold == 0 and action.verb == "pin":  # it ends before the next action
                self._actions.release_due(transaction, now)
        pinned = sum(len(hold.pfn) for hold in transaction.holds)
        if pinned > self._most:
            raise ValueError(f"{pinned} pages would be pinned live: wanted at most {self._most}")
        self._commit(transaction)

    def next_event(self) -> int | None:
        """Return the time (µs) of the next event, or None if only a new action can cause one."""
        if self._ready:
            first = self._ready[0]
            return first.moment if isinstance(first, AllocCall) else int(first.time[0])
        return None if self._next_end == FOREVER else self._next_end

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next events up to and at `until`, on at most `most` frames or a single page.

        If a call of cma_alloc or cma_release comes next, make it instead. Empty: it was made, or no event is left.
        """
        if not self._ready and self._next_end <= until:
            transaction = self._begin()
            self._actions.release_due(transaction, self._next_end)
            self._commit(transaction)
        if not self._ready:
            return EventBatch.of([])
        first = self._ready.pop(0)
        if isinstance(first, AllocCall):
            if first.action.verb == "alloc":
                self._allocs.begin_live(first.action, first.moment)
            else:
                self._allocs.release_live(first.action)
            return EventBatch.of([])
        taken, left = take_first(first, until, most)
        if len(left):
            self._ready.insert(0, left)
        return taken

    def _begin(self) -> Transaction:
        return Transaction(list(self._holds), list(self._unmaps), Drafts(), [])

    def _commit(self, transaction: Transaction) -> None:
        self._holds = transaction.holds
        self._unmaps = transaction.unmaps
        self._draws.keep(transaction.drafts)
        ends = [hold.end for hold in self._holds] + [unmap.moment for unmap in self._unmaps]
        self._next_end = min(ends, default=FOREVER)
        if transaction.batches:
            self._ready = joined([*self._ready, *transaction.batches])
