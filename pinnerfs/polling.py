"""Wait until a descriptor can be read: a process or a pipe has ended, or an answer has arrived."""

from __future__ import annotations

import math
import select

__all__ = ["wait_readable"]


def wait_readable(timeout: float | None, *descriptors: int) -> bool:
    """Return True when one of the descriptors can be read, or False after `timeout` seconds. None waits forever."""
    poll = select.poll()  # select(2) takes no descriptor above 1023, and a program may have opened many files
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))
