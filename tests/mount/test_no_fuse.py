"""Errors on machines that cannot mount: exit status 69, and one line with the cause and the remedy."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.claim import claim
from tests.mount.support import AS_USER, LIKE_A_USER, PRIVATE_ETC, as_user, pinnerfs, run_command, scenario

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide devices and programs")

COMMANDS = {"mount": ["mount", "every.toml", "mnt"], "run": ["run", "every.toml", "--mountpoint", "mnt", "--", "true"]}

# Commands that break /dev/fuse in a mount namespace, and the error. `own` is a tmpfs that allows device nodes.
DEVICES = {
    "missing": (
        "mkdir own/dev && mknod own/dev/null c 1 3 && mount --bind own/dev /dev",
        "No such file or directory; wanted a device to read and write (as root: modprobe fuse;",
    ),
    "a file": (
        "touch own/fuse && mount --bind own/fuse /dev/fuse",
        "Not the FUSE device; wanted a device to read and write "
        "(as root: rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229;",
    ),
    "another device": (
        "mknod own/fuse c 1 3 && mount --bind own/fuse /dev/fuse",
        "Not the FUSE device; wanted a device to read and write "
        "(as root: rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229;",
    ),
    "without a driver": (
        "mknod own/fuse c 10 250 && mount --bind own/fuse /dev/fuse",
        "No such device; wanted a device to read and write (as root: modprobe fuse;",
    ),
    # As in a container that has the device node but no permission to use it.
    "forbidden": (
        "mknod own/fuse c 10 229 && mount --bind own/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse",
        "Permission denied; wanted a device to read and write (as root: chmod 666 /dev/fuse;",
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Create a directory with a scenario, the mount point `mnt`, and `own` for a tmpfs."""
    scenario(tmp_path).rename(tmp_path / "every.toml")
    for name in ("mnt", "own"):
        (tmp_path / name).mkdir()
    return tmp_path


def _run_after(directory: Path, setup: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace, after a shell command that breaks something."""
    script = f'mount -t tmpfs -o dev,mode=755 none own && {setup} && exec "$@"'
    return run_command(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *command], cwd=directory)


@needs_root
@pytest.mark.parametrize(("device", "command"), [*product(DEVICES, ["mount"]), ("missing", "run")])
def test_no_device(directory: Path, device: str, command: str) -> None:
    """The error for /dev/fuse gives a remedy if it is missing, not a device, without a driver, or not permitted."""
    setup, message = DEVICES[device]
    done = _run_after(directory, setup, sys.executable, "-m", "pinnerfs", *COMMANDS[command])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == f"Error: cannot open /dev/fuse: {message} for a container: --device /dev/fuse)\n"


@needs_root
def test_no_cap_sys_admin(directory: Path) -> None:
    """For root without CAP_SYS_ADMIN, as in a container, the error names the container options."""
    done = run_command(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "pinnerfs", *COMMANDS["mount"]], cwd=directory
    )
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot mount on mnt: Operation not permitted "
        "(for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)\n"
    )


@needs_root
@pytest.mark.parametrize("found", ["nothing", "libfuse 3 alone"])
def test_no_libfuse_2(directory: Path, found: str) -> None:
    """For a user without libfuse 2, or with only libfuse 3, the error names the package."""
    line = r"printf '\tlibfuse3.so.3 (libc6,x86-64) => /lib/libfuse3.so.3\n'" if "3" in found else ":"
    setup = f'printf "%s\\n" "#!/bin/sh" "{line}" > own/ldconfig && chmod 755 own/ldconfig && '
    setup += 'mount --bind own/ldconfig "$(readlink -f /sbin/ldconfig)"'
    # Without a compiler in PATH: ctypes.util.find_library would find the library with it.
    program = shutil.which("fusermount")
    assert program is not None
    (directory / "bin").mkdir()
    (directory / "bin/fusermount").symlink_to(program)
    done = _run_after(directory, setup, "env", f"PATH={directory / 'bin'}", *LIKE_A_USER, *COMMANDS["mount"])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot load libfuse 2: Unable to find libfuse (Debian and Ubuntu: install libfuse2t64, or libfuse2 on "
        "older releases; libfuse 3 does not replace it)\n"
    )


@pytest.mark.skipif(ctypes.util.find_library("fuse3") is None, reason="this machine has no libfuse 3")
def test_libfuse_3_in_its_place(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user, a libfuse 3 in place of libfuse 2 is refused with its version."""
    library = ctypes.util.find_library("fuse3")
    assert library is not None
    number = ctypes.CDLL(library).fuse_version()
    monkeypatch.setenv("FUSE_LIBRARY_PATH", library)
    done = run_command([*LIKE_A_USER, *COMMANDS["mount"]], cwd=directory)
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    version = f"3.{number % 100 if number >= 100 else number % 10}"
    assert done.stderr == (
        f"Error: found libfuse {version}, wanted version 2 (Debian and Ubuntu: install libfuse2t64, "
        "or libfuse2 on older releases)\n"
    )


def test_another_library_in_its_place(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user, a library that is not libfuse is refused."""
    library = ctypes.util.find_library("c")
    assert library is not None
    monkeypatch.setenv("FUSE_LIBRARY_PATH", library)
    done = run_command([*LIKE_A_USER, *COMMANDS["mount"]], cwd=directory)
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr.startswith("Error: cannot load libfuse 2: ") and done.stderr.count("\n") == 1
    assert "undefined symbol: fuse_" in done.stderr and "install libfuse2t64" in done.stderr


@pytest.fixture
def users_directory() -> Iterator[Path]:
    """Create a directory that every user can write to."""
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@needs_root
def test_a_user_without_fusermount(users_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user without fusermount in PATH, the error names the package."""
    monkeypatch.setattr("pinnerfs.mounts.claim._check_device", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")

    def work() -> tuple[str, int]:
        try:
            claim(str(users_directory))
        except PinnerfsError as error:
            return str(error), error.exit_status
        return "accepted", 0

    message = "cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)"
    assert as_user(work) == (message, NO_FUSE)


@needs_root
def test_root_without_libfuse(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root needs neither libfuse nor fusermount to mount, to run a command, and to unmount."""
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse.so")  # where fusepy looks for it
    command = ["run", "every.toml", "--mountpoint", "mnt", "--", "cat", "mnt/page_pinner/threshold"]
    assert pinnerfs(*command, cwd=directory).stdout == "300000\n"
    monkeypatch.setenv("PATH", "/nowhere")
    assert pinnerfs(*COMMANDS["mount"], cwd=directory).returncode == 0
    done = pinnerfs("umount", "mnt", cwd=directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((directory / "mnt").iterdir()) == []


@needs_root
def test_a_fusermount_that_is_not_setuid(users_directory: Path) -> None:
    """For an ordinary user, the error says that fusermount must be setuid root."""
    scenario(users_directory).rename(users_directory / "every.toml")
    (users_directory / "mnt").mkdir()
    (users_directory / "own").mkdir()
    os.chown(users_directory / "mnt", 1000, 1000)
    setup = (
        "mknod -m 666 own/fuse c 10 229 && mount --bind own/fuse /dev/fuse && "
        'program=$(readlink -f "$(command -v fusermount)") && cp "$program" own/ && chmod 755 own/fusermount* && '
        f'mount --bind own/fusermount* "$program" && mkdir etc && {PRIVATE_ETC.strip()}'
    )
    done = _run_after(users_directory, setup, *AS_USER, "1000", *COMMANDS["mount"])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot mount on mnt: fusermount: mount failed: Operation not "
        "permitted (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)\n"
    )


@needs_root
def test_an_empty_dev(directory: Path) -> None:
    """The error for a missing /dev/null names it."""
    done = _run_after(directory, "mkdir own/dev && mount --bind own/dev /dev", sys.executable, "-m", "pinnerfs", "list")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: /dev/null: No such file or directory\n")
