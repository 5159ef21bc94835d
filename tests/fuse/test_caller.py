"""The process that makes a request."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs.fuse.caller import Caller

NO_THREAD = 1 << 22  # PID_MAX_LIMIT


@pytest.fixture
def proc() -> Iterator[int]:
    """Open /proc."""
    descriptor = os.open("/proc", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def test_a_thread(proc: int) -> None:
    """A caller is a thread: it has the thread's name, and belongs to its process alone."""
    thread = threading.get_native_id()
    caller = Caller(7, thread, proc)
    assert caller.uid == 7
    assert caller.comm() == Path(f"/proc/{os.getpid()}/task/{thread}/comm").read_text().removesuffix("\n")
    assert caller.is_of(os.getpid())
    assert not caller.is_of(os.getppid())


def test_a_thread_that_is_gone(proc: int) -> None:
    """A thread that is gone, or that cannot be seen from here, has no name and no process."""
    caller = Caller(7, NO_THREAD, proc)
    assert caller.comm() == ""
    assert not caller.is_of(os.getpid())
