"""The tree without a mount: its nodes, and the errno of each refused operation."""

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
from pinnerfs.debugfs.attributes import text_file
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.root import root_directory
from pinnerfs.debugfs.tree import Tree
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.mount.support import outcome, scenario


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """The tree of the generation with the most files, owned by 12:34."""
    kernel = GENERATIONS["android12-5.10-early"]
    simulation = Simulation(load(scenario(tmp_path)), kernel=kernel.name)
    return Tree(root_directory(Device(simulation, ManualClock()), kernel), 12, 34)


def test_modes_owners_links(tree: Tree) -> None:
    """Every node has its mode, the owner, a size of 0, and a unique inode number."""
    expected = {
        "/": "drwx------ 4",
        "/page_pinner": "drwxr-xr-x 2",
        "/page_pinner/threshold": "-rw-r--r-- 1",
        "/page_pinner/longterm_pinner": "-r--r--r-- 1",
        "/page_pinner/failure_tracking": "-rw-r--r-- 1",
        "/page_pinner/alloc_contig_failed": "-r--r--r-- 1",
        "/cma": "drwxr-xr-x 2",
        "/.pinnerfs": "drwx------ 3",
        "/.pinnerfs/advance": "--w------- 1",
        "/.pinnerfs/do": "--w------- 1",
    }
    nodes = {path: tree.node(path) for path in expected}
    assert {path: f"{stat.filemode(node.mode)} {node.nlink}" for path, node in nodes.items()} == expected
    assert {(node.uid, node.gid, node.size) for node in nodes.values()} == {(12, 34, 0)}
    assert len({node.ino for node in nodes.values()}) == len(nodes)


def test_listing(tree: Tree) -> None:
    """Entries are listed newest first, without the control directory."""
    assert [name for name, _ in tree.listing("/")] == ["cma", "page_pinner"]
    names = [name for name, _ in tree.listing("/page_pinner")]
    assert names == ["failure_tracking", "alloc_contig_failed", "threshold", "longterm_pinner"]


def test_a_declaration_of_several_directories() -> None:
    """Directories nest; inodes are numbered in order of creation, and each subdirectory that is listed adds a link."""
    areas = [f"area{number}" for number in range(3)]  # known only at runtime
    cma = Directory("cma", 0o755, [Directory(name, 0o755, [text_file("count", str)]) for name in areas])
    hidden = Directory("hidden", 0o700, [Directory("below", 0o755)], listed=False)
    tree = Tree(Directory("", 0o700, [text_file("first", lambda: "1\n"), cma, hidden, Directory("last", 0o711)]), 1, 2)
    paths = ["/", "/first", "/cma"]
    paths += [path for name in areas for path in (f"/cma/{name}", f"/cma/{name}/count")]
    paths += ["/hidden", "/hidden/below", "/last"]
    assert [tree.node(path).ino for path in paths] == list(range(1, len(paths) + 1))
    assert [name for name, _ in tree.listing("/")] == ["last", "cma", "first"]
    assert [name for name, _ in tree.listing("/cma")] == ["area2", "area1", "area0"]
    assert [name for name, _ in tree.listing("/hidden")] == ["below"]
    assert [tree.node(path).nlink for path in ("/", "/cma", "/cma/area0", "/hidden", "/first")] == [4, 5, 2, 3, 1]
    assert tree.open("/first", os.O_RDONLY).read(10) == b"1\n"
    assert outcome(lambda: tree.node("/cma/area3")) == -errno.ENOENT
    assert outcome(lambda: tree.node("/first/x")) == -errno.ENOTDIR


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
def test_paths_without_a_node(tree: Tree, path: str, error: int) -> None:
    """Names are compared byte by byte; one over 255 bytes is ENAMETOOLONG, whether it exists or not."""
    assert outcome(lambda: tree.node(path)) == -error


def test_refusals(tree: Tree) -> None:
    """Creating a file is EACCES, other nodes and changes EPERM, fsync and O_DIRECT EINVAL."""
    file = "/page_pinner/threshold"
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "create": (lambda: tree.make("/new", 0o644), errno.EACCES),
        "mknod of a file": (lambda: tree.make("/new", stat.S_IFREG | 0o644), errno.EACCES),
        "mkfifo": (lambda: tree.make("/new", stat.S_IFIFO | 0o644), errno.EPERM),
        "mknod of a device": (lambda: tree.make("/new", stat.S_IFCHR | 0o644), errno.EPERM),
        "rearrange": (lambda: tree.rearrange(file), errno.EPERM),
        "fsync": (lambda: tree.fsync(file), errno.EINVAL),
        "O_DIRECT": (lambda: tree.open(file, os.O_DIRECT), errno.EINVAL),
        "open of a directory": (lambda: tree.open("/", os.O_RDONLY), errno.EISDIR),
        "truncate to 2 GiB": (lambda: tree.truncate(file, 1 << 31), errno.EFBIG),
    }
    assert {name: outcome(call) for name, (call, _) in calls.items()} == {name: -e for name, (_, e) in calls.items()}
    tree.fsync("/page_pinner")


def test_kept_attributes(tree: Tree) -> None:
    """chmod, chown, utimens and truncate change what stat shows; an owner of -1 keeps the old one."""
    path = "/page_pinner/threshold"
    node = tree.node(path)
    tree.chmod(path, 0o107777)
    tree.chown(path, 5, 0xFFFFFFFF)
    assert (node.mode, node.uid, node.gid) == (0o107777, 5, 34)
    tree.chown(path, -1, 6)
    assert (node.uid, node.gid) == (5, 6)
    tree.set_times(path, (1, 11), (2, 22))
    assert (node.atime, node.mtime) == ((1, 11), (2, 22))
    tree.truncate(path, 10)
    assert node.size == 10 and node.mtime == node.ctime > (2, 22)
    assert stat.S_ISREG(node.mode)


def test_statfs(tree: Tree) -> None:
    """statfs shows blocks and fragments of a page, and the maximal length of a name."""
    assert tree.statfs() == {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}
