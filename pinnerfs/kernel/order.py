"""A stable sort of whole numbers, 16 bits at a time."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.pages import Int64s

__all__ = ["stable_order"]

DIGIT = 16  # bits


def stable_order(values: Int64s) -> Int64s:
    """Return the places of these numbers (0 or more) in ascending order. Equal numbers keep their order.

    numpy sorts 16-bit numbers by counting, ten times as fast as it compares 64-bit ones.
    """
    order = np.argsort(values.astype(np.uint16), kind="stable")
    bits = int(values.max()).bit_length() if len(values) else 0
    for shift in range(DIGIT, bits, DIGIT):
        digit = (values >> shift).astype(np.uint16)
        order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order
