"""The process that makes a request."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs.debugfs.inject import Faults
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
    assert caller.comm == Path(f"/proc/{os.getpid()}/task/{thread}/comm").read_text().removesuffix("\n")
    assert caller.pid == os.getpid()


def test_many_rules_with_a_filter(proc: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is compared with 256 rules by two looks into /proc: for the name, and for the process."""
    opened = []

    def open_and_count(path: str, flags: int, *, dir_fd: int) -> int:
        opened.append(path)
        return real_open(path, flags, dir_fd=dir_fd)

    real_open = os.open
    monkeypatch.setattr(os, "open", open_and_count)
    faults = Faults((), 1, ("threshold",), lambda: 0)
    faults.write("\n".join(f"add,errno=EIO,comm=other-{number}" for number in range(128)))
    faults.write("\n".join(f"add,errno=EIO,pid={number}" for number in range(1 << 22, (1 << 22) - 128, -1)))
    thread = threading.get_native_id()
    assert faults.fault("read", "threshold", Caller(7, thread, proc)) is None
    assert opened == [f"{thread}/comm", f"{thread}/status"]


def test_a_thread_that_is_gone(proc: int) -> None:
    """A thread that is gone, or that cannot be seen from here, has no name and no process."""
    caller = Caller(7, NO_THREAD, proc)
    assert (caller.comm, caller.pid) == ("", 0)
