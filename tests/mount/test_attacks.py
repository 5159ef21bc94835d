"""Ordinary users at mount(8), setuid programs under `run`, and `run` in a user namespace: no privilege is gained."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs.errors import NO_FUSE
from tests.mount.support import AS_USER, PRIVATE_ETC, PRIVATE_SBIN, newest_first, scenario, shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")

PINNERFS = [sys.executable, "-m", "pinnerfs"]

# Runs pinnerfs as uid 0 of a user namespace, whose only uid is outside the first argument.
IN_USER_NAMESPACE = (
    *AS_USER[:2],
    AS_USER[2].replace(
        "pinnerfs.cli.main()",
        """
import signal
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
new_user_namespace = 0x10000000
if ctypes.CDLL(None).unshare(new_user_namespace):
    sys.exit("no user namespace")
for file, text in ("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {user} 1"):
    with open(f"/proc/self/{file}", "w") as stream:
        stream.write(text)
pinnerfs.cli.main()
""",
    ),
)

# Runs as root in a mount namespace. `tools` allows setuid programs, /dev/fuse is open to all users, and user 1000 has a
# line in fstab. The helper of mount(8) only writes down how it was called, because it cannot load Python as user 1000.
INSIDE = rf"""
set -e
cd "$1"
mount -t tmpfs -o suid,dev,exec,mode=755 none tools
mknod tools/fuse c 10 229
chmod 666 tools/fuse
mount --bind tools/fuse /dev/fuse
{PRIVATE_ETC}
{PRIVATE_SBIN}
printf '%s\n' '#!/bin/sh' 'id -u; id -g; printf "%s\n" "$@"' > /sbin/mount.fuse.pinnerfs
chmod 755 /sbin/mount.fuse.pinnerfs
options=noauto,user,clock=manual,start=2s,mode=777,suid,dev
echo "$1/scenario.toml $1/mine fuse.pinnerfs $options 0 0" > /etc/fstab
set +e
trap 'umount -l mine 2>/dev/null' EXIT
pinnerfs() {{ {shlex.join(PINNERFS)} "$@"; }}
pinnerfs_as() {{ {shlex.join(AS_USER)} "$@"; }}
as() {{ setpriv --reuid "$1" --regid "$1" --clear-groups sh -c "$2"; }}
. ./script
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Create a directory that every user can enter, with a scenario and the mount points `mine` and `debug`."""
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        scenario(directory).rename(directory / "scenario.toml")
        for entry in ("tools", "etc", "layer", "mine", "debug"):
            (directory / entry).mkdir()
        os.chown(directory / "mine", 1000, 1000)
        yield directory


def _shell(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as root, with the commands `pinnerfs`, `pinnerfs_as USER ...` and `as USER SCRIPT`."""
    (directory / "script").write_text(script)
    done = shell(["unshare", "-m", "--propagation", "private", "sh", "-c", INSIDE, "sh", str(directory)], directory)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_users_line_of_fstab(directory: Path) -> None:
    """mount(8) runs the helper as the user. The mount is the user's, and only the user can unmount it."""
    done = _shell(
        directory,
        """
        as 1000 'mount mine' > called; cat called
        set -- $(tail -n +3 called | tr '\\n' ' ')
        pinnerfs_as 1000 "$@"; echo mounted $?
        grep -o "$PWD/mine fuse.pinnerfs .*" /proc/mounts
        as 1000 'stat -c "%a %u" mine; cat mine/page_pinner/longterm_pinner'
        cat mine/page_pinner/threshold
        as 1001 'umount mine'; pinnerfs_as 1001 scenario.toml mine -o remount,mode=700
        grep -c "$PWD/mine fuse" /proc/mounts
        as 1000 'umount mine'; echo unmounted $?; grep -c "$PWD/mine fuse" /proc/mounts
        """,
    )
    lines = done.stdout.split("\n")
    assert lines[:4] == ["1000", "1000", f"{directory}/scenario.toml", f"{directory}/mine"], done.stderr
    start = lines.index("mounted 0")
    options = "rw,nosuid,nodev,relatime,user_id=1000,group_id=1000,default_permissions 0 0"
    assert lines[start + 1 : start + 3] == [f"{directory}/mine fuse.pinnerfs {options}", "777 1000"]
    end = "\n".join(lines[start + 3 :])
    assert end == b"".join(newest_first(2)).decode() + "1\nunmounted 0\n0\n"
    assert "cat: mine/page_pinner/threshold: Permission denied" in done.stderr
    assert "Error: cannot set the options of mine: Permission denied" in done.stderr


@pytest.mark.parametrize("options", ["uid=0", "gid=0", "ro"])
def test_options_that_a_user_may_not_set(directory: Path, options: str) -> None:
    """A user's mount gets no other owner, and no change by a remount of root's kind."""
    done = _shell(
        directory,
        f"""
        pinnerfs_as 1000 scenario.toml mine -o rw,{options},clock=manual; echo $?
        as 1000 'stat -c "%u %g" mine'
        """,
    )
    assert done.stdout == "1\n1000 1000\n"
    assert done.stderr == "Error: cannot set the options of mine: Operation not permitted\n"


def test_a_setuid_program_of_a_users_command(directory: Path) -> None:
    """A setuid program that gives root's rights outside gives none below a user's `run`."""
    done = _shell(
        directory,
        """
        cp "$(readlink -f "$(command -v cat)")" tools/cat && chmod 4755 tools/cat
        echo secret > tools/secret && chmod 600 tools/secret
        as 1000 'tools/cat tools/secret'
        pinnerfs_as 1000 run scenario.toml --mountpoint debug -- sh -c \
            'tools/cat debug/page_pinner/threshold; tools/cat tools/secret; id -u; exit 3'
        echo $?
        """,
    )
    assert done.stdout == "secret\n300000\n0\n3\n", done.stderr
    # A cat may name itself with its directory, or without.
    assert done.stderr.removeprefix("tools/") == "cat: tools/secret: Permission denied\n"


def test_a_setuid_program_of_roots_command(directory: Path) -> None:
    """A setuid program under root's `run` is killed with `run`, although it clears its death signal."""
    done = _shell(
        directory,
        f"""
        cp "$(readlink -f "$(command -v sleep)")" tools/sleep && chown 1000 tools/sleep && chmod 4755 tools/sleep
        mkfifo pipe
        {shlex.join(PINNERFS)} run scenario.toml --mountpoint debug -- sh -c 'echo $$ > pipe; exec tools/sleep 300' &
        read -r command < pipe
        until grep -q "^Uid:.0.1000" /proc/$command/status; do kill -0 $command || exit; done
        kill -KILL $!
        while grep -q '^State:.[^ZX]' /proc/$command/status 2>/dev/null; do :; done
        echo ended
        """,
    )
    assert done.stdout == "ended\n", done.stderr


@pytest.mark.parametrize("user", [0, 1000])
def test_run_in_a_user_namespace(directory: Path, user: int) -> None:
    """`run` works in a user namespace. Outside there is no mount, and the command has no more rights than its user."""
    words = [*IN_USER_NAMESPACE, str(user), "run", "scenario.toml", "--mountpoint", "debug", "--start", "2s"]
    script = 'cat debug/page_pinner/threshold; grep -c "$PWD/debug fuse" /proc/mounts; cat tools/secret; exit 4'
    done = _shell(
        directory,
        f"""
        echo secret > tools/secret && chmod 600 tools/secret && chown 1001 tools/secret
        {shlex.join([*words, "--", "sh", "-c", script])}
        echo $?
        grep -c "$PWD/debug fuse" /proc/mounts
        """,
    )
    assert done.stdout == "300000\n1\n4\n0\n", done.stderr
    assert done.stderr == "cat: tools/secret: Permission denied\n"


@pytest.mark.parametrize("user", [0, 1000])
def test_mount_in_a_user_namespace(directory: Path, user: int) -> None:
    """Without a mount namespace of its own, uid 0 of a user namespace cannot mount: the error says what is missing."""
    words = [*IN_USER_NAMESPACE, str(user), "mount", "scenario.toml", "mine"]
    done = _shell(directory, f'{shlex.join(words)}; echo $?; grep -c "$PWD/mine fuse" /proc/mounts')
    assert done.stdout == f"{NO_FUSE}\n0\n"
    assert done.stderr.startswith("Error: cannot mount on mine: Operation not permitted (for a container: --cap-add ")


def test_run_below_run(directory: Path) -> None:
    """`run` works below `run`, and each command sees its own mount."""
    read = "cat debug/page_pinner/threshold"
    inner = shlex.join([*PINNERFS, "run", "scenario.toml", "--mountpoint", "debug", "--threshold", "7", "--"])
    script = shlex.quote(f"{read}; {inner} {read}; {read}")
    done = _shell(directory, f"pinnerfs run scenario.toml --mountpoint debug -- sh -c {script}; echo $?")
    assert (done.stdout, done.stderr) == ("300000\n7\n300000\n0\n", "")
