"""Daemons that are stopped and continued at random moments: no command waits longer than its --max-wait."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from tests.mount.support import DEADLINE, Mounts, environment

SEED = int(os.environ.get("PINNERFS_SEED", "1"))
WAIT = "1s"
COMMANDS = (
    ["ctl", "--max-wait", WAIT, "mnt", "clock"],
    ["ctl", "--max-wait", WAIT, "mnt", "stats"],
    ["ctl", "--max-wait", WAIT, "mnt", "advance", "100h"],
    ["ctl", "--max-wait", WAIT, "mnt", "do", "pin task=camera pages=1 hold=1ms"],
    ["mount", "--max-wait", WAIT, "quiet-device", "mnt"],
)
STOPPER = """
import os, random, signal, sys, time
pid, seed = map(int, sys.argv[1:])
moments = random.Random(seed)
while os.getppid() != 1:
    for number, longest in (signal.SIGSTOP, 2), (signal.SIGCONT, 1):
        os.kill(pid, number)
        time.sleep(moments.random() * longest)
"""


def test_random_stops(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Each command succeeds, is refused, or gives up with status 75 and one line. None hangs."""
    commands = random.Random(SEED)
    device = mount("camera-stall")
    statuses: Counter[int] = Counter()
    longest = 0.0
    stopper = subprocess.Popen([sys.executable, "-c", STOPPER, str(device.pid), str(SEED)])
    try:
        for _ in range(amount(10, 300)):
            command = commands.choice(COMMANDS)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "pinnerfs", *command],
                capture_output=True,
                text=True,
                cwd=mount.directory,
                env=environment(),
                timeout=DEADLINE,
                check=False,
            )
            longest = max(longest, time.monotonic() - began)
            statuses[done.returncode] += 1
            assert done.returncode in (0, 1, 75), done
            assert done.stderr.count("\n") == (done.returncode != 0), done
            if done.returncode == 75:
                assert f"(pid {device.pid})" in done.stderr
    finally:
        stopper.kill()
        stopper.wait()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(device.pidfd, signal.SIGCONT)
        device.log.unlink()  # it may name files that a command opened and did not read
    tell(f"{sum(statuses.values())} commands, exit statuses {dict(statuses)}; the longest took {longest:.1f} s")
