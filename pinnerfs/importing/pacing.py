"""When the tasks of an imported scenario pin, so that they touch as many pageblocks as in the capture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pinnerfs.importing.plan import GUESSED_US, TaskPlan

__all__ = ["pace"]

LENGTH_US = 60_000_000  # a guess: no file tells how long a dump took
MOST_WORK = 20_000_000  # pins of all tasks, times their number: some seconds to play


def pace(tasks: Sequence[TaskPlan], block_order: int, short_pins: bool) -> int:
    """Choose when the tasks pin: so that the recorded pins touch all pageblocks, and no page is pinned twice at once.

    Return for how long they do. short_pins: whether tasks can make pins that leave no record.
    """
    for plan in tasks:
        _choose_stride(plan, block_order, short_pins)
    work = len(tasks) * sum(plan.holds * plan.stride for plan in tasks)
    for plan in tasks:
        plan.stride = max(1, min(plan.stride, plan.stride * MOST_WORK // work))
    length = max(LENGTH_US, *(_shortest_period(plan, block_order) * plan.holds for plan in tasks))
    length = -(-length // 10**6) * 10**6
    for plan in tasks:
        plan.period_us = -(-length // plan.holds)
    return length


def _shortest_period(plan: TaskPlan, block_order: int) -> int:
    """Return how far apart recorded pins must be: the walk through the region comes back to a page that is free."""
    runs = (plan.blocks << block_order) // (plan.pages << plan.order)
    again = -(-(plan.longest + 1000) * plan.stride // runs)
    # An allocation stops at the first pages that it cannot move, so it must meet those of one hold. The last one must
    # come before the end.
    return max(again, plan.alloc_us + GUESSED_US) if plan.refused else again


def _choose_stride(plan: TaskPlan, block_order: int, short_pins: bool) -> None:
    frames = plan.pages << plan.order
    runs = (plan.blocks << block_order) // frames
    block = 1 << block_order
    strides = {1}
    if short_pins:
        strides |= {min(max(1, stride), -(-block // frames)) for stride in (runs // plan.holds, -(-runs // plan.holds))}
    first = int.from_bytes(hashlib.sha256(plan.name.encode()).digest()[:8]) % runs

    def touched(stride: int) -> int:
        begins = (((first + stride * hold) % runs) * frames for hold in range(plan.holds))
        return len({at for begin in begins for at in range(begin // block, (begin + frames - 1) // block + 1)})

    plan.stride = min(sorted(strides, reverse=True), key=lambda stride: abs(touched(stride) - plan.blocks))
