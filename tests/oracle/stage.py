"""Where cases are played: a mount namespace of one's own, with a fake at /sys/kernel/debug that can be set up anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.oracle.cases import Case

__all__ = ["DEBUGFS", "Stage"]

DEBUGFS = "/sys/kernel/debug"
DEADLINE = 30  # seconds
BURST = 10  # seconds of the scenario's time from one burst of long pins to the next

# The recorded stack in full, so that records are as long here as they were there.
FRAMES = [
    "try_grab_folio+0x120/0x270",
    "internal_get_user_pages_fast+0x57f/0xae0",
    "get_user_pages_fast+0x1f/0x40",
    "pph_grab.isra.0+0x114/0x130",
    "pph_ioctl+0x1d8/0x270",
    "__x64_sys_ioctl+0x3f8/0x8c0",
    "x64_sys_call+0x920/0x9a0",
    "do_syscall_64+0x2f/0x50",
    "entry_SYSCALL_64_after_hwframe+0x4b/0xb5",
]

SCENARIO = """\
format = 1
name = "recorded"
description = "a driver pins pages on request"

[memory]
size = "1GiB"
region = [{{ name = "all", size = "1GiB", flags = ["referenced", "uptodate", "mappedtodisk", "swapbacked"] }}]

[stack.driver]
frames = {frames}

[[task]]
name = "driver"
start = "1s"
stack = "driver"
region = "all"
instances = {pages}
phase = [{{ repeat = 1, every = "{burst}s", hold = {hold} }}]
"""

# What a case may have changed and the next one shall find as new: path, mode.
FRESH = [
    ("", 0o700),
    ("page_pinner", 0o755),
    ("page_pinner/longterm_pinner", 0o444),
    ("page_pinner/threshold", 0o644),
    ("page_pinner/alloc_contig_failed", 0o444),
    ("page_pinner/failure_tracking", 0o644),
]


class Stage:
    """One fake with bursts of `pages` long pins. Nothing outside of its mount namespace sees it."""

    def __init__(self, folder: Path, kernel: str, pages: int, hold_ms: float, sendfile: bool) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.run(["sh", "-c", f"! mountpoint -q {DEBUGFS} || umount -l {DEBUGFS}"], check=True)
        scenario = folder / "recorded.toml"
        # A little over the time asked for, as every measured pin is, and no two alike.
        hold = f'{{ dist = "uniform", min = "{round(hold_ms * 1050)}us", max = "{round(hold_ms * 1100)}us" }}'
        scenario.write_text(SCENARIO.format(frames=FRAMES, pages=pages, burst=BURST, hold=hold))
        command = [sys.executable, "-m", "pinnerfs", "mount", str(scenario), DEBUGFS, "--clock", "manual"]
        command += ["--kernel", kernel, "--log", str(folder / "log")]
        self.run([*command, "--sendfile"] if sendfile else command, check=True)

    def run(
        self, command: Sequence[str], *, check: bool = False, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace, with a deadline."""
        entered = ["nsenter", "-t", str(self._holder.pid), "-m", "--wd=/tmp", "--", *command]
        done = subprocess.run(
            entered,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            env=os.environ | {"LC_ALL": "C", "PYTHONPATH": os.getcwd()} | (env or {}),
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done

    def prepare(self, case: Case) -> None:
        """Bring about what a case says had been done before it."""
        lines = ["set -e", f"cd {DEBUGFS}"]
        for path, mode in FRESH:
            name = path or "."
            lines.append(f"if [ -e {name} ]; then chown 0:0 {name}; chmod {mode:o} {name}; fi")
            lines.append(f"if [ -f {name} ]; then truncate -s 0 {name}; fi")
        lines.append("[ ! -e page_pinner/failure_tracking ] || echo 1 > page_pinner/failure_tracking")
        if case.threshold is not None:
            lines.append(f"echo {case.threshold} > page_pinner/threshold")
        if case.long_pins:
            lines.append(f"echo {BURST}s > .pinnerfs/advance")
        lines.append("echo 31 > /tmp/v31; cat page_pinner/longterm_pinner > /tmp/ltcat")
        self.run(["sh", "-c", "\n".join(lines)], check=True)

    def close(self) -> None:
        """Unmount, and leave the namespace to die."""
        self.run([sys.executable, "-m", "pinnerfs", "umount", DEBUGFS])
        self._holder.terminate()
        # Waits, and closes the pipe.
        self._holder.communicate(timeout=DEADLINE)
