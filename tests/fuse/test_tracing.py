"""The operations and their trace, without a mount."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from pinnerfs.debugfs.attributes import command_file, text_file
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Tree
from pinnerfs.fuse.caller import Caller
from pinnerfs.fuse.faults import Injection
from pinnerfs.fuse.operations import TreeOperations
from pinnerfs.fuse.protocols import Operations
from pinnerfs.fuse.tracing import traced
from tests.mount.support import outcome


def _on(tree: Tree) -> Operations:
    """Return the operations on a tree, without rules of faults."""
    injection = Injection(Faults((), 1, ("threshold",), lambda: 0), lambda: Caller(5, 7, -1))
    return TreeOperations(tree, injection, ready=lambda: None)


@pytest.fixture
def operations() -> Operations:
    """The operations on a tree of a text and a command, as `serve` uses them."""
    root = Directory("", 0o700, [text_file("text", lambda: "x" * 100), command_file("do", lambda data: None)])
    return _on(Tree(root, 1, 2))


def test_no_trace_costs_nothing(operations: Operations) -> None:
    """Without the trace the operations are used as they are."""
    assert traced(operations) is operations


def test_each_request_is_logged(operations: Operations, caplog: pytest.LogCaptureFixture) -> None:
    """A line has the arguments and the answer or errno; the lines of an open file share its number."""
    caplog.set_level(logging.DEBUG, "pinnerfs.trace.fuse")
    wrapped = traced(operations)
    assert wrapped.getattr("/text").size == 0
    file = wrapped.open("/text", os.O_RDONLY)
    assert outcome(lambda: wrapped.sendfile(file, 4096)) == -errno.EINVAL
    assert file.read(4096) == b"x" * 100
    wrapped.release(file)
    command = wrapped.open("/do", os.O_WRONLY)
    command.write(b"now")
    assert wrapped.truncate("/do", 5).size == 5
    assert outcome(lambda: wrapped("fsync", "/do")) == -errno.EINVAL
    wrapped.release(command)
    assert wrapped("readdir", None, wrapped("opendir", "/")) == [
        ".",
        "..",
        ("do", {"st_ino": 3, "st_mode": 0o100200}, 0),
        ("text", {"st_ino": 2, "st_mode": 0o100444}, 0),
    ]
    assert outcome(lambda: wrapped("mkdir", "/new", 0o755)) == -errno.EPERM
    assert caplog.messages == [
        "fuse: getattr('/text'): ino 2 mode 100444 owner 1:2 size 0",
        f"fuse: open('/text', {os.O_RDONLY}): file 1",
        "fuse: file 1.sendfile(4096): EINVAL",
        f"fuse: file 1.read(4096): {b'x' * 64!r}... (100 bytes)",
        "fuse: file 1.release(): done",
        f"fuse: open('/do', {os.O_WRONLY}): file 2",
        "fuse: file 2.write(b'now'): done",
        "fuse: truncate('/do', 5): ino 3 mode 100200 owner 1:2 size 5",
        "fuse: fsync('/do'): EINVAL",
        "fuse: file 2.release(): done",
        "fuse: opendir('/'): 1",
        f"fuse: readdir(None, 1): {wrapped('readdir', None, 1)!r}",
        "fuse: mkdir('/new', 493): EPERM",
    ]


def test_a_bug_is_logged_by_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that is no OSError has no errno; the trace shows it, and passes it on."""

    def breaks(data: bytes) -> None:
        raise ValueError("a bug")

    caplog.set_level(logging.DEBUG, "pinnerfs.trace.fuse")
    tree = Tree(Directory("", 0o700, [command_file("do", breaks)]), 1, 2)
    file = traced(_on(tree)).open("/do", os.O_WRONLY)
    with pytest.raises(ValueError, match="a bug"):
        file.write(b"x")
    assert caplog.messages[-1] == "fuse: file 1.write(b'x'): ValueError('a bug')"


def test_missing_operations_stay_missing(operations: Operations, caplog: pytest.LogCaptureFixture) -> None:
    """The binding looks which operations there are; the trace adds none."""
    caplog.set_level(logging.DEBUG, "pinnerfs.trace.fuse")
    for either in (operations, traced(operations)):
        assert hasattr(either, "readdir") and not hasattr(either, "getxattr")
