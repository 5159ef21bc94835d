"""Several mounts race for one mount point: one wins, the others get one line, and no mount covers another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.family import Family
from tests.mount.support import DEADLINE, Mounts, is_mounted, mount_table, pinnerfs, scenario

AT_ONCE = 3
CLEARED = "{0}: replaced a dead mount that an earlier daemon left"
# Which of them depends on how far a process is when another one mounts.
LOST = (
    "Error: cannot mount on {0}: it is already a mount point (fuse.pinnerfs); wanted an empty directory",
    "Error: cannot mount on {0}: another process mounted there or moved the directory at the same moment",
)


def _at_once(family: Family, *arguments: str | Path) -> list[tuple[int, str, str]]:
    """Run a command several times at once, and return statuses and outputs."""
    command = [sys.executable, "-m", "pinnerfs", *map(str, arguments)]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, text=True, env=family.environment(), stdout=pipe, stderr=pipe) for _ in range(AT_ONCE)
    ]
    try:
        said = [process.communicate(timeout=DEADLINE) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [(process.returncode, *words) for process, words in zip(running, said, strict=True)]


@pytest.mark.parametrize("before", ["an empty directory", "a dead mount"])
def test_mounts_at_once(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None], before: str
) -> None:
    """Exactly one of several mounts at once succeeds; then exactly one unmount."""
    source = scenario(mount.directory)
    device = mount.add("mnt")
    rounds, words = amount(1, 40), Counter[str]()
    for number in range(rounds):
        family = Family(f"race-{before}-{number}")
        with family.cleared_away():
            if before == "a dead mount":
                assert pinnerfs("mount", source, device.path).returncode == 0
                mount.watch(device)
                os.kill(device.pid, signal.SIGKILL)
                assert device.gone()
                os.close(device.pidfd)
                device.pidfd = -1
            results = _at_once(family, "mount", source, device.path, "--log", device.log)
            assert sorted(status for status, _, _ in results) == [0, *[1] * (AT_ONCE - 1)], results
            assert all(out == "" for _, out, _ in results)
            lines = [line for _, _, err in results for line in err.splitlines()]
            words.update(line.replace(str(device.path), "MNT") for line in lines)
            lost, cleared = {line.format(device.path) for line in LOST}, CLEARED.format(device.path)
            assert sum(line in lost for line in lines) == AT_ONCE - 1, lines
            assert set(lines) <= {*lost, cleared} and lines.count(cleared) <= (before == "a dead mount"), lines
            assert sum(f" {device.path} " in line for line in mount_table()) == 1
            assert family.members() == [int(device.control("pid"))]
            results = _at_once(family, "umount", device.path)
            assert any(status == 0 for status, _, _ in results), results
            for status, out, err in results:
                assert (out, err.count("\n")) == ("", 0 if status == 0 else 1)
                assert status == 0 or re.fullmatch(rf"Error: cannot unmount {re.escape(str(device.path))}: .+\n", err)
            assert family.left() == []
            assert not is_mounted(device.path)
    tell(f"{rounds} races of {AT_ONCE} for {before}: 1 winner each; 0 stacked, 0 left; {sum(words.values())} sentences")
