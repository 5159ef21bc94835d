"""The stack depot: call chains stored once, known by a small handle. Imitates lib/stackdepot.c of 5.10."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MAX_FRAMES", "StackDepot", "symbol"]

# page_pinner's PAGE_PINNER_STACK_DEPTH: the outermost frames beyond it are cut, with no mark.
MAX_FRAMES = 16


def symbol(frame: str) -> str:
    """A frame's symbol alone: without `+offset/size`, and without ` [module]`."""
    return frame.partition(" ")[0].partition("+")[0]


class StackDepot:
    """Call chains by handle. Handle 0 means no chain, as in `depot_stack_handle_t`.

    Unlike in a kernel, each owner of a chain has a handle of its own, so that events can be told apart by owner.
    """

    def __init__(self) -> None:
        self._chains: list[tuple[str, ...]] = [()]
        self._handles: dict[tuple[str, tuple[str, ...]], int] = {}

    def save(self, frames: Sequence[str], owner: str = "") -> int:
        """Return the handle of an owner's chain, innermost frame first: imitates `stack_depot_save`."""
        key = owner, tuple(frames[:MAX_FRAMES])
        if key not in self._handles:
            self._handles[key] = len(self._chains)
            self._chains.append(key[1])
        return self._handles[key]

    def fetch(self, handle: int) -> tuple[str, ...]:
        """Return the chain of a handle: imitates `stack_depot_fetch`."""
        return self._chains[handle]

    def handles(self, owner: str) -> list[int]:
        """Return the handles of all chains of an owner."""
        return [handle for (name, _), handle in self._handles.items() if name == owner]
