"""The full call chains of pins and releases: the kernel's frames around the frames that a scenario gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile

import msgspec

from pinnerfs.kernel.calls import RELEASES, TRUNCATE, Event
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.stacks import MAX_FRAMES, StackDepot, full_frame
from pinnerfs.scenario.schema import Scenario, Stack, Task

__all__ = ["ReleaseChains", "call_chain"]

# A stack may begin with the function that takes the reference. A release is not called from there.
_PINNING = ("get_user_pages", "__get_user_pages", "pin_user_pages", "__pin_user_pages")


def call_chain(stack: Stack, generation: Generation) -> tuple[str, ...]:
    """Return the frames of a pin, innermost first: head of the pin path, own frames, tail of the system call."""
    return _full(generation, generation.heads[stack.via] if stack.via else (), stack.frames, stack.syscall)


def _full(generation: Generation, head: Sequence[str], frames: Sequence[str], syscall: str | None) -> tuple[str, ...]:
    tail = tuple(frame.format(syscall) for frame in generation.tail) if syscall else ()
    return tuple(full_frame(frame) for frame in (*head, *frames, *tail))


def _release_stack(scenario: Scenario, task: Task) -> Stack:
    """Return the stack of a task's releases: by default that of its pins, without the functions that pin."""
    if task.release_stack is not None:
        return scenario.stack[task.release_stack]
    stack = scenario.stack[task.stack]
    frames = dropwhile(lambda frame: frame.startswith(_PINNING), stack.frames)
    return msgspec.structs.replace(stack, frames=list(frames))


class ReleaseChains:
    """The call chains behind the records of dropped references and freed pages, by the task that made the call."""

    def __init__(self, scenario: Scenario, generation: Generation, depot: StackDepot) -> None:
        self._generation = generation
        self._depot = depot
        self._stacks = {task.name: _release_stack(scenario, task) for task in scenario.task}
        self._chains: dict[tuple[int, int, RecordKind], tuple[str, ...]] = {}

    def fetch(self, handle: int, call: int, kind: RecordKind) -> tuple[str, ...]:
        """Return the chain of a record of this kind that the caller with this handle caused by this call."""
        owner = self._depot.owner(handle)
        if not owner:  # no task's: the whole chain is in the depot
            return self._depot.fetch(handle)
        key = handle, call, kind
        if key not in self._chains:
            chain = self._chain(self._stacks[owner], call, kind == RecordKind.FREE)
            self._chains[key] = chain[:MAX_FRAMES]
        return self._chains[key]

    def _chain(self, stack: Stack, call: int, freed: bool) -> tuple[str, ...]:
        generation = self._generation
        if call == Event.free:
            return _full(generation, generation.free_list if freed else (), generation.exit, "exit_group")
        if call == TRUNCATE:
            return _full(generation, generation.free_list if freed else (), generation.truncate, None)
        if call == Event.unmap:
            return _full(generation, generation.free_list if freed else (), generation.unmap, "munmap")
        # put_page is inline: it has no frame of its own.
        own = (Event(call).name,) if call in RELEASES else ()
        return _full(generation, (*(generation.free_page if freed else ()), *own), stack.frames, stack.syscall)
