"""The handlers of requests, without a mount."""

from __future__ import annotations

import os
import struct

import pytest

from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Tree
from pinnerfs.fuse import server
from pinnerfs.fuse.caller import Caller
from pinnerfs.fuse.connection import Connection
from pinnerfs.fuse.faults import Injection
from pinnerfs.fuse.inodes import Inodes
from pinnerfs.fuse.messages import BODY, Opcode
from pinnerfs.fuse.operations import TreeOperations


def test_inodes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORGET names one inode, BATCH_FORGET several with a count of lookups each. Neither has an answer."""
    forgotten: list[int] = []
    monkeypatch.setattr(Inodes, "forget", lambda inodes, ino: forgotten.append(ino))
    tree = Tree(Directory("", 0o700), 1, 2)
    injection = Injection(Faults((), 1, (), lambda: 0), lambda: Caller(5, 7, -1))
    descriptor = os.open(os.devnull, os.O_RDWR)
    try:
        connection = Connection(descriptor, -1)
        handlers = server._Handlers(connection, TreeOperations(tree, injection, ready=lambda: None)).table()
        assert handlers[Opcode.FORGET](5) is None
        struct.pack_into("=IIQQQQ", connection.buffer, BODY, 2, 0, 6 << 32, 1, 7 << 32, 3)
        assert handlers[Opcode.BATCH_FORGET](0) is None
    finally:
        os.close(descriptor)
    assert forgotten == [5, 6 << 32, 7 << 32]
