"""mount(8), umount(8) and fstab, in a mount namespace with the mount helper in /sbin."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, PRIVATE_SBIN, ROOT, environment, newest_first, scenario
from tests.replay.captures import capture, section
from tests.report.texts import pin

# The helper, as the wheel installs it.
HELPER = f"""#!/bin/sh
export PYTHONPATH={shlex.quote(str(ROOT))}
exec {shlex.quote(sys.executable)} -c 'from pinnerfs.cli.mount_helper import main; main()' "$@"
"""

INSIDE = f"""
set -e
cd "$1"
mkdir -p layer
{PRIVATE_SBIN}
cp helper /sbin/mount.fuse.pinnerfs
mount --bind fstab /etc/fstab
set +e
# Also unmount after a failed test.
trap 'umount -l mnt 2>/dev/null' EXIT
. ./script
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Create a directory with a scenario, a mount point, the helper and an fstab."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount with mount(8)")
    (tmp_path / "mnt").mkdir()
    (tmp_path / "helper").write_text(HELPER)
    (tmp_path / "helper").chmod(0o755)
    options = "noauto,nofail,user,_netdev,x-test=1,clock=manual,start=3s"
    (tmp_path / "fstab").write_text(f"{scenario(tmp_path)} {tmp_path}/mnt fuse.pinnerfs {options} 0 0\n")
    return tmp_path


def _shell(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the directory, with the helper and the fstab in place. $S is the scenario."""
    (directory / "script").write_text(f"S={scenario(directory)}\n{script}\n")
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", INSIDE, "sh", directory],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )


def test_mount_and_umount(directory: Path) -> None:
    """`mount -t fuse.pinnerfs` accepts the options of `pinnerfs mount`, and umount unmounts."""
    done = _shell(
        directory,
        "mount -t fuse.pinnerfs $S mnt -o clock=manual,start=2s,threshold=0x10,allow_other && "
        "stat -c %s mnt/page_pinner/threshold && cat mnt/page_pinner/threshold mnt/page_pinner/longterm_pinner && "
        'umount mnt && ls -A mnt && grep -c "$PWD/mnt " /proc/mounts',
    )
    assert done.stderr == ""
    assert done.stdout == "0\n16\n" + b"".join(newest_first(2)).decode() + "0\n"


def test_the_memory_management(directory: Path) -> None:
    """mm, cma_retries and quiet_migration work as mount options: the allocation of 1.5 s fails without a retry."""
    done = _shell(
        directory,
        "for options in mm=6.1.192 cma_retries=0,quiet_migration quiet_migration; do "
        "mount -t fuse.pinnerfs cma-retries mnt -o clock=manual,start=1600ms,kernel=android14-6.1,$options && "
        "grep allocs_failed mnt/.pinnerfs/stats && umount mnt; done",
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "allocs_failed 1\nallocs_failed 1\nallocs_failed 0\n",
        "",
    )


def test_a_log_and_a_trace(directory: Path) -> None:
    """log, verbose and trace work as mount options. Colons separate trace layers, as mount(8) splits at commas."""
    done = _shell(
        directory,
        "mount -t fuse.pinnerfs $S mnt -o clock=manual,log=$PWD/log,verbose,trace=fuse:engine && "
        "echo 5 > mnt/page_pinner/threshold && umount mnt && grep -o 'INFO threshold set to 5' log && "
        "grep -c 'fuse: file 1.write' log",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "INFO threshold set to 5\n1\n", "")


def test_the_gallery_and_a_real_clock(directory: Path) -> None:
    """The source can be a name from the gallery, and the clock a fast real one."""
    done = _shell(
        directory,
        "mount -t fuse.pinnerfs camera-stall mnt -o speed=10,clock=real && cat mnt/page_pinner/threshold && "
        "until [ $(cat mnt/.pinnerfs/clock) -gt 1000000 ]; do :; done; umount mnt",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")


def test_a_capture(directory: Path) -> None:
    """`over` lets the records of a capture come one by one. mount(8) takes `loop` for a loop device."""
    first, second = pin(400_000, 1), pin(500_000, 1)
    (directory / "capture").write_text(capture(section("page_pinner/longterm_pinner", second + first)))
    cat = "cat mnt/page_pinner/longterm_pinner"
    done = _shell(
        directory,
        f"mount -t fuse.pinnerfs $PWD/capture mnt -o clock=manual,over=60s,start=59s && {cat} && echo --- && "
        f"echo 1s > mnt/.pinnerfs/advance && {cat} && umount mnt",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{first}---\n{second}{first}", "")
    # Not every machine has loop devices. With one, the helper gets its name in place of the capture's.
    done = _shell(
        directory,
        "mount -t fuse.pinnerfs $PWD/capture mnt -o over=60s,loop; s=$?; "
        '! grep "$PWD/mnt " /proc/mounts || umount mnt; exit $s',
    )
    assert done.returncode != 0 and done.stdout == "" and done.stderr != ""


def test_a_line_of_fstab(directory: Path) -> None:
    """`mount MOUNTPOINT` uses the line of fstab. The helper ignores options that are for mount(8)."""
    done = _shell(
        directory, "mount mnt && cat mnt/page_pinner/longterm_pinner && umount mnt && mount -f mnt && umount mnt"
    )
    assert done.stdout == b"".join(newest_first(3)).decode()
    # mount -f does not mount.
    assert done.returncode == 32 and "not mounted" in done.stderr


@pytest.mark.parametrize("mount", ["mount mnt", "mount -t fuse.pinnerfs $S mnt"])
def test_remount(directory: Path, mount: str) -> None:
    """A remount changes mode, uid and gid of the root and read-only, as on a debugfs."""
    done = _shell(
        directory,
        f"{mount} && stat -c '%a %u %g' mnt && mount -o remount,mode=755 mnt && stat -c '%a %u %g' mnt && "
        "mount -o remount,mode=0711,uid=5,gid=6 mnt && stat -c '%a %u %g' mnt && mount -o remount,ro mnt && "
        "! echo 7 > mnt/page_pinner/threshold && mount -o remount,rw mnt && "
        "echo 7 > mnt/page_pinner/threshold && cat mnt/page_pinner/threshold && umount mnt",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "700 0 0\n755 0 0\n711 5 6\n7\n"
    assert "Read-only file system" in done.stderr


def test_options_of_a_debugfs(directory: Path) -> None:
    """A mount accepts mode, uid, gid and ro."""
    done = _shell(
        directory,
        "mount -t fuse.pinnerfs $S mnt -o ro,mode=750,uid=5,gid=6,nosuid && stat -c '%a %u %g' mnt && "
        'grep -c "$PWD/mnt fuse.pinnerfs ro," /proc/mounts && umount mnt',
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "750 5 6\n1\n", "")


@pytest.mark.parametrize("options", ["defaults", "suid,dev", "nosuid", "ro,suid,dev,mode=755"])
def test_always_nosuid_and_nodev(directory: Path, options: str) -> None:
    """The mount is always nosuid and nodev, also after a remount."""
    shown = 'grep -c "$PWD/mnt fuse.pinnerfs r[ow],nosuid,nodev," /proc/mounts'
    done = _shell(
        directory,
        f"mount -t fuse.pinnerfs $S mnt -o {options} && {shown} && mount -o remount,ro,suid,dev mnt && {shown} && "
        f"mount -o remount,rw mnt && {shown} && umount mnt",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n1\n", "")


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ("sped=10", 2, "unknown option 'sped'; wanted one of clock, speed, max_lag, start, "),
        ("speed=0", 2, "Invalid value for '-o speed': 0.0 is not in the range"),
        ("cma_retries=9999", 2, "Invalid value for '-o cma_retries': 9999 is not in the range 0<=x<=1000"),
        ("loop", 2, "unknown option 'loop'; mount(8) keeps it for loop devices: `pinnerfs mount --loop` repeats"),
        ("mode=9", 2, "mode=9 for {directory}/mnt must be an octal number, such as 755"),
        ("mode=-1", 2, "mode=-1 for {directory}/mnt must be an octal number, such as 755"),
        ("uid=me", 2, "uid=me for {directory}/mnt must be a number up to 4294967294"),
        ("uid=99999999999999", 2, "uid=99999999999999 for {directory}/mnt must be a number up to 4294967294"),
        ("gid=4294967295", 2, "gid=4294967295 for {directory}/mnt must be a number up to 4294967294"),
        ("gid=-5", 2, "gid=-5 for {directory}/mnt must be a number up to 4294967294"),
        ("clock=manual,speed=2", 2, "--speed 2 goes with --clock real"),
        ("clock=manual,max_lag=2s", 2, "--max-lag goes with --clock real"),
    ],
)
def test_refused_options(directory: Path, options: str, status: int, error: str) -> None:
    """The error names the wrong option, and nothing is mounted."""
    # A newer mount(8) refuses some of these itself, so call the helper directly.
    done = _shell(
        directory, f'mount.fuse.pinnerfs $S $PWD/mnt -o rw,{options}; s=$?; grep "$PWD/mnt " /proc/mounts; exit $s'
    )
    assert (done.returncode, done.stdout) == (status, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and error.format(directory=directory) in last


def test_a_refused_option_with_mount(directory: Path) -> None:
    """mount(8) passes on the helper's error and exit status."""
    done = _shell(directory, "mount -t fuse.pinnerfs $S mnt -o sped=10")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{directory}/mnt: unknown option 'sped'" in done.stderr


def test_sloppy(directory: Path) -> None:
    """With -s, an unknown option is ignored."""
    done = _shell(directory, "mount -s -t fuse.pinnerfs $S mnt -o sped=10 && umount mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
