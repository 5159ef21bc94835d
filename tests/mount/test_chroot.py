"""`pinnerfs run` in a chroot: the command sees the mount, and nothing outside of the chroot does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.claim import check_covered, open_covered
from pinnerfs.mounts.table import Proc
from tests.mount.support import DEADLINE, environment, newest_first, scenario

# Runs as root in a mount namespace. The directory `root` becomes the root directory: a mount point, or a plain
# directory with a mount for each directory of the machine.
CHROOTS = {
    "a mount point": 'mount --rbind / "$1/root"',
    "a plain directory": (
        "for entry in /*; do "
        'if [ -L "$entry" ]; then cp -P "$entry" "$1/root/"; '
        'elif [ -d "$entry" ]; then mkdir "$1/root$entry" && mount --rbind "$entry" "$1/root$entry"; fi; done'
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Create a directory with a scenario, a mount point that is not empty, and the directory of a chroot."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its root directory")
    scenario(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "something").write_text("")
    return tmp_path


def _run(
    directory: Path, setup: str, script: str, mountpoint: str = "debug", *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a script under `pinnerfs run` in the chroot. Afterwards print the pinnerfs mounts outside of it."""
    outside = (
        f'set -e; {setup}; set +e; chroot "$1/root" sh -c \'cd "$1" && shift && exec "$@"\' sh "$@"; status=$?; '
        'grep "$1/debug.* fuse.pinnerfs" /proc/self/mountinfo; exit $status'
    )
    command = [sys.executable, "-m", "pinnerfs", "run", str(scenario(directory)), "--mountpoint", mountpoint]
    command += ["--clock", "manual", "--start", "2s", *options, "--", "sh", "-c", script]
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", outside, "sh", directory, *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )


@pytest.mark.parametrize("chroot", CHROOTS)
def test_a_command_in_a_chroot(directory: Path, chroot: str) -> None:
    """The command sees the mount at the path in its own root directory, and keeps its working directory."""
    script = 'cat debug/page_pinner/longterm_pinner && grep -c "$PWD/debug fuse.pinnerfs" /proc/self/mounts; exit 5'
    done = _run(directory, CHROOTS[chroot], script)
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout == b"".join(newest_first(2)).decode() + "1\n"


@pytest.mark.parametrize("chroot", CHROOTS)
def test_the_files_of_a_phone(directory: Path, chroot: str) -> None:
    """With --android, the root directory of the chroot gets the links and directories, and nothing outside does."""
    script = "readlink /d; cat /d/page_pinner/threshold; ls -d /sys/kernel/pixel_stat/mm/cma; pwd; exit 5"
    done = _run(directory, CHROOTS[chroot], script, "debug", "--android")
    assert done.returncode == 5
    assert done.stdout == f"{directory}/debug\n300000\n/sys/kernel/pixel_stat/mm/cma\n{directory}\n"
    assert not (directory / "root" / "d").is_symlink()


def test_the_chroot_has_another_directory_of_the_name(directory: Path) -> None:
    """The mount covers the directory in the chroot, also if the path leads to another directory outside."""
    setup = f'{CHROOTS["a mount point"]}; mount -t tmpfs none "$1/root$1/debug"; touch "$1/root$1/debug/inside"'
    done = _run(directory, setup, "ls debug; grep -c $PWD/debug.fuse.pinnerfs /proc/self/mounts")
    assert (done.returncode, done.stdout, done.stderr) == (0, "cma\npage_pinner\n1\n", "")


def test_a_mount_point_that_only_the_chroot_has(directory: Path) -> None:
    """The mount point need not exist outside."""
    setup = f'{CHROOTS["a mount point"]}; mount -t tmpfs none "$1/root$1/debug"; mkdir "$1/root$1/debug/deep"'
    done = _run(directory, setup, "cat debug/deep/page_pinner/threshold", mountpoint="debug/deep")
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")


def test_a_chroot_without_proc(directory: Path) -> None:
    """Without /proc the command does not run, and the error is one line."""
    setup = f'{CHROOTS["a mount point"]}; mount -t tmpfs none "$1/root/proc"'
    done = _run(directory, setup, "echo ran")
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_umount_without_proc(directory: Path) -> None:
    """Without /proc, `umount` names it."""
    done = subprocess.run(
        [
            *("unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"'),
            *("sh", sys.executable, "-m", "pinnerfs", "umount", "debug"),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*/proc/self\S*: No such file or directory; wanted .*mounted.*\n", done.stderr)


def test_a_mount_that_the_command_does_not_see(directory: Path) -> None:
    """`check_covered` refuses a directory without a mount: then the command does not run."""
    place = open_covered(str(directory / "debug"))
    with Proc() as proc, pytest.raises(PinnerfsError, match="is not visible to the command: not running the command"):
        check_covered(proc, place)
    os.close(place.descriptor)
