"""The answers with attributes, and the notifications in front of them, without a mount."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from pinnerfs.debugfs.attributes import number_file
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.tree import Tree
from pinnerfs.fuse.inodes import FOREVER, KEPT_SIZE, Inodes
from pinnerfs.fuse.messages import ATTR, ATTR_OUT, ENTRY_OUT, NOTIFY_INVAL_INODE, NOTIFY_STORE, ROOT_ID, STORE_OUT

FILE = 2
LOOKED_UP = (0, FOREVER)  # a size and its timeout
EXPIRED = (KEPT_SIZE, 0)


def _size(answer: bytes) -> tuple[int, int]:
    """Return the size in an answer with attributes, and its timeout."""
    return ATTR.unpack_from(answer, ATTR_OUT.size)[1], ATTR_OUT.unpack_from(answer)[0]


class Kernel:
    """The inodes with a record of the notifications: each is the number of bytes stored, or "invalid"."""

    def __init__(self, version: tuple[int, int] = (7, 44)) -> None:
        self.notified: list[int | str] = []
        slow = number_file("slow", put=lambda value: None)._replace(waits=True)
        tree = Tree(Directory("", 0o700, [number_file("number", int), slow]), 1, 2)
        self.inodes = Inodes(tree.node, self._notify)
        self.node = tree.node
        self.inodes.negotiate(version)

    def _notify(self, number: int, data: bytes) -> None:
        if number == NOTIFY_INVAL_INODE:
            self.notified.append("invalid")
            return
        assert number == NOTIFY_STORE
        ino, _, size, _ = STORE_OUT.unpack_from(data)
        assert len(data) == STORE_OUT.size + size
        if ino == FILE:
            self.notified.append(size)

    def lookup(self) -> tuple[int, int]:
        """Return the size of a lookup's answer and its timeout."""
        answer = self.inodes.lookup(ROOT_ID, b"number")
        ino, _, name_lifetime, lifetime, _, _ = ENTRY_OUT.unpack_from(answer)
        assert ino == FILE and name_lifetime == FOREVER
        return ATTR.unpack_from(answer, ENTRY_OUT.size)[1], lifetime

    def getattr(self) -> int:
        """Return the size of a GETATTR's answer."""
        size, lifetime = _size(self.inodes.getattr(FILE))
        assert lifetime == FOREVER
        return size

    def changed(self) -> tuple[int, int]:
        """Return the size of a SETATTR's answer and its timeout."""
        return _size(self.inodes.changed(self.inodes.known[FILE], self.node("/number")))

    def truncated(self) -> tuple[int, int]:
        """Return the same after an open with O_TRUNC by thread 100, which has handle 5."""
        return _size(self.inodes.truncated(self.inodes.known[FILE], self.node("/number"), 5, 100))

    def opened(self, flags: int) -> bool:
        """Return whether an open of the file can be answered."""
        return self.inodes.opened(self.inodes.known[FILE], flags)

    def released(self, flags: int, handle: int) -> None:
        """Close a handle of the file."""
        self.inodes.released(self.inodes.known[FILE], flags, handle)

    def new(self) -> list[int | str]:
        """Return the notifications since the last call."""
        notified, self.notified = self.notified, []
        return notified


@pytest.fixture
def kernel() -> Kernel:
    """Return a kernel that has looked up the file."""
    kernel = Kernel()
    assert kernel.lookup() == LOOKED_UP
    kernel.new()
    return kernel


def test_the_first_reader_raises_the_size(kernel: Kernel) -> None:
    """The size in the inode is raised once, and stays; later opens need nothing."""
    for _ in range(2):
        kernel.opened(os.O_RDONLY)
        kernel.opened(os.O_RDWR)
        kernel.released(os.O_RDWR, 1)
        kernel.released(os.O_RDONLY, 1)
    assert kernel.new() == [0, 1]


def test_a_writer_raises_nothing(kernel: Kernel) -> None:
    """A descriptor for writing alone cannot be the source of a sendfile."""
    kernel.opened(os.O_WRONLY | os.O_TRUNC)
    kernel.released(os.O_WRONLY, 1)
    assert kernel.new() == []


def test_stat_shows_the_true_size(kernel: Kernel) -> None:
    """The answer of 0 is made too old for an inode with a raised size, also after the last close."""
    kernel.opened(os.O_RDONLY)
    kernel.new()
    for _ in range(2):
        assert kernel.getattr() == 0
        assert kernel.new() == [0]
        kernel.released(os.O_RDONLY, 1)
        kernel.opened(os.O_RDONLY)
    kernel.released(os.O_RDONLY, 1)
    assert (kernel.getattr(), kernel.new()) == (0, [0])


def test_a_change_without_readers(kernel: Kernel) -> None:
    """The answer to a change expires at once; the next answer sets the true size, and the next reader raises it."""
    assert kernel.changed() == EXPIRED
    assert (kernel.getattr(), kernel.new()) == (0, [])
    kernel.opened(os.O_RDONLY)
    assert kernel.new() == [0, 1]
    kernel.released(os.O_RDONLY, 1)
    assert kernel.changed() == EXPIRED
    kernel.opened(os.O_RDONLY)
    assert kernel.new() == [0, 1]


def test_a_change_with_a_reader(kernel: Kernel) -> None:
    """While a reader is there, no answer takes its size away."""
    kernel.opened(os.O_RDONLY)
    kernel.new()
    assert kernel.changed() == EXPIRED
    assert (kernel.getattr(), kernel.new()) == (0, [0])
    assert (kernel.lookup(), kernel.new()) == (EXPIRED, [0])
    kernel.opened(os.O_RDONLY)
    assert kernel.new() == []
    for _ in range(2):
        kernel.released(os.O_RDONLY, 1)
    assert (kernel.getattr(), kernel.new()) == (0, [])


def test_an_open_with_truncation(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without readers the answer has the true size. No reader opens the file until a request of the same handle."""
    monkeypatch.setattr("pinnerfs.fuse.inodes.monotonic", lambda: 1.0)
    assert kernel.truncated() == LOOKED_UP
    assert kernel.opened(os.O_WRONLY)
    assert not kernel.opened(os.O_RDONLY)
    kernel.inodes.lookup(ROOT_ID, b"slow")
    assert kernel.inodes.opened(kernel.inodes.known[FILE + 1], os.O_RDONLY)
    # Another truncation does not make this reader wait longer.
    assert kernel.truncated() == EXPIRED
    kernel.inodes.settle(6)
    assert not kernel.opened(os.O_RDONLY)
    kernel.inodes.settle(5)
    assert kernel.new() == []
    assert kernel.opened(os.O_RDONLY)
    assert kernel.new() == [0, 1]
    # With a reader the answer expires.
    assert kernel.truncated() == EXPIRED
    assert kernel.opened(os.O_RDONLY)


def test_a_writer_that_opens_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of the same thread shows as well that it has the answer."""
    monkeypatch.setattr("pinnerfs.fuse.inodes.monotonic", lambda: 1.0)
    assert kernel.truncated() == LOOKED_UP
    assert kernel.inodes.opening(FILE, os.O_RDWR, 101).path == "/number"
    assert not kernel.opened(os.O_RDWR)
    assert kernel.inodes.opening(FILE, os.O_RDWR, 100).path == "/number"
    assert kernel.opened(os.O_RDWR)


def test_a_writer_that_makes_no_request(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that does not write holds readers up for a moment only."""
    moments = iter([1.0, 1.01, 10.0])
    monkeypatch.setattr("pinnerfs.fuse.inodes.monotonic", lambda: next(moments))
    assert kernel.truncated() == LOOKED_UP
    assert not kernel.opened(os.O_RDWR)
    assert kernel.opened(os.O_RDWR)


def test_a_lookup_after_the_kernel_forgot_the_inode(kernel: Kernel) -> None:
    """A new inode has the true size, and its first reader raises it again."""
    kernel.opened(os.O_RDONLY)
    kernel.released(os.O_RDONLY, 1)
    kernel.new()
    assert (kernel.lookup(), kernel.new()) == (LOOKED_UP, [0])
    kernel.opened(os.O_RDONLY)
    assert kernel.new() == [0, 1]


def test_an_older_kernel() -> None:
    """Before Linux 5.16 a store marks nothing as invalid, so all attributes are."""
    kernel = Kernel((7, 34))
    assert kernel.lookup() == LOOKED_UP
    kernel.new()
    kernel.opened(os.O_RDONLY)
    assert kernel.new() == ["invalid", 1]
    assert (kernel.getattr(), kernel.new()) == (0, ["invalid"])


def test_a_directory() -> None:
    """The attributes of a directory are kept."""
    kernel = Kernel()
    for answer in (
        kernel.inodes.getattr(ROOT_ID),
        kernel.inodes.changed(kernel.inodes.known[ROOT_ID], kernel.node("/")),
    ):
        assert _size(answer) == (0, FOREVER)
        assert stat.S_IFMT(ATTR.unpack_from(answer, ATTR_OUT.size)[8]) == stat.S_IFDIR
    assert kernel.new() == []


def test_each_writer_of_a_slow_file_has_an_inode(kernel: Kernel) -> None:
    """An open for writing is sent back to look up the name if another writer has the inode, but only once."""

    def lookup() -> int:
        ino: int = ENTRY_OUT.unpack_from(kernel.inodes.lookup(ROOT_ID, b"slow"))[0]
        return ino

    first = lookup()
    assert lookup() == first
    kernel.inodes.opening(first, os.O_WRONLY, 100)
    kernel.inodes.opened(kernel.inodes.known[first], os.O_WRONLY)
    with pytest.raises(OSError) as error:
        kernel.inodes.opening(first, os.O_WRONLY, 101)
    assert error.value.errno == errno.ESTALE
    second, third = lookup(), lookup()
    assert len({first, second, third}) == 3
    assert kernel.inodes.path(second) == kernel.inodes.path(first) == "/slow"
    kernel.inodes.opening(first, os.O_WRONLY, 101)  # through /proc/PID/fd there is no other inode
    kernel.inodes.opening(first, os.O_RDONLY, 102)
    kernel.inodes.opened(kernel.inodes.known[second], os.O_WRONLY)
    kernel.inodes.released(kernel.inodes.known[first], os.O_WRONLY, 1)
    fourth = lookup()
    assert fourth not in {first, second, third}
    kernel.inodes.released(kernel.inodes.known[second], os.O_WRONLY, 1)
    assert lookup() == first
    # The further ones never come back.
    for ino in (first, second, third):
        kernel.inodes.forget(ino)
    assert set(kernel.inodes.known) == {ROOT_ID, FILE, first, fourth}
