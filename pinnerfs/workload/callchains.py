"""The full call chain of a pin: the kernel's frames around the frames that a scenario gives."""

from __future__ import annotations

import hashlib

from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.scenario.schema import Stack

__all__ = ["call_chain", "full_frame"]


def full_frame(frame: str) -> str:
    """Return a frame with `+offset/size`, as sprint_symbol() prints it.

    A bare symbol gets an offset and a size from a hash of its name, so they are the same in every run. A module, as in
    `kbase_ioctl [mali_kbase]`, stays behind the symbol.
    """
    symbol, space, module = frame.partition(" ")
    if "+" in symbol:
        return frame
    digest = hashlib.sha256(symbol.encode()).digest()
    # An arm64 instruction has 4 bytes, and a return address is never the first instruction of a function.
    size = 4 * (8 + int.from_bytes(digest[:2]) % 248)
    offset = 4 * (1 + int.from_bytes(digest[2:4]) % (size // 4 - 1))
    return f"{symbol}+{offset:#x}/{size:#x}{space}{module}"


def call_chain(stack: Stack, generation: Generation) -> tuple[str, ...]:
    """Return the frames of a pin, innermost first: head of the pin path, own frames, tail of the system call."""
    head = generation.heads[stack.via] if stack.via else ()
    tail = tuple(frame.format(stack.syscall) for frame in generation.tail) if stack.syscall else ()
    return tuple(full_frame(frame) for frame in (*head, *stack.frames, *tail))
