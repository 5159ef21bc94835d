"""Machines that cannot mount: one line that says what is missing and what to do, status 69, nothing on stdout."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.claim import claim
from tests.mount.support import AS_USER, OWN_ETC, as_user, pinnerfs, scenario, to_its_end

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take devices and programs away")

COMMANDS = {"mount": ["mount", "every.toml", "mnt"], "run": ["run", "every.toml", "--mountpoint", "mnt", "--", "true"]}

# How /dev/fuse is spoilt, in a mount namespace, on a file system `own` that takes device nodes; and what is said.
DEVICES = {
    "missing": (
        "mkdir own/dev && mknod own/dev/null c 1 3 && mount --bind own/dev /dev",
        "No such file or directory; wanted a device to read and write (as root: modprobe fuse;",
    ),
    "a file": (
        "touch own/fuse && mount --bind own/fuse /dev/fuse",
        "Not a device; wanted a device to read and write (as root: rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229;",
    ),
    "without a driver": (
        "mknod own/fuse c 10 250 && mount --bind own/fuse /dev/fuse",
        "No such device; wanted a device to read and write (as root: modprobe fuse;",
    ),
    # As in a container that was given the node, and not the right to use it.
    "forbidden": (
        "mknod own/fuse c 10 229 && mount --bind own/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse",
        "Permission denied; wanted a device to read and write (as root: chmod 666 /dev/fuse;",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a scenario, a mount point, and a place to mount something on."""
    scenario(tmp_path).rename(tmp_path / "every.toml")
    for name in ("mnt", "own"):
        (tmp_path / name).mkdir()
    return tmp_path


def _spoilt(folder: Path, spoil: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of pinnerfs in a mount namespace in which a shell has done something before."""
    script = f'mount -t tmpfs -o dev,mode=755 none own && {spoil} && exec "$@"'
    return to_its_end(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *words], cwd=folder)


@needs_root
@pytest.mark.parametrize(("device", "command"), [*product(DEVICES, ["mount"]), ("missing", "run")])
def test_no_device(folder: Path, device: str, command: str) -> None:
    """A /dev/fuse that is missing, no device, without its driver, or forbidden."""
    spoil, words = DEVICES[device]
    done = _spoilt(folder, spoil, sys.executable, "-m", "pinnerfs", *COMMANDS[command])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == f"Error: cannot open /dev/fuse: {words} for a container: --device /dev/fuse)\n"


@needs_root
def test_no_power_to_mount(folder: Path) -> None:
    """Root without CAP_SYS_ADMIN, as in a container, hears what to add to it."""
    done = to_its_end(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "pinnerfs", *COMMANDS["mount"]], cwd=folder
    )
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        f"Error: cannot mount on {folder}/mnt: libfuse failed: fusermount: mount failed: Operation not permitted "
        "(for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)\n"
    )


@needs_root
@pytest.mark.parametrize(("found", "command"), [("nothing", "mount"), ("libfuse 3 alone", "run")])
def test_no_libfuse_2(folder: Path, found: str, command: str) -> None:
    """Where ldconfig knows of no libfuse, or of libfuse 3 alone, one hears which package it takes."""
    line = r"printf '\tlibfuse3.so.3 (libc6,x86-64) => /lib/libfuse3.so.3\n'" if "3" in found else ":"
    spoil = f'printf "%s\\n" "#!/bin/sh" "{line}" > own/ldconfig && chmod 755 own/ldconfig && '
    spoil += 'mount --bind own/ldconfig "$(readlink -f /sbin/ldconfig)"'
    # A PATH without a compiler, which would find the library otherwise.
    quiet = ["env", "PATH=/nowhere", sys.executable, "-m", "pinnerfs"]
    done = _spoilt(folder, spoil, *quiet, *COMMANDS[command])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot load libfuse 2: Unable to find libfuse (Debian and Ubuntu: install libfuse2t64, or libfuse2 on "
        "older releases; libfuse 3 does not replace it)\n"
    )


@pytest.mark.skipif(ctypes.util.find_library("fuse3") is None, reason="there is no libfuse 3 on this machine")
def test_libfuse_3_in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of major version 3 under the name of 2 is refused, by its version."""
    library = ctypes.util.find_library("fuse3")
    assert library is not None
    number = ctypes.CDLL(library).fuse_version()
    monkeypatch.setenv("FUSE_LIBRARY_PATH", library)
    done = pinnerfs(*COMMANDS["mount"], cwd=folder)
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    version = f"3.{number % 100 if number >= 100 else number % 10}"
    assert done.stderr == (
        f"Error: found libfuse {version}, wanted version 2 (Debian and Ubuntu: install libfuse2t64, "
        "or libfuse2 on older releases)\n"
    )


def test_another_library_in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is no libfuse at all is refused like none."""
    library = ctypes.util.find_library("c")
    assert library is not None
    monkeypatch.setenv("FUSE_LIBRARY_PATH", library)
    done = pinnerfs(*COMMANDS["mount"], cwd=folder)
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr.startswith("Error: cannot load libfuse 2: ") and done.stderr.count("\n") == 1
    assert "undefined symbol: fuse_" in done.stderr and "install libfuse2t64" in done.stderr


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A folder that every user can write to."""
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@needs_root
def test_a_user_without_fusermount(users_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs fusermount to mount, and has none in PATH, hears which package it takes."""
    monkeypatch.setattr("pinnerfs.mounts.claim._check_device", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")

    def work() -> tuple[str, int]:
        try:
            claim(str(users_folder))
        except PinnerfsError as error:
            return str(error), error.exit_status
        return "accepted", 0

    words = "cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)"
    assert as_user(work) == (words, NO_FUSE)


def test_umount_without_fusermount(folder: Path) -> None:
    """`umount` without it says the same, and the mount stays."""
    assert pinnerfs(*COMMANDS["mount"], cwd=folder).returncode == 0
    try:
        script = 'PATH=/nowhere; "$0" -m pinnerfs umount mnt'
        done = to_its_end(["/bin/sh", "-c", script, sys.executable], cwd=folder)
        assert (done.returncode, done.stdout) == (NO_FUSE, "")
        assert done.stderr == "Error: cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)\n"
        assert (folder / "mnt/page_pinner/threshold").read_text() == "300000\n"
    finally:
        assert pinnerfs("umount", "mnt", cwd=folder).returncode == 0


@needs_root
def test_a_fusermount_that_is_not_setuid(users_folder: Path) -> None:
    """An ordinary user whose fusermount may not mount hears so."""
    scenario(users_folder).rename(users_folder / "every.toml")
    (users_folder / "mnt").mkdir()
    (users_folder / "own").mkdir()
    os.chown(users_folder / "mnt", 1000, 1000)
    spoil = (
        "mknod -m 666 own/fuse c 10 229 && mount --bind own/fuse /dev/fuse && "
        'program=$(readlink -f "$(command -v fusermount)") && cp "$program" own/ && chmod 755 own/fusermount* && '
        f'mount --bind own/fusermount* "$program" && mkdir etc && {OWN_ETC.strip()}'
    )
    done = _spoilt(users_folder, spoil, *AS_USER, "1000", *COMMANDS["mount"])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        f"Error: cannot mount on {users_folder}/mnt: libfuse failed: fusermount: mount failed: Operation not "
        "permitted (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)\n"
    )


@needs_root
def test_an_empty_dev(folder: Path) -> None:
    """Where not even /dev/null is there, that is what one hears."""
    done = _spoilt(folder, "mkdir own/dev && mount --bind own/dev /dev", sys.executable, "-m", "pinnerfs", "list")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: /dev/null: No such file or directory\n")
