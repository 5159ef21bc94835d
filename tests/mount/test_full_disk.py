"""Mounts work with full and read-only disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, environment, newest_first, scenario

# `full` has no free space, and `readonly` refuses writes. The log file exists before `full` is filled.
SCRIPT = """
set -e
mkdir full readonly mnt
mount -t tmpfs -o size=16k none full
mount -t tmpfs -o ro none readonly
: > full/log
cp "$2" full/scenario.toml
cd full
head -c 1000000 /dev/zero > rest 2>/dev/null || true
export TMPDIR=$PWD
export HOME=$PWD/../readonly
"$0" -m pinnerfs mount scenario.toml ../mnt --clock manual --log log
"$0" -m pinnerfs ctl ../mnt advance 2s
: < ../mnt/page_pinner/longterm_pinner                    # the daemon logs this
cat ../mnt/page_pinner/longterm_pinner
echo 5 > ../mnt/page_pinner/threshold
cat ../mnt/page_pinner/threshold
wc -c < log
rm rest
unset HOME
"$0" -m pinnerfs run scenario.toml --mountpoint "$1" -- cat "$1/page_pinner/threshold"
"$0" -m pinnerfs dump scenario.toml --at 1s | wc -l
"$0" -m pinnerfs umount ../mnt
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_full_and_read_only_disks(tmp_path: Path) -> None:
    """mount and run work with log, working directory and TMPDIR on a full disk and a read-only or no HOME."""
    (tmp_path / "debug").mkdir()
    words = [sys.executable, str(tmp_path / "debug"), str(scenario(tmp_path))]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "bash", "-c", SCRIPT, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    records = b"".join(newest_first(2)).decode()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{records}5\n0\n300000\n{len(newest_first(1)[0].splitlines())}\n"
