"""mount(8), umount(8) and a line of fstab, for real: in a mount namespace where /sbin has the helper."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, OWN_SBIN, ROOT, environment, newest_first, scenario

# The helper as a wheel installs it: a program that imports one function and calls it.
HELPER = f"""#!/bin/sh
export PYTHONPATH={shlex.quote(str(ROOT))}
exec {shlex.quote(sys.executable)} -c 'from pinnerfs.cli.mount_helper import main; main()' "$@"
"""

INSIDE = f"""
set -e
cd "$1"
mkdir -p layer
{OWN_SBIN}
cp helper /sbin/mount.fuse.pinnerfs
mount --bind fstab /etc/fstab
set +e
# A test that fails leaves no daemon behind either.
trap 'umount -l mnt 2>/dev/null' EXIT
. ./script
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a scenario, a mount point, and the lines of an fstab."""
    if os.geteuid() != 0:
        pytest.skip("mount(8) is root's")
    (tmp_path / "mnt").mkdir()
    (tmp_path / "helper").write_text(HELPER)
    (tmp_path / "helper").chmod(0o755)
    options = "noauto,nofail,user,_netdev,x-test=1,clock=manual,start=3s"
    (tmp_path / "fstab").write_text(f"{scenario(tmp_path)} {tmp_path}/mnt fuse.pinnerfs {options} 0 0\n")
    return tmp_path


def _shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the folder, where mount(8) finds the helper and the fstab; S is the scenario."""
    (folder / "script").write_text(f"S={scenario(folder)}\n{script}\n")
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", INSIDE, "sh", folder],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )


def test_mount_and_umount(folder: Path) -> None:
    """`mount -t fuse.pinnerfs` mounts what `pinnerfs mount` would, with its options, and umount takes it down."""
    done = _shell(
        folder,
        "mount -t fuse.pinnerfs $S mnt -o clock=manual,start=2s,threshold=0x10,allow_other && "
        "stat -c %s mnt/page_pinner/threshold && cat mnt/page_pinner/threshold mnt/page_pinner/longterm_pinner && "
        'umount mnt && ls -A mnt && grep -c "$PWD/mnt " /proc/mounts',
    )
    assert done.stderr == ""
    assert done.stdout == "0\n16\n" + b"".join(newest_first(2)).decode() + "0\n"


def test_a_log_and_a_trace(folder: Path) -> None:
    """The log's options work here, too; mount(8) takes commas for itself, so colons stand between the layers."""
    done = _shell(
        folder,
        "mount -t fuse.pinnerfs $S mnt -o clock=manual,log=$PWD/log,verbose,trace=fuse:engine && "
        "echo 5 > mnt/page_pinner/threshold && umount mnt && grep -o 'INFO threshold set to 5' log && "
        "grep -c 'fuse: file 1.write' log",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "INFO threshold set to 5\n1\n", "")


def test_the_gallery_and_a_real_clock(folder: Path) -> None:
    """The source may be a name of the gallery, and the clock real and fast."""
    done = _shell(
        folder,
        "mount -t fuse.pinnerfs camera-stall mnt -o speed=10,clock=real && cat mnt/page_pinner/threshold && "
        "until [ $(cat mnt/.pinnerfs/clock) -gt 1000000 ]; do :; done; umount mnt",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")


def test_a_line_of_fstab(folder: Path) -> None:
    """`mount MOUNTPOINT` takes everything from fstab; what is for mount(8) alone is passed over."""
    done = _shell(
        folder, "mount mnt && cat mnt/page_pinner/longterm_pinner && umount mnt && mount -f mnt && umount mnt"
    )
    assert done.stdout == b"".join(newest_first(3)).decode()
    # The second mount was a fake one.
    assert done.returncode == 32 and "not mounted" in done.stderr


@pytest.mark.parametrize("mount", ["mount mnt", "mount -t fuse.pinnerfs $S mnt"])
def test_remount(folder: Path, mount: str) -> None:
    """As on a debugfs a remount changes mode, uid and gid of the root, and whether one may write."""
    done = _shell(
        folder,
        f"{mount} && stat -c '%a %u %g' mnt && mount -o remount,mode=755 mnt && stat -c '%a %u %g' mnt && "
        "mount -o remount,mode=0711,uid=5,gid=6 mnt && stat -c '%a %u %g' mnt && mount -o remount,ro mnt && "
        "! echo 7 > mnt/page_pinner/threshold && mount -o remount,rw mnt && "
        "echo 7 > mnt/page_pinner/threshold && cat mnt/page_pinner/threshold && umount mnt",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "700 0 0\n755 0 0\n711 5 6\n7\n"
    assert "Read-only file system" in done.stderr


def test_options_of_a_debugfs(folder: Path) -> None:
    """mode, uid, gid and ro act at the mount, too."""
    done = _shell(
        folder,
        "mount -t fuse.pinnerfs $S mnt -o ro,mode=750,uid=5,gid=6,nosuid && stat -c '%a %u %g' mnt && "
        'grep -c "$PWD/mnt fuse.pinnerfs ro," /proc/mounts && umount mnt',
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "750 5 6\n1\n", "")


@pytest.mark.parametrize("options", ["defaults", "suid,dev", "nosuid", "ro,suid,dev,mode=755"])
def test_never_with_devices_or_setuid_programs(folder: Path, options: str) -> None:
    """The mount is nosuid and nodev, whatever is asked for, and stays so when it is remounted."""
    shown = 'grep -c "$PWD/mnt fuse.pinnerfs r[ow],nosuid,nodev," /proc/mounts'
    done = _shell(
        folder,
        f"mount -t fuse.pinnerfs $S mnt -o {options} && {shown} && mount -o remount,ro,suid,dev mnt && {shown} && "
        f"mount -o remount,rw mnt && {shown} && umount mnt",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n1\n", "")


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ("sped=10", 1, "unknown option 'sped'; wanted one of clock, speed, start, "),
        ("speed=0", 2, "Invalid value for '--speed': 0.0 is not in the range"),
        ("mode=9", 1, "mode=9 for {folder}/mnt must be an octal number, such as 755"),
        ("uid=me", 1, "uid=me for {folder}/mnt must be a number"),
        ("clock=manual,speed=2", 2, "--speed 2 goes with --clock real"),
    ],
)
def test_refused_options(folder: Path, options: str, status: int, error: str) -> None:
    """A wrong option is an error that names it; nothing is mounted."""
    # A newer mount(8) refuses some of them itself, so the helper is called as an older one would.
    done = _shell(
        folder, f'mount.fuse.pinnerfs $S $PWD/mnt -o rw,{options}; s=$?; grep "$PWD/mnt " /proc/mounts; exit $s'
    )
    assert (done.returncode, done.stdout) == (status, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and error.format(folder=folder) in last


def test_a_refused_option_by_mount(folder: Path) -> None:
    """mount(8) hands on what its helper says and exits with."""
    done = _shell(folder, "mount -t fuse.pinnerfs $S mnt -o sped=10")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{folder}/mnt: unknown option 'sped'" in done.stderr


def test_sloppy(folder: Path) -> None:
    """With -s an option that nobody knows is passed over."""
    done = _shell(folder, "mount -s -t fuse.pinnerfs $S mnt -o sped=10 && umount mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
