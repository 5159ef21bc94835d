"""The stack depot: call chains by a small handle. Imitates lib/stackdepot.c of 5.10."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

__all__ = ["MAX_FRAMES", "StackDepot", "full_frame", "symbol"]

# PAGE_PINNER_STACK_DEPTH: further frames, the outermost ones, are cut silently.
MAX_FRAMES = 16


def symbol(frame: str) -> str:
    """Return a frame's symbol, without `+offset/size` and ` [module]`."""
    return frame.partition(" ")[0].partition("+")[0]


def full_frame(frame: str) -> str:
    """Return a frame with `+offset/size`, as sprint_symbol() prints it.

    A bare symbol gets an offset and a size from a hash of its name, so they are the same in every run. A module, as in
    `kbase_ioctl [mali_kbase]`, stays behind the symbol.
    """
    symbol, space, module = frame.partition(" ")
    if "+" in symbol:
        return frame
    import hashlib  # validating a scenario does not need it

    digest = hashlib.sha256(symbol.encode()).digest()
    # An arm64 instruction has 4 bytes, and a return address is never the first instruction of a function.
    size = 4 * (8 + int.from_bytes(digest[:2]) % 248)
    offset = 4 * (1 + int.from_bytes(digest[2:4]) % (size // 4 - 1))
    return f"{symbol}+{offset:#x}/{size:#x}{space}{module}"


class StackDepot:
    """Call chains by handle. Handle 0 means no chain, as in `depot_stack_handle_t`.

    Unlike in a kernel, each owner of a chain has a handle of its own, so that counters can separate owners.
    """

    def __init__(self) -> None:
        self._chains: list[tuple[str, ...]] = [()]
        self._owners: list[str] = [""]
        self._handles: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)  # by owner

    def save(self, frames: Sequence[str], owner: str = "") -> int:
        """Return the handle of an owner's chain, innermost frame first: imitates `stack_depot_save`."""
        chain, handles = tuple(frames[:MAX_FRAMES]), self._handles[owner]
        if chain not in handles:
            handles[chain] = len(self._chains)
            self._chains.append(chain)
            self._owners.append(owner)
        return handles[chain]

    def fetch(self, handle: int) -> tuple[str, ...]:
        """Return the chain of a handle: imitates `stack_depot_fetch`."""
        return self._chains[handle]

    def owner(self, handle: int) -> str:
        """Return the owner of a handle's chain."""
        return self._owners[handle]

    def handles(self, owner: str) -> list[int]:
        """Return the handles of all chains of an owner."""
        return list(self._handles[owner].values())
