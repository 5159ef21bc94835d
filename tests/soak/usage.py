"""The resources of a daemon: memory, descriptors, open files, objects.

Run as a module, this is pinnerfs with a daemon that appends its open files and objects to a file on SIGUSR1.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mount.support import DEADLINE, Mounts, environment

__all__ = ["Usage", "WatchedMount"]

REPORT = "PINNERFS_TEST_REPORT"  # environment variable: the file to which the daemon reports


@dataclass(frozen=True)
class Usage:
    """The resources at one moment.

    `rss` and `pss` are in KiB. `handles` counts the open files of page_pinner/, `objects` the objects that Python's
    garbage collector knows.
    """

    rss: int
    pss: int
    descriptors: int
    handles: int
    objects: int

    def __str__(self) -> str:
        return (
            f"RSS {self.rss} KiB, PSS {self.pss} KiB, {self.descriptors} descriptors, "
            f"{self.handles} handles, {self.objects} objects"
        )


class WatchedMount:
    """A mount whose daemon reports its resources."""

    def __init__(self, mounts: Mounts, source: str | Path, *options: str, name: str = "mnt") -> None:
        self.mount = mounts.add(name)
        self._report = mounts.directory / f"{name}.usage"
        self._report.touch()
        self._asked = 0
        command = [sys.executable, "-m", __name__, "mount", source, self.mount.path, "--log", self.mount.log, *options]
        more = {REPORT: str(self._report)}
        done = subprocess.run(
            command, env=environment() | more, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        mounts.watch(self.mount)

    def usage(self) -> Usage:
        """Return the resources now."""
        self._asked += 1
        os.kill(self.mount.pid, signal.SIGUSR1)
        deadline = time.monotonic() + DEADLINE
        while len(lines := self._report.read_text().splitlines()) < self._asked:
            # Python handles the signal when it next runs, which a request makes it do.
            self.mount.control("pid")
            assert time.monotonic() < deadline, "the daemon does not report"
        handles, objects = json.loads(lines[-1])
        status = Path(f"/proc/{self.mount.pid}/status").read_text()
        rollup = Path(f"/proc/{self.mount.pid}/smaps_rollup").read_text()
        return Usage(
            rss=_kib("VmRSS", status),
            pss=_kib("Pss", rollup),
            descriptors=len(os.listdir(f"/proc/{self.mount.pid}/fd")),
            handles=handles,
            objects=objects,
        )

    def settled(self, handles: int) -> Usage:
        """Wait until `handles` files are open, and return the resources: FUSE reports a close after it returned."""
        deadline = time.monotonic() + DEADLINE
        while (now := self.usage()).handles != handles and time.monotonic() < deadline:
            time.sleep(0.05)
        assert now.handles == handles, f"wanted {handles} open files: {now}"
        return now


def _kib(name: str, text: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def _report() -> None:
    from pinnerfs.debugfs.attributes import OpenNumber
    from pinnerfs.debugfs.page_pinner import OpenRecords

    gc.collect()
    objects = gc.get_objects()
    handles = sum(isinstance(one, OpenRecords | OpenNumber) for one in objects)
    with open(os.environ[REPORT], "a") as file:
        file.write(json.dumps([handles, len(objects)]) + "\n")


if __name__ == "__main__":
    from pinnerfs.cli import main

    signal.signal(signal.SIGUSR1, lambda number, frame: _report())
    main()
