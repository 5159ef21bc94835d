"""Mounts that another mount covers, and bind copies: a mount is found by its id, not by its path."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, is_mounted, mount_table, pinnerfs, scenario

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount other file systems")


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=DEADLINE)


def _umount(path: Path) -> None:
    subprocess.run(["umount", path], check=True, timeout=DEADLINE)


@contextmanager
def _tmpfs(path: Path) -> Iterator[None]:
    """Cover a directory with a tmpfs, and unmount it at the end if it is still there."""
    _mount("-t", "tmpfs", "none", path)
    (path / "of the tmpfs").mkdir()
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=False, capture_output=True, timeout=DEADLINE)


def _lines(path: Path) -> int:
    return sum(f" {path} " in line for line in mount_table())


def _wait_for_line(device: Mount, text: str) -> None:
    """Wait for a line of the daemon's log, which is then an expected one."""
    device.expected.append(text)
    deadline = time.monotonic() + DEADLINE
    while text not in device.log.read_text():
        assert time.monotonic() < deadline, device.log.read_text()
        time.sleep(0.01)


@pytest.fixture
def below(mount: Mounts) -> Mount:
    """A mount on `upper/mnt`, so that a tmpfs on `upper` covers it."""
    (mount.directory / "upper").mkdir()
    log = mount.directory / "below.log"
    device = mount(None, "--threshold", "7", "--log", str(log), name="upper/mnt")
    device.log = log
    return device


def test_umount_of_a_covered_path(below: Mount) -> None:
    """`umount` does not take a covered mount for the directory that is visible, and names what covers it."""
    with _tmpfs(below.path.parent):
        below.path.mkdir()
        done = pinnerfs("umount", below.path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"Error: cannot unmount {below.path}: wanted a fuse.pinnerfs mount, but nothing is mounted there; "
            f"tmpfs on {below.path.parent} covers one\n"
        )
        assert _lines(below.path) == 1
    assert below.threshold.read_text() == "7\n"


def test_umount_of_a_mount_with_another_on_top(mount: Mounts) -> None:
    """`umount` does not unmount what another program mounted on top."""
    device = mount()
    with _tmpfs(device.path):
        done = pinnerfs("umount", device.path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"Error: cannot unmount {device.path}: wanted a fuse.pinnerfs mount, but tmpfs is mounted there; "
            f"tmpfs on {device.path} covers one\n"
        )
        assert (device.path / "of the tmpfs").is_dir()
    assert device.threshold.read_text() == "300000\n"


def test_mount_where_a_covered_mount_is(below: Mount, mount: Mounts) -> None:
    """A new mount works at the path of a covered one. Both unmount only themselves."""
    with _tmpfs(below.path.parent):
        below.path.mkdir()
        log = mount.directory / "second.log"
        done = pinnerfs("mount", scenario(mount.directory), below.path, "--clock", "manual", "--log", log)
        assert (done.returncode, done.stderr) == (0, "")
        assert below.threshold.read_text() == "300000\n"
        assert _lines(below.path) == 2
        done = pinnerfs("umount", below.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert _lines(below.path) == 1
    assert below.threshold.read_text() == "7\n"


def test_sigterm_leaves_the_mount_at_the_same_path(below: Mount, mount: Mounts) -> None:
    """SIGTERM of a covered daemon does not unmount another mount at the same path."""
    with _tmpfs(below.path.parent):
        below.path.mkdir()
        done = pinnerfs("mount", scenario(mount.directory), below.path, "--clock", "manual")
        assert (done.returncode, done.stderr) == (0, "")
        os.kill(below.pid, signal.SIGTERM)
        _wait_for_line(below, f"cannot unmount from {below.path}: another mount covers it")
        assert below.threshold.read_text() == "300000\n"
        assert pinnerfs("umount", below.path).returncode == 0
    assert below.gone()
    assert not is_mounted(below.path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_waits_for_the_mount_on_top(mount: Mounts, number: signal.Signals) -> None:
    """A covered daemon serves on after a signal, and ends when its mount is uncovered: no dead mount is left."""
    device = mount()
    with device.opened(file="threshold") as file, _tmpfs(device.path):
        os.kill(device.pid, number)
        _wait_for_line(device, f"cannot unmount from {device.path}: another mount covers it, or")
        assert os.read(file, 100) == b"300000\n"
        assert (device.path / "of the tmpfs").is_dir()
        _umount(device.path)
        assert device.gone()
    assert not is_mounted(device.path)
    assert list(device.path.iterdir()) == []


def test_a_mount_inside(mount: Mounts) -> None:
    """Neither `umount` nor SIGTERM detaches a mount on a directory of the mount."""
    device = mount()
    inside = device.path / "page_pinner"
    with _tmpfs(inside):
        done = pinnerfs("umount", device.path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: cannot unmount {device.path}: it is busy: tmpfs is mounted on {inside}\n"
        os.kill(device.pid, signal.SIGTERM)
        _wait_for_line(device, "another mount covers it")
        assert (inside / "of the tmpfs").is_dir()
    assert device.gone()
    assert not is_mounted(device.path)


def test_a_second_signal_ends_the_wait(mount: Mounts) -> None:
    """A second signal ends a covered daemon at once. Its mount is dead then, and the next mount replaces it."""
    device = mount()
    with _tmpfs(device.path):
        os.kill(device.pid, signal.SIGTERM)
        _wait_for_line(device, "another mount covers it")
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
    device.expected.clear()
    device.log.unlink()
    assert "replaced a dead mount" in mount().stderr


def test_run_does_not_wait_for_a_mount_on_top(tmp_path: Path) -> None:
    """The daemon of `run` does not wait until it is uncovered: its mounts end with the command."""
    (tmp_path / "debug").mkdir()
    script = f"mount -t tmpfs none {tmp_path}/debug; ls {tmp_path}/debug"
    options = ["--mountpoint", f"{tmp_path}/debug", "--log", f"{tmp_path}/log"]
    done = pinnerfs("run", scenario(tmp_path), *options, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "cannot unmount" not in (tmp_path / "log").read_text()


def test_umount_with_a_bind_copy(mount: Mounts) -> None:
    """With a bind copy, `umount` returns at once and says where it is. After `umount` of both, the daemon is gone."""
    device = mount()
    copy = mount.directory / "copy"
    copy.mkdir()
    _mount("--bind", device.path, copy)
    try:
        done = pinnerfs("umount", device.path)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == (
            f"{device.path}: unmounted; its daemon continues, because the device is also mounted on {copy}\n"
        )
        assert not is_mounted(device.path)
        assert (copy / "page_pinner" / "threshold").read_text() == "300000\n"
        done = pinnerfs("umount", copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert device.gone(0)
    finally:
        subprocess.run(["umount", "-l", copy], check=False, capture_output=True, timeout=DEADLINE)


def test_sigterm_with_a_bind_copy(mount: Mounts) -> None:
    """SIGTERM unmounts all copies that are visible to the daemon."""
    device = mount()
    copy = mount.directory / "copy"
    copy.mkdir()
    _mount("--bind", device.path, copy)
    os.kill(device.pid, signal.SIGTERM)
    assert device.gone()
    assert not is_mounted(device.path) and not is_mounted(copy)


def test_a_busy_mount_is_named(mount: Mounts) -> None:
    """The error for a busy mount names the process that uses it."""
    device = mount()
    with subprocess.Popen(["sleep", str(DEADLINE)], cwd=device.path) as process:
        try:
            done = pinnerfs("umount", device.path)
        finally:
            process.kill()
    error = f"it is busy: process {process.pid} (sleep) has its working directory there"
    assert (done.returncode, done.stderr) == (1, f"Error: cannot unmount {device.path}: {error}\n")
    with device.opened(file="threshold") as file:
        done = pinnerfs("umount", device.path)
        assert os.read(file, 100) == b"300000\n"
    assert f"it is busy: process {os.getpid()} (" in done.stderr and "has a file open there" in done.stderr
    assert device.threshold.read_text() == "300000\n"
