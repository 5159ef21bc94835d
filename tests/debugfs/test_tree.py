"""The tree without a mount: what is where, and what every call is refused with."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.tree import Tree
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.mount.support import outcome, scenario


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """The tree of the generation with the most files, owned by 12:34."""
    kernel = GENERATIONS["android12-5.10-early"]
    simulation = Simulation(load(scenario(tmp_path)), kernel=kernel.name)
    return Tree(Device(simulation, ManualClock()), kernel, 12, 34)


def test_modes_owners_links(tree: Tree) -> None:
    """Every node has its mode, its owner, a size of 0, and a number of its own."""
    expected = {
        "/": "drwx------ 3",
        "/page_pinner": "drwxr-xr-x 2",
        "/page_pinner/threshold": "-rw-r--r-- 1",
        "/page_pinner/longterm_pinner": "-r--r--r-- 1",
        "/page_pinner/failure_tracking": "-rw-r--r-- 1",
        "/page_pinner/alloc_contig_failed": "-r--r--r-- 1",
        "/.pinnerfs": "drwx------ 2",
        "/.pinnerfs/advance": "--w------- 1",
        "/.pinnerfs/do": "--w------- 1",
    }
    nodes = {path: tree.node(path) for path in expected}
    assert {path: f"{stat.filemode(node.mode)} {node.nlink}" for path, node in nodes.items()} == expected
    assert {(node.uid, node.gid, node.size) for node in nodes.values()} == {(12, 34, 0)}
    assert len({node.ino for node in nodes.values()}) == len(nodes)


def test_listing(tree: Tree) -> None:
    """Newest first, and never the control folder."""
    assert [name for name, _ in tree.listing("/")] == ["page_pinner"]
    names = [name for name, _ in tree.listing("/page_pinner")]
    assert names == ["failure_tracking", "alloc_contig_failed", "threshold", "longterm_pinner"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nothing", errno.ENOENT),
        ("/page_pinner/nothing", errno.ENOENT),
        ("/page_pinner/.pinnerfs", errno.ENOENT),
        ("/page_pinner/threshold/x", errno.ENOTDIR),
        ("/" + "x" * 255, errno.ENOENT),
        ("/" + "x" * 256, errno.ENAMETOOLONG),
        ("/" + b"caf\xe9".decode("latin-1"), errno.ENOENT),
        ("/" + "ü".encode().decode("latin-1") * 127, errno.ENOENT),
        ("/" + "ü".encode().decode("latin-1") * 128, errno.ENAMETOOLONG),
    ],
)
def test_paths_that_lead_nowhere(tree: Tree, path: str, error: int) -> None:
    """A name is looked for byte by byte, and may have 255 of them."""
    assert outcome(lambda: tree.node(path)) == -error


def test_refusals(tree: Tree) -> None:
    """Files are not created (EACCES), nodes not made nor moved (EPERM), nor synced or opened directly (EINVAL)."""
    file = "/page_pinner/threshold"
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "create": (lambda: tree.make("/new", 0o644), errno.EACCES),
        "mknod of a file": (lambda: tree.make("/new", stat.S_IFREG | 0o644), errno.EACCES),
        "mkfifo": (lambda: tree.make("/new", stat.S_IFIFO | 0o644), errno.EPERM),
        "mknod of a device": (lambda: tree.make("/new", stat.S_IFCHR | 0o644), errno.EPERM),
        "rearrange": (lambda: tree.rearrange(file), errno.EPERM),
        "fsync": (lambda: tree.fsync(file), errno.EINVAL),
        "O_DIRECT": (lambda: tree.open(file, os.O_DIRECT), errno.EINVAL),
        "open of a folder": (lambda: tree.open("/", os.O_RDONLY), errno.EISDIR),
        "truncate to 2 GiB": (lambda: tree.truncate(file, 1 << 31), errno.EFBIG),
    }
    assert {name: outcome(call) for name, (call, _) in calls.items()} == {name: -e for name, (_, e) in calls.items()}
    tree.fsync("/page_pinner")


def test_kept_attributes(tree: Tree) -> None:
    """chmod, chown, utimens and truncate are kept, and -1 leaves an owner as it was."""
    path = "/page_pinner/threshold"
    node = tree.node(path)
    tree.chmod(path, 0o107777)
    tree.chown(path, 5, 0xFFFFFFFF)
    assert (node.mode, node.uid, node.gid) == (0o107777, 5, 34)
    tree.chown(path, -1, 6)
    assert (node.uid, node.gid) == (5, 6)
    tree.set_times(path, 111, 222)
    assert (node.atime, node.mtime) == (111, 222)
    tree.truncate(path, 10)
    assert node.size == 10 and node.mtime == node.ctime > 222
    assert stat.S_ISREG(node.mode)


def test_statfs(tree: Tree) -> None:
    """statfs shows blocks and fragments of a page, and the longest name."""
    assert tree.statfs() == {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}
