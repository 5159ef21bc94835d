"""What rules of faults make of operations, without a mount."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from pinnerfs.debugfs.attributes import command_file, text_file
from pinnerfs.debugfs.declaration import Directory, File, Later
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Tree
from pinnerfs.fuse.caller import Caller
from pinnerfs.fuse.faults import Injection
from pinnerfs.fuse.operations import TreeOperations
from pinnerfs.fuse.protocols import Operations
from pinnerfs.fuse.tracing import traced
from tests.mount.support import outcome

FILE = "/page_pinner/threshold"
written: list[bytes] = []


@pytest.fixture
def operations() -> Operations:
    """The operations on a tree with a file in page_pinner/ and one beside it, for a caller with the uid 5."""
    written.clear()
    files = [text_file("threshold", lambda: "0123456789", 0o644, written.append)]
    entries: list[File | Directory] = [
        Directory("page_pinner", 0o755, files),
        text_file("page_pinner2", lambda: "other"),
    ]
    control = Directory(".pinnerfs", 0o700, [command_file("do", written.append)], listed=False)
    faults = Faults((), 1, ("threshold",), lambda: 0)
    tree = Tree(Directory("", 0o700, [*entries, control]), 0, 0)
    return TreeOperations(tree, Injection(faults, lambda: Caller(5, 7, -1)), ready=lambda: None)


def _names(operations: Operations, path: str) -> list[str]:
    entries = operations("readdir", None, operations("opendir", path))
    assert isinstance(entries, list)
    return [entry if isinstance(entry, str) else entry[0] for entry in entries]


def test_an_errno(operations: Operations) -> None:
    """An operation that a rule hits fails with the errno, and is not done; the others are."""
    file = operations.open(FILE, os.O_RDWR)
    operations.faults.write("add,op=write,errno=ENOSPC,times=1\nadd,op=open,errno=EMFILE")
    assert outcome(lambda: operations.write(FILE, file, b"5")) == -errno.ENOSPC
    assert outcome(lambda: operations.open(FILE, os.O_RDONLY)) == -errno.EMFILE
    operations.write(FILE, file, b"6")
    assert written == [b"6"]
    assert file.read(4) == b"0123"


def test_half_a_read(operations: Operations) -> None:
    """A cut read returns the first half of what there is, and the next read continues behind all of it."""
    file = operations.open(FILE, os.O_RDONLY)
    operations.faults.write("add,cut,times=1")
    assert [operations.read(FILE, file, 5) for _ in range(3)] == [b"01", b"56789", b""]


@pytest.mark.parametrize("rule", ["delay=2s", "delay=2s,cut", "delay=2s,errno=EIO"])
def test_a_delay(operations: Operations, rule: str) -> None:
    """A read with a delay happens after it, and so do its error and its cut."""
    file = operations.open(FILE, os.O_RDONLY)
    operations.faults.write(f"add,op=read,{rule},times=1")
    with pytest.raises(Later) as later:
        operations.read(FILE, file, 4)
    assert later.value.seconds == 2
    operations.faults.write("removeall")
    answer = outcome(later.value.then)
    assert answer == {"delay=2s": b"0123", "delay=2s,cut": b"01"}.get(rule, -errno.EIO)
    assert file.read(4) == (b"0123" if rule.endswith("EIO") else b"4567")


def test_a_missing_directory(operations: Operations) -> None:
    """A missing directory is not listed, nothing in it is found, and a file that is open can be used."""
    file = operations.open(FILE, os.O_RDWR)
    assert _names(operations, "/") == [".", "..", "page_pinner2", "page_pinner"]
    inside = operations("opendir", "/page_pinner")
    operations.faults.write("add,missing,uid=5")
    assert _names(operations, "/") == [".", "..", "page_pinner2"]
    for path in ("/page_pinner", FILE):
        assert outcome(lambda path=path: operations.find(path)) == -errno.ENOENT  # type: ignore[misc]
    assert outcome(lambda: operations("opendir", "/page_pinner")) == -errno.ENOENT
    assert outcome(lambda: operations.open(FILE, os.O_RDONLY)) == -errno.ENOENT
    assert file.read(4) == b"0123" and operations("readdir", None, inside)
    operations.faults.write("removeall\nadd,missing,uid=6")
    operations.find(FILE)
    assert "page_pinner" in _names(operations, "/")


def test_rules_are_about_page_pinner(operations: Operations) -> None:
    """No rule hits the root, `.pinnerfs/`, or a name that begins in the same way."""
    operations.faults.write("add,missing\nadd,errno=EIO")
    for path in ("/", "/.pinnerfs", "/.pinnerfs/do", "/page_pinner2"):
        operations.find(path)
    assert _names(operations, "/.pinnerfs") == [".", "..", "do"]
    assert operations.read("/page_pinner2", operations.open("/page_pinner2", os.O_RDONLY), 9) == b"other"
    operations.write("/.pinnerfs/do", operations.open("/.pinnerfs/do", os.O_WRONLY), b"pin")
    assert written == [b"pin"]


def test_the_trace_shows_faults(operations: Operations, caplog: pytest.LogCaptureFixture) -> None:
    """The trace shows what a rule makes of an operation: an errno, or when it happens."""
    caplog.set_level(logging.DEBUG, "pinnerfs.trace.fuse")
    wrapped = traced(operations)
    file = wrapped.open(FILE, os.O_RDONLY)
    wrapped.faults.write("add,op=read,errno=EIO,times=1\nadd,op=read,delay=2s\nadd,missing")
    assert outcome(lambda: wrapped.read(FILE, file, 4096)) == -errno.EIO
    with pytest.raises(Later):
        wrapped.read(FILE, file, 4096)
    assert outcome(lambda: wrapped.find(FILE)) == -errno.ENOENT
    assert caplog.messages[1:] == [
        "fuse: file 1.read(4096): EIO",
        "fuse: file 1.read(4096): Later('after 2 s')",
        "fuse: find('/page_pinner/threshold'): ENOENT",
    ]


def test_the_trace_numbers_a_file_whose_open_takes_time(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is open after a delay has the number of its open, also while rules are in force."""
    caplog.set_level(logging.DEBUG, "pinnerfs.trace.fuse")
    wrapped = traced(operations)
    wrapped.faults.write("add,op=open,delay=2s,times=1")
    with pytest.raises(Later) as later:
        wrapped.open(FILE, os.O_RDWR)
    other, file = wrapped.open(FILE, os.O_RDONLY), later.value.then()
    assert wrapped.read(FILE, file, 4) == b"0123"
    assert file.read(4) == b"4567"
    wrapped.write(FILE, file, b"5")
    assert written == [b"5"]
    wrapped.release(other)
    wrapped.release(file)
    assert caplog.messages[2:] == [
        "fuse: file 1.read(4): b'0123'",
        "fuse: file 1.read(4): b'4567'",
        "fuse: file 1.write(b'5'): done",
        "fuse: file 2.release(): done",
        "fuse: file 1.release(): done",
    ]
