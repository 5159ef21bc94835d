"""What is pinned live, and what a text of actions changes in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.actions import AllocAction
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.livedraws import Drafts

__all__ = ["AllocCall", "LiveHold", "LiveUnmap", "Transaction", "joined"]


@dataclass(frozen=True)
class LiveHold:
    """Pages that were pinned by one action and are still pinned."""

    task: Task
    pfn: Int64s
    end: int  # µs, or FOREVER if only an action releases them
    release: int  # the call (Event) at the end, or NO_RELEASE
    unmapped: int = 0  # the first so many pages were unmapped by actions


@dataclass(frozen=True)
class LiveUnmap:
    """Pages of a live pin that are unmapped by themselves later."""

    task: Task
    pfn: Int64s
    moment: int


class AllocCall(NamedTuple):
    """A call of cma_alloc or cma_release by an action."""

    moment: int
    action: AllocAction


@dataclass
class Transaction:
    """The result of a text of actions. It is dropped if one of the actions is refused."""

    holds: list[LiveHold]  # in the order of their pins
    unmaps: list[LiveUnmap]
    drafts: Drafts
    batches: list[EventBatch | AllocCall]
    pins: int = 0
    allocs: int = 0
    room: int = 0  # for live allocations, before the first of these
    work: int = 0  # of these allocations


def joined(parts: list[EventBatch | AllocCall]) -> list[EventBatch | AllocCall]:
    """Return the same events and calls, with all events between two calls in one batch."""
    joined: list[EventBatch | AllocCall] = []
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
