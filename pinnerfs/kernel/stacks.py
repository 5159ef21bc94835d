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
    """Interns call chains. Handle 0 stands for "none", as `depot_stack_handle_t` has it."""

    def __init__(self) -> None:
        self._chains: list[tuple[str, ...]] = [()]
        self._handles: dict[tuple[str, ...], int] = {}

    def save(self, frames: Sequence[str]) -> int:
        """The handle of a chain, innermost frame first: imitates `stack_depot_save`."""
        chain = tuple(frames[:MAX_FRAMES])
        if chain not in self._handles:
            self._handles[chain] = len(self._chains)
            self._chains.append(chain)
        return self._handles[chain]

    def fetch(self, handle: int) -> tuple[str, ...]:
        """The chain behind a handle: imitates `stack_depot_fetch`."""
        return self._chains[handle]
