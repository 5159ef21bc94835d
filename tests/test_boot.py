"""The systemd unit and the fstab lines of pinnerfs/ci: systemd and mount(8) accept them, and they mount."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, PRIVATE_SBIN, ROOT, environment

RECIPES = Path(pinnerfs.__file__).parent / "ci"
UNIT = RECIPES / "pinnerfs@.service"

# Both commands are in /opt/pinnerfs/bin, as in a virtual environment there. $1 is a directory with them.
INSIDE = """
set -e
cd "$1"
mount -t tmpfs none /opt
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkdir -p /opt/pinnerfs/bin layer
cp pinnerfs mount.fuse.pinnerfs /opt/pinnerfs/bin/
. ./script
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount over /opt and /mnt")


def _run(directory: Path, script: str) -> str:
    """Run a script in a mount namespace that has pinnerfs in /opt/pinnerfs, and return its output."""
    for name, module in ("pinnerfs", "pinnerfs.cli"), ("mount.fuse.pinnerfs", "pinnerfs.cli.mount_helper"):
        call = f"from {module} import main; main()"
        program = f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -c "{call}" "$@"\n'
        (directory / name).write_text(program)
        (directory / name).chmod(0o755)
    (directory / "script").write_text(script)
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", INSIDE, "sh", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("name", ["pinnerfs@.service", "pinnerfs@camera-stall.service"])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    """`systemd-analyze verify` has no complaint about the template and about an instance."""
    shutil.copy(UNIT, tmp_path / "pinnerfs@.service")
    assert _run(tmp_path, f"SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify ./{name}") == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_finds_a_mistake_in_the_unit(tmp_path: Path) -> None:
    """The same check finds an unknown word, so it does read the unit."""
    (tmp_path / "pinnerfs@.service").write_text(UNIT.read_text().replace("ExecStop=", "ExecHalt="))
    told = _run(tmp_path, "systemd-analyze verify ./pinnerfs@.service 2>&1 || true")
    assert "ExecHalt" in told


@pytest.mark.mount
@pytest.mark.parametrize(("options", "threshold"), [("", 300000), ("--threshold 1s --clock manual", 1000000)])
def test_the_commands_of_the_unit_mount_and_unmount(tmp_path: Path, options: str, threshold: int) -> None:
    """ExecStart mounts the scenario on the directory that RuntimeDirectory makes, and ExecStop unmounts it."""
    lines = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line[:1].isupper() and "=" in line)
    lines = {key: value.replace("%i", "quiet-device").replace("%t", "/run") for key, value in lines.items()}
    # systemd splits $OPTIONS at blanks but not ${SCENARIO}. A shell does the same if the latter has no blanks.
    assert lines["Environment"] == "SCENARIO=quiet-device"
    told = _run(
        tmp_path,
        f"{lines['Environment']} OPTIONS='{options}'\n"
        f"mkdir -p /run/{lines['RuntimeDirectory']}\n"
        f"{lines['ExecStart']}\n"
        "cat /run/pinnerfs/quiet-device/page_pinner/threshold\n"
        f"{lines['ExecStop']}\n"
        "ls -A /run/pinnerfs/quiet-device\n",
    )
    assert told == f"{threshold}\n"


@pytest.mark.mount
def test_the_lines_of_fstab_mount(tmp_path: Path) -> None:
    """`mount DIR` makes the directory of each line and mounts there."""
    lines = [line.split() for line in (RECIPES / "fstab").read_text().splitlines() if not line.startswith("#")]
    assert all(len(line) == 6 for line in lines)
    own = next(line[0] for line in lines if line[0].startswith("/"))
    gallery = pinnerfs.gallery()["quiet-device"]
    text = (RECIPES / "fstab").read_text().replace(own, str(gallery))
    (tmp_path / "fstab").write_text(text)
    mounted = [line[1] for line in lines]
    told = _run(
        tmp_path,
        f"{PRIVATE_SBIN}\nln -s /opt/pinnerfs/bin/mount.fuse.pinnerfs /sbin/\nmount --bind fstab /etc/fstab\n"
        f"for path in {' '.join(mounted)}; do\n"
        "mount $path; stat -c %a $path; cat $path/page_pinner/threshold; umount $path\n"
        "done\n",
    )
    assert told == "700\n300000\n755\n300000\n"
