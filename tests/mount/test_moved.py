"""A mount whose place is no longer what it was: moved, covered, removed, or taken by another."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, in_namespace, is_mounted, outcome, pinnerfs, scenario

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and unmount at will")


def _unmount_lazily(path: Path) -> None:
    subprocess.run(["umount", "-l", path], check=True, timeout=DEADLINE)


@contextmanager
def _below_a_folder(mounts: Mounts) -> Iterator[tuple[Mount, Path]]:
    """A mount in a folder of its own, and where that folder is going to be."""
    (mounts.folder / "old").mkdir()
    device = mounts(name="old/mnt")
    try:
        yield device, mounts.folder / "new"
    finally:
        # The clean-up looks for the mount, and for its log, where they are.
        if (mounts.folder / "new").exists():
            device.path = mounts.folder / "new" / "mnt"
            device.log = mounts.folder / "new" / "mnt.log"


@needs_root
def test_a_lazily_unmounted_one_leaves_its_successor_alone(mount: Mounts) -> None:
    """A daemon that lives on for an open file, and is then told to end, takes nothing of the next mount with it."""
    first = mount(None, "--threshold", "7", name="mnt")
    with first.opened(file="threshold") as file:
        _unmount_lazily(first.path)
        assert os.read(file, 100) == b"7\n"
        second = mount(name="mnt")
        os.kill(first.pid, signal.SIGTERM)
        assert first.gone()
        assert outcome(lambda: os.read(file, 100)) in (-errno.ENOTCONN, -errno.ECONNABORTED)
    assert is_mounted(second.path)
    assert second.threshold.read_text() == "300000\n"
    assert pinnerfs("umount", second.path).returncode == 0


@needs_root
def test_a_lazily_unmounted_one_that_nobody_uses(mount: Mounts) -> None:
    """Its daemon ends at once, and the place is free."""
    first = mount()
    _unmount_lazily(first.path)
    assert first.gone()
    assert mount().said == ""


def test_a_folder_above_is_renamed(mount: Mounts) -> None:
    """The mount goes with the folder, can be unmounted there, and a signal takes it down there."""
    with _below_a_folder(mount) as (device, new):
        device.path.parent.rename(new)
        assert (new / "mnt" / "page_pinner" / "threshold").read_text() == "300000\n"
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        assert not is_mounted(new / "mnt")
        assert list((new / "mnt").iterdir()) == []


def test_umount_where_it_has_gone(mount: Mounts) -> None:
    """`pinnerfs umount` finds a mount whose folder was renamed by its new name, and nothing by the old one."""
    with _below_a_folder(mount) as (device, new):
        device.path.parent.rename(new)
        refused = pinnerfs("umount", device.path)
        assert refused.returncode == 1 and "nothing is mounted there" in refused.stderr
        done = pinnerfs("umount", new / "mnt")
        assert (done.returncode, done.stderr) == (0, "")
        assert device.gone(0)


def test_another_takes_the_old_place(mount: Mounts) -> None:
    """Where the folder was renamed and another device mounted at the old name, each daemon takes down its own mount."""
    with _below_a_folder(mount) as (first, new):
        old = first.path.parent
        old.rename(new)
        old.mkdir()
        second = mount(None, "--threshold", "7", name="old/mnt")
        os.kill(first.pid, signal.SIGTERM)
        assert first.gone()
        assert not is_mounted(new / "mnt")
        assert second.threshold.read_text() == "7\n"
        assert pinnerfs("umount", second.path).returncode == 0


@needs_root
def test_something_is_mounted_over_it(mount: Mounts) -> None:
    """A daemon that is told to end while another mount lies over its own leaves that one; below it is dead."""
    device = mount()
    subprocess.run(["mount", "-t", "tmpfs", "none", device.path], check=True, timeout=DEADLINE)
    try:
        (device.path / "mine").write_text("")
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        assert (device.path / "mine").exists()
    finally:
        _unmount_lazily(device.path)
    assert "replaced a dead mount" in mount().said


@needs_root
def test_the_mount_point_is_removed(mount: Mounts) -> None:
    """Removed in another namespace, the folder takes the mount with it; the daemon ends, and a new folder is free."""
    device = mount()

    def remove() -> None:
        _unmount_lazily(device.path)
        device.path.rmdir()

    assert in_namespace(remove) is None
    assert device.gone()
    assert not device.path.exists() and not is_mounted(device.path)
    assert mount().said == ""


def test_the_mount_point_is_a_link_that_is_turned(mount: Mounts) -> None:
    """A link through which it was mounted may point elsewhere by the time of the end."""
    for name in ("one", "two"):
        (mount.folder / name).mkdir()
    link = mount.folder / "link"
    link.symlink_to("one")
    device = mount.add("one")
    done = pinnerfs("mount", scenario(mount.folder), link, "--clock", "manual")
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    link.unlink()
    link.symlink_to("two")
    os.kill(device.pid, signal.SIGTERM)
    assert device.gone()
    assert not is_mounted(device.path)
