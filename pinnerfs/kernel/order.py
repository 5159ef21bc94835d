"""A stable order of whole numbers, found 16 bits at a time."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.pages import Int64s

__all__ = ["stable_order"]

DIGIT = 16  # bits


def stable_order(values: Int64s) -> Int64s:
    """The places of numbers from 0 on, in ascending order; of equal ones the first comes first.

    numpy sorts 16 bits by counting, ten times as fast as it compares 64: so by the last digit first, then the next.
    """
    order = np.argsort(values.astype(np.uint16), kind="stable")
    bits = int(values.max()).bit_length() if len(values) else 0
    for shift in range(DIGIT, bits, DIGIT):
        digit = (values >> shift).astype(np.uint16)
        order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order
