"""Several users on one machine: access to each other's mounts and directories."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.support import AS_USER, DEADLINE, PRIVATE_ETC, environment, newest_first, scenario

# Runs as root in a mount namespace, with a /dev/fuse for every user and with the test's fuse.conf.
OUTSIDE = f"""
set -e
cd "$1"
mount -t tmpfs none dev
mknod dev/fuse c 10 229
chmod 666 dev/fuse
mount --bind dev/fuse /dev/fuse
{PRIVATE_ETC}
cp fuse.conf /etc/fuse.conf
set +e
trap 'umount -l mine roots theirs 2>/dev/null' EXIT
pinnerfs_as() {{
    {shlex.join(AS_USER)} "$@"
}}
as() {{
    setpriv --reuid "$1" --regid "$1" --clear-groups sh -c "$2"
}}
S=scenario.toml
. ./script
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Create a directory that every user can enter, with mount points of users 1000 and 1001 and of root."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users")
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        scenario(directory).rename(directory / "scenario.toml")
        for point, owner in ("dev", 0), ("etc", 0), ("mine", 1000), ("theirs", 1001), ("roots", 0):
            (directory / point).mkdir()
            os.chown(directory / point, owner, owner)
        (directory / "fuse.conf").write_text("")
        yield directory


def _shell(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as root, with the commands `pinnerfs_as USER ...` and `as USER SCRIPT`. $S is the scenario."""
    (directory / "script").write_text(script)
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "bash", "-c", OUTSIDE, "bash", directory],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        env=environment(),
        check=False,
    )


def _check(done: subprocess.CompletedProcess[str], out: str, *errors: str) -> None:
    """Check that stdout is `out` and that the lines of stderr begin with `errors`."""
    lines = done.stderr.splitlines()
    assert done.stdout == out, done.stderr
    assert [line[: len(error)] for line, error in zip(lines, errors, strict=False)] == [*errors]
    assert len(lines) == len(errors)


def test_a_users_mount(directory: Path) -> None:
    """Only the user who mounted has access. Other users and root have none, and other users cannot unmount."""
    done = _shell(
        directory,
        """
        pinnerfs_as 1000 mount $S mine --clock manual --start 2s
        grep -o "$PWD/mine fuse.pinnerfs [^ ]*" /proc/mounts
        as 1000 'cat mine/page_pinner/*'
        stat mine/
        as 1001 'cat mine/page_pinner/threshold'
        pinnerfs_as 1001 umount mine
        pinnerfs_as 1001 ctl mine advance 1s
        as 1000 'cat mine/.pinnerfs/clock'
        pinnerfs_as 1000 umount mine
        ls -A mine
        """,
    )
    options = "rw,nosuid,nodev,relatime,user_id=1000,group_id=1000,default_permissions"
    records = b"".join(newest_first(2)).decode()
    _check(
        done,
        f"{directory}/mine fuse.pinnerfs {options}\n{records}300000\n2000000\n",
        "stat: cannot statx 'mine/': Permission denied",
        "cat: mine/page_pinner/threshold: Permission denied",
        "Error: cannot unmount mine: ",
        "Error: cannot control mine: Permission denied",
    )


def test_allow_other(directory: Path) -> None:
    """With --allow-other and user_allow_other, the file modes decide. .pinnerfs/ stays closed."""
    (directory / "fuse.conf").write_text("user_allow_other\n")
    done = _shell(
        directory,
        """
        pinnerfs_as 1000 mount $S mine --clock manual --allow-other
        as 1001 'cat mine/page_pinner/threshold'
        as 1000 'chmod 755 mine'
        as 1001 'cat mine/page_pinner/threshold; echo 5 > mine/page_pinner/threshold'
        as 1001 'ls mine/.pinnerfs; cat mine/.pinnerfs/clock; echo 1s > mine/.pinnerfs/advance'
        as 1001 'chmod 777 mine/.pinnerfs'
        as 1000 'chmod 666 mine/page_pinner/threshold'
        as 1001 'echo 5 > mine/page_pinner/threshold'
        cat mine/page_pinner/threshold mine/.pinnerfs/clock
        pinnerfs_as 1000 umount mine
        """,
    )
    _check(
        done,
        "300000\n5\n0\n",
        "cat: mine/page_pinner/threshold: Permission denied",  # the root directory is 0700
        "sh: 1: cannot create mine/page_pinner/threshold: Permission denied",
        "ls: cannot open directory 'mine/.pinnerfs': Permission denied",
        "cat: mine/.pinnerfs/clock: Permission denied",
        "sh: 1: cannot create mine/.pinnerfs/advance: Permission denied",
        "chmod: changing permissions of 'mine/.pinnerfs': Operation not permitted",
    )


def test_without_user_allow_other(directory: Path) -> None:
    """Without user_allow_other, --allow-other fails and the error names the setting."""
    done = _shell(directory, 'pinnerfs_as 1000 mount $S mine --allow-other; echo $?; grep -c "$PWD/mine " /proc/mounts')
    _check(
        done,
        "1\n0\n",
        "Error: cannot mount on mine: fusermount: option allow_other only allowed if "
        "'user_allow_other' is set in /etc/fuse.conf",
    )


def test_another_users_directory_and_mount(directory: Path) -> None:
    """A user cannot mount on another user's directory, and cannot unmount or replace root's mount, even a dead one."""
    done = _shell(
        directory,
        f"""
        pinnerfs_as 1000 mount $S theirs; echo $?
        pinnerfs_as 1000 mount $S roots; echo $?
        {sys.executable} -m pinnerfs mount $S roots --clock manual && chmod 755 roots
        pinnerfs_as 1000 umount roots; echo $?
        pinnerfs_as 1000 ctl roots advance 1s; echo $?
        pinnerfs_as 1000 mount $S roots; echo $?
        cat roots/.pinnerfs/clock
        kill -KILL $(cat roots/.pinnerfs/pid)
        while cat roots/.pinnerfs/pid; do :; done >/dev/null 2>&1
        pinnerfs_as 1000 umount roots; echo $?
        pinnerfs_as 1000 mount $S roots; echo $?
        {sys.executable} -m pinnerfs umount roots
        """,
    )
    refused = "Error: cannot mount on {1}: fusermount: user has no write access to mountpoint {0}/{1}"
    _check(
        done,
        "1\n1\n1\n1\n1\n0\n1\n1\n",
        refused.format(directory, "theirs"),
        refused.format(directory, "roots"),
        "Error: cannot unmount roots: ",
        "Error: cannot advance the clock: Permission denied",
        "Error: cannot mount on roots: it is already a mount point (fuse.pinnerfs); wanted an empty directory",
        "Error: cannot unmount roots: ",
        "Error: cannot mount on roots: the dead mount there cannot be unmounted (as root: umount -l ",
    )


def test_a_link_as_mount_point(directory: Path) -> None:
    """mount and umount accept a symbolic link to a directory."""
    (directory / "link").symlink_to("mine")
    done = _shell(
        directory,
        """
        pinnerfs_as 1000 mount $S link --clock manual
        grep -o "$PWD/[a-z]* fuse.pinnerfs" /proc/mounts
        as 1000 'cat mine/page_pinner/threshold link/page_pinner/threshold'
        pinnerfs_as 1000 umount link
        ls -A mine
        readlink link
        """,
    )
    _check(done, f"{directory}/mine fuse.pinnerfs\n300000\n300000\nmine\n")
