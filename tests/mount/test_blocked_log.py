"""A mount whose log blocks: the files still answer."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.mount.support import DEADLINE, Mounts, environment, is_mounted, scenario


def test_a_log_that_blocks(mount: Mounts) -> None:
    """A daemon whose stderr is a full pipe answers, and ends at a signal."""
    device = mount.add("mnt")
    command = [sys.executable, "-m", "pinnerfs", "mount", "-f", "--trace", "fuse"]
    with subprocess.Popen(
        [*command, str(scenario(mount.directory)), str(device.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as daemon:
        try:
            deadline = time.monotonic() + DEADLINE
            while not is_mounted(device.path):
                assert daemon.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            mount.watch(device)
            # A read of the threshold logs some 400 bytes, and a pipe holds 64 KiB.
            script = "i=0; while [ $i -lt 500 ]; do read x < threshold; i=$((i + 1)); done; echo $x"
            assert device.shell(script, "sh").stdout == "300000\n"
            daemon.terminate()
            assert daemon.wait(DEADLINE) == 0
            assert not is_mounted(device.path)
            assert daemon.stderr is not None
            logged = daemon.stderr.read()
        finally:
            daemon.kill()
    assert len(logged) > 60_000
    assert b"fuse: open('/page_pinner/threshold'" in logged
