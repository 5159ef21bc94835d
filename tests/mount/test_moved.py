"""Mount points that are moved, covered, removed or replaced while the daemon runs."""

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

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and unmount other file systems")


def _unmount_lazily(path: Path) -> None:
    subprocess.run(["umount", "-l", path], check=True, timeout=DEADLINE)


@contextmanager
def _below_a_directory(mounts: Mounts) -> Iterator[tuple[Mount, Path]]:
    """Mount in old/mnt. Yield the mount, and the path to which the test renames `old`."""
    (mounts.directory / "old").mkdir()
    device = mounts(name="old/mnt")
    try:
        yield device, mounts.directory / "new"
    finally:
        # The clean-up needs the new paths.
        if (mounts.directory / "new").exists():
            device.path = mounts.directory / "new" / "mnt"
            device.log = mounts.directory / "new" / "mnt.log"


@needs_root
def test_a_lazily_unmounted_daemon_keeps_the_next_mount(mount: Mounts) -> None:
    """A lazily unmounted daemon with an open file does not unmount the next mount when it ends."""
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
def test_a_lazy_unmount_without_open_files(mount: Mounts) -> None:
    """After a lazy unmount without open files the daemon ends, and the mount point can be used again."""
    first = mount()
    _unmount_lazily(first.path)
    assert first.gone()
    assert mount().stderr == ""


def test_a_parent_directory_is_renamed(mount: Mounts) -> None:
    """If a parent directory is renamed, the mount works at the new path, and SIGTERM unmounts it there."""
    with _below_a_directory(mount) as (device, new):
        device.path.parent.rename(new)
        assert (new / "mnt" / "page_pinner" / "threshold").read_text() == "300000\n"
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        assert not is_mounted(new / "mnt")
        assert list((new / "mnt").iterdir()) == []


def test_umount_after_a_rename(mount: Mounts) -> None:
    """After a rename, `pinnerfs umount` works with the new path and not with the old one."""
    with _below_a_directory(mount) as (device, new):
        device.path.parent.rename(new)
        refused = pinnerfs("umount", device.path)
        assert refused.returncode == 1 and "No such file or directory" in refused.stderr
        done = pinnerfs("umount", new / "mnt")
        assert (done.returncode, done.stderr) == (0, "")
        assert device.gone(0)


def test_another_mount_at_the_old_path(mount: Mounts) -> None:
    """After a rename and another mount at the old path, each daemon unmounts its own mount."""
    with _below_a_directory(mount) as (first, new):
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
def test_the_mount_point_is_removed(mount: Mounts) -> None:
    """If another namespace removes the mount point, the daemon ends, and the path can be used again."""
    device = mount()

    def remove() -> None:
        _unmount_lazily(device.path)
        device.path.rmdir()

    assert in_namespace(remove) is None
    assert device.gone()
    assert not device.path.exists() and not is_mounted(device.path)
    assert mount().stderr == ""


def test_a_link_with_a_new_target(mount: Mounts) -> None:
    """A daemon unmounts its mount even if the link it was mounted through now has another target."""
    for name in ("one", "two"):
        (mount.directory / name).mkdir()
    link = mount.directory / "link"
    link.symlink_to("one")
    device = mount.add("one")
    done = pinnerfs("mount", scenario(mount.directory), link, "--clock", "manual")
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    link.unlink()
    link.symlink_to("two")
    os.kill(device.pid, signal.SIGTERM)
    assert device.gone()
    assert not is_mounted(device.path)
