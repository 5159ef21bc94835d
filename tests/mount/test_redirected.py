"""Root mounts and unmounts in the directory of a user who renames directories at the same time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pinnerfs.cli.mount_options import _adjust_root
from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.libfuse import mount_by_path
from pinnerfs.mounts import unmount as unmounting
from pinnerfs.mounts.attach import attach
from pinnerfs.mounts.claim import claim
from tests.mount.support import DEADLINE, ORDINARY, environment, mount_table, pinnerfs, scenario

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is attacked here")

ATTEMPTS, MOST = 6, 40  # of an attack; more than ATTEMPTS only until one call succeeds
RENAMES = 2_000_000  # a bound; the test kills the process before

# Swaps two names in a loop, as the user whose uid is the third argument.
SWAP = f"""
import ctypes, os, sys
rename, here, exchange = ctypes.CDLL(None).renameat2, -100, 2
one, two, user = *map(os.fsencode, sys.argv[1:3]), int(sys.argv[3])
os.setgroups([]), os.setgid(user), os.setuid(user)
assert rename(here, one, here, two, exchange) == 0
print("ready", flush=True)
for _ in range({RENAMES}):
    rename(here, one, here, two, exchange)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Create a user's directory with the directories `one/mnt` and `two/mnt`."""
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for path in (directory, directory / "one", directory / "two", directory / "one/mnt", directory / "two/mnt"):
            path.mkdir(exist_ok=True)
            os.chown(path, ORDINARY, ORDINARY)
        try:
            yield directory
        finally:
            _clear(directory)


def _points(directory: Path, fstype: str) -> list[Path]:
    """Return the mount points of this type below a directory."""
    mounts = [line.split(" ")[1:3] for line in mount_table() if line]
    return [Path(path) for path, kind in mounts if path.startswith(f"{directory}/") and kind == fstype]


def _clear(directory: Path) -> None:
    """Unmount everything below a directory, and wait until the daemons have ended."""
    for fstype in ("fuse.pinnerfs", "tmpfs"):
        for path in _points(directory, fstype):
            _end(path)


def _end(path: Path) -> None:
    try:
        daemon = os.pidfd_open(int((path / ".pinnerfs/pid").read_text()))
    except OSError:
        daemon = -1
    subprocess.run(["umount", "-l", path], check=False, timeout=DEADLINE)
    if daemon >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
        os.close(daemon)


@contextmanager
def _swapping(one: Path, two: Path, *prefix: str) -> Iterator[None]:
    """Let the user swap two directories all the time."""
    command = [*prefix, sys.executable, "-c", SWAP, str(one), str(two), str(ORDINARY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def _assert_expected(done: subprocess.CompletedProcess[str]) -> None:
    """Check that a command succeeded, or was refused with status 1 and one line."""
    if done.returncode:
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert done.stderr.startswith("Error: cannot ") and done.stderr.count("\n") == 1, done.stderr


# The names are swapped above the mount points, or, in another mount namespace, the mount points themselves. In their
# own namespace the kernel does not let them be renamed.
@pytest.mark.parametrize("inner", [False, True])
def test_umount_never_hits_another_mount(home: Path, inner: bool) -> None:
    """`umount` unmounts the pinnerfs mount or nothing: never the tmpfs that has its name a moment later."""
    one, two = home / "one/mnt", home / "two/mnt"
    if inner:
        two = home / "one/other"
        two.mkdir()
        for path in (one, two):
            os.chown(path, ORDINARY, ORDINARY)
    unmounted = 0
    for attempt in range(MOST):
        if attempt >= ATTEMPTS and unmounted:
            break
        # Unshared before the mounts, which therefore are not in the namespace.
        with _other_namespace() if inner else _no_namespace() as prefix:
            done = pinnerfs("mount", scenario(home), one, "--clock", "manual")
            assert done.returncode == 0, done.stderr
            subprocess.run(["mount", "-t", "tmpfs", "none", two], check=True, timeout=DEADLINE)
            with _swapping(one if inner else home / "one", two if inner else home / "two", *prefix):
                done = pinnerfs("umount", one)
            _assert_expected(done)
            left = len(_points(home, "fuse.pinnerfs"))
            assert left == (done.returncode != 0)
            unmounted += not left
            assert len(_points(home, "tmpfs")) == 1
            _clear(home)
    assert unmounted, "the attack let no call succeed"


@contextmanager
def _no_namespace() -> Iterator[list[str]]:
    yield []


@contextmanager
def _other_namespace() -> Iterator[list[str]]:
    """Keep a mount namespace without the later mounts, and yield the command that runs another one in it."""
    with subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo ready; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt"]
        finally:
            process.kill()


def test_mount_never_covers_contents(home: Path) -> None:
    """`mount` covers the empty directory that it has checked, never one with contents that has its name later."""
    secret = home / "two/mnt/secret"
    secret.write_text("")
    os.chown(secret.parent, 0, 0)
    secret.parent.chmod(0o700)
    mounted = 0
    for attempt in range(MOST):
        if attempt >= ATTEMPTS and mounted:
            break
        with _swapping(home / "one", home / "two"):
            done = pinnerfs("mount", scenario(home), home / "one/mnt", "--clock", "manual")
        _assert_expected(done)
        points = _points(home, "fuse.pinnerfs")
        assert len(points) == (done.returncode == 0)
        mounted += len(points)
        # The mount does not hide the file.
        assert sum((home / name / "mnt/secret").exists() for name in ("one", "two")) == 1
        _clear(home)
    assert mounted, "the attack let no call succeed"


def test_mount_holds_the_directory(home: Path) -> None:
    """A directory that was renamed after the check is mounted on at its new path."""
    place = claim(str(home / "one/mnt"))
    (home / "one").rename(home / "three")
    (home / "two").rename(home / "one")
    connection, _ = attach(place.descriptor, place.name, allow_other=True, mount_by_path=mount_by_path)
    try:
        assert _points(home, "fuse.pinnerfs") == [home / "three/mnt"]
    finally:
        os.close(place.descriptor)
        os.close(connection)
        subprocess.run(["umount", "-l", home / "three/mnt"], check=True, timeout=DEADLINE)


def test_a_users_mount_that_lands_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libfuse takes a path. If the path leads to another directory meanwhile, the mount is taken back."""

    def late(path: str, options: Mapping[str, bool | str]) -> tuple[int, str]:
        (home / "one").rename(home / "three")
        (home / "two").rename(home / "one")
        return mount_by_path(path, options)

    monkeypatch.setattr(os, "geteuid", lambda: ORDINARY)
    place = claim(str(home / "one/mnt"))
    with pytest.raises(PinnerfsError, match="moved the directory at the same moment") as caught:
        attach(place.descriptor, place.name, allow_other=False, mount_by_path=late)
    os.close(place.descriptor)
    assert caught.value.exit_status == 1
    assert (home / "three").exists()
    assert _points(home, "fuse.pinnerfs") == []


def test_umount_holds_the_mount(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount whose directory is renamed between the checks and the unmount is unmounted at its new path."""
    assert pinnerfs("mount", scenario(home), home / "one/mnt").returncode == 0
    subprocess.run(["mount", "-t", "tmpfs", "none", home / "two/mnt"], check=True, timeout=DEADLINE)

    def renaming(*_: object) -> Iterator[str]:
        (home / "one").rename(home / "three")
        (home / "two").rename(home / "one")
        return iter(())

    monkeypatch.setattr(unmounting, "_uses", renaming)
    assert unmounting.unmount(str(home / "one/mnt")) is None
    assert _points(home, "fuse.pinnerfs") == []
    assert _points(home, "tmpfs") == [home / "one/mnt"]


def test_the_options_of_a_mount_that_is_swapped(home: Path) -> None:
    """The mount helper's mode, uid and gid never change a file that is not of the mount."""
    with pytest.raises(PinnerfsError, match=r"wanted a fuse\.pinnerfs mount, but none is there"):
        _adjust_root(str(home / "one/mnt"), {"uid": 5, "mode": 0o777}, read_only=False)
    status = (home / "one/mnt").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (ORDINARY, 0o755)


@pytest.mark.parametrize("command", [("advance", "1s"), ("do", "pin nothing")])
def test_ctl_of_a_directory_that_looks_like_a_mount(home: Path, command: tuple[str, str]) -> None:
    """`ctl` writes to no file to which a user's symbolic link leads."""
    file = home / "two" / "file"
    file.write_text("contents")
    fake = home / "one/mnt/.pinnerfs"
    fake.mkdir()
    for name in ("advance", "do", "clock", "error"):
        (fake / name).symlink_to(file)
    (fake / "clock").unlink()
    (fake / "clock").write_text("0\n")
    done = pinnerfs("ctl", home / "one/mnt", *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "wanted a pinnerfs mount, but none is there" in done.stderr
    assert file.read_text() == "contents"


def test_a_user_locks_the_directory(home: Path) -> None:
    """A lock that a user holds on the directory does not delay a mount."""
    descriptor = os.open(home / "one/mnt", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        # In-process, and without other work that takes time on a busy machine.
        before = time.process_time(), time.monotonic()
        os.close(claim(str(home / "one/mnt")).descriptor)
        assert time.monotonic() - before[1] < 9
    finally:
        os.close(descriptor)


def test_mounts_at_the_same_moment(home: Path) -> None:
    """Of several mounts on one directory at the same moment, one succeeds. The others exit with status 1, not 69."""
    for _ in range(4):
        command = [sys.executable, "-m", "pinnerfs", "mount", str(scenario(home)), str(home / "one/mnt")]
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) for _ in range(3)]
        errors = [process.communicate(timeout=DEADLINE)[1] for process in processes]
        assert sorted(process.returncode for process in processes) == [0, 1, 1], errors
        assert all(
            error == "" or "is already a mount point (fuse.pinnerfs)" in error or "at the same moment" in error
            for error in errors
        ), errors
        assert _points(home, "fuse.pinnerfs") == [home / "one/mnt"]
        assert (home / "one/mnt/page_pinner/threshold").read_text() == "300000\n"
        _clear(home)


def test_attachments_at_the_same_moment(home: Path) -> None:
    """A mount that lands on top of another one is taken back: the kernel orders the two."""
    place, late = (claim(str(home / "one/mnt")) for _ in range(2))
    connection, _ = attach(place.descriptor, place.name, allow_other=True, mount_by_path=mount_by_path)
    try:
        with pytest.raises(PinnerfsError, match="another process mounted there") as caught:
            attach(late.descriptor, late.name, allow_other=True, mount_by_path=mount_by_path)
        assert caught.value.exit_status == 1
        assert len(_points(home, "fuse.pinnerfs")) == 1
    finally:
        for descriptor in (place.descriptor, late.descriptor, connection):
            os.close(descriptor)
        subprocess.run(["umount", "-l", home / "one/mnt"], check=True, timeout=DEADLINE)
