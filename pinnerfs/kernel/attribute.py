"""The text of a simple attribute. Imitates `simple_attr_write` and `kstrtoull` of Linux 5.10 to 6.1."""

from __future__ import annotations

import errno
import re

__all__ = ["parse_simple_attribute", "to_signed", "to_signed_32"]

# simple_attr_write has a buffer of 24 bytes, with the NUL.
MAX_BYTES = 23

ZERO = ord("0")
SURE_DIGITS = 19  # fit into 64 bits

_NUMBER = re.compile(rb"\+?(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))(\n?(?:\0|\Z))?")


def parse_simple_attribute(data: bytes) -> int:
    """Return the unsigned 64-bit number of a write. Only the first 23 bytes count, up to a NUL if there is one.

    Raise OSError: ERANGE for a number over 64 bits, EINVAL for anything else.
    """
    # Most numbers are plain decimal ones of less than 64 bits, which need no regular expression.
    digits = data.removesuffix(b"\n")
    if digits.isdigit() and digits[0] != ZERO and len(digits) <= SURE_DIGITS:
        return int(digits)
    match = _NUMBER.match(data, 0, MAX_BYTES)
    if match is None:
        raise OSError(errno.EINVAL, "not a number as the kernel reads one")
    hexadecimal, octal, decimal, end = match.groups()
    value = int(decimal) if decimal else int(octal, 8) if octal else int(hexadecimal, 16)
    # The kernel checks the range before the rest of the text.
    if value >= 1 << 64:
        raise OSError(errno.ERANGE, "over 64 bits")
    if end is None:
        raise OSError(errno.EINVAL, "something stands behind the number")
    return value


def to_signed(value: int) -> int:
    """Return an unsigned 64-bit number as an s64: 18446744073709551615 is -1."""
    return value - (1 << 64) if value >= 1 << 63 else value


def to_signed_32(value: int) -> int:
    """Return the lowest 32 bits of a number as an int: 4294967295 is -1, and so is 18446744073709551615."""
    value &= (1 << 32) - 1
    return value - (1 << 32) if value >= 1 << 31 else value
