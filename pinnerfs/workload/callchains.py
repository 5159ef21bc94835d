"""A scenario's named stacks as full call chains: the generation's head and tail around the stack's own frames."""

from __future__ import annotations

import hashlib

from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.scenario.schema import Stack

__all__ = ["call_chain", "full_frame"]


def full_frame(frame: str) -> str:
    """A frame with `+offset/size`: a symbol that has none gets one from a hash of its name, the same everywhere.

    A module behind it, as in `kbase_ioctl [mali_kbase]`, stays behind it.
    """
    symbol, space, module = frame.partition(" ")
    if "+" in symbol:
        return frame
    digest = hashlib.sha256(symbol.encode()).digest()
    # arm64: instructions of 4 bytes; a return address is never a function's first instruction.
    size = 4 * (8 + int.from_bytes(digest[:2]) % 248)
    offset = 4 * (1 + int.from_bytes(digest[2:4]) % (size // 4 - 1))
    return f"{symbol}+{offset:#x}/{size:#x}{space}{module}"


def call_chain(stack: Stack, generation: Generation) -> tuple[str, ...]:
    """The frames of a pin, innermost first."""
    head = generation.heads[stack.via] if stack.via else ()
    tail = tuple(frame.format(stack.syscall) for frame in generation.tail) if stack.syscall else ()
    return tuple(full_frame(frame) for frame in (*head, *stack.frames, *tail))
