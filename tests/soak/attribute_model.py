"""A second implementation of a write to a simple attribute, for the fuzzers.

It follows `simple_attr_write` and `kstrtoull` of Linux 5.10 to 6.1, and shares no code with pinnerfs.
"""

from __future__ import annotations

import errno

__all__ = ["ULLONG_MAX", "answer"]

ULLONG_MAX = 0xFFFF_FFFF_FFFF_FFFF
KEPT = 23  # the buffer has 24 bytes, and the last one is the NUL

DIGITS = {ord(char): value for value, char in enumerate("0123456789abcdef")}
DIGITS |= {ord(char.upper()): value for char, value in ((c, v) for v, c in enumerate("0123456789abcdef"))}


def answer(data: bytes) -> int:
    """Return the number that a write sets, or a negative errno."""
    buffer = bytearray(24)
    for place in range(min(len(data), KEPT)):
        buffer[place] = data[place]
    at = 0
    if buffer[at] == ord("+"):
        at += 1
    base = 10
    if buffer[at] == ord("0"):
        base = 8
        # The NUL is at most two bytes further, so the buffer does not end before it.
        if buffer[at + 1] in b"xX" and buffer[at + 1] and buffer[at + 2] in DIGITS:
            base = 16
            at += 2
    value, digits, overflow = 0, 0, False
    while buffer[at] in DIGITS and DIGITS[buffer[at]] < base:
        digit = DIGITS[buffer[at]]
        if value > (ULLONG_MAX - digit) // base:
            overflow = True
        value = (value * base + digit) & ULLONG_MAX
        digits += 1
        at += 1
    if overflow:
        return -errno.ERANGE
    if not digits:
        return -errno.EINVAL
    if buffer[at] == ord("\n"):
        at += 1
    if buffer[at] != 0:
        return -errno.EINVAL
    return value
