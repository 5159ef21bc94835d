"""A signal to `pinnerfs run` reaches the command, at whatever stage of its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.mount.support import DEADLINE, environment, run_command, scenario

# pinnerfs whose child stops between the fork and the moment that it restores its signal handling.
HELD = """
import os, sys
import pinnerfs.cli
from pinnerfs.daemon import runner

forked, release = int(sys.argv.pop(1)), int(sys.argv.pop(1))
restore = runner._Signals.restore

def held(self):
    os.write(forked, b"%d\\n" % os.getpid())
    os.read(release, 1)
    restore(self)

runner._Signals.restore = held
pinnerfs.cli.main()
"""

# pinnerfs whose child is killed while the daemon mounts.
KILLED = """
import os, signal
import pinnerfs.cli
from pinnerfs.daemon import runner

fork, start, forked = os.fork, runner.Daemon.start, []

def noted():
    forked.append(fork())
    return forked[-1]

def killing(*arguments):
    command = forked[-1]
    daemon = start(*arguments)
    os.kill(command, signal.SIGKILL)
    os.waitid(os.P_PID, command, os.WEXITED | os.WNOWAIT)
    return daemon

os.fork, runner.Daemon.start = noted, killing
pinnerfs.cli.main()
"""


def _is_pending(pid: int, number: signal.Signals) -> bool:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["ShdPnd"], 16) >> number - 1 & 1)


def test_a_signal_between_fork_and_exec(tmp_path: Path) -> None:
    """SIGTERM ends the command if it arrives while the child still has the handlers of `run`."""
    (tmp_path / "debug").mkdir()
    forked, tell_fork = os.pipe()
    wait_release, release = os.pipe()
    command = [sys.executable, "-c", HELD, str(tell_fork), str(wait_release), "run", str(scenario(tmp_path))]
    command += ["--mountpoint", str(tmp_path / "debug"), "--", "cat"]
    with subprocess.Popen(
        command, env=environment(), pass_fds=(tell_fork, wait_release), stdin=subprocess.PIPE, cwd=tmp_path
    ) as run:
        try:
            child = int(os.read(forked, 64))
            run.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + DEADLINE
            while not _is_pending(child, signal.SIGTERM):
                assert time.monotonic() < deadline, "SIGTERM did not reach the command's process"
                time.sleep(0.01)
            os.write(release, b"x")
            assert run.wait(DEADLINE) == -signal.SIGTERM
        finally:
            run.kill()
            for descriptor in (forked, tell_fork, wait_release, release):
                os.close(descriptor)


def test_a_command_that_is_killed_before_it_starts(tmp_path: Path) -> None:
    """`run` ends by the signal that killed the command, not by SIGPIPE."""
    (tmp_path / "debug").mkdir()
    arguments = ["run", str(scenario(tmp_path)), "--mountpoint", str(tmp_path / "debug"), "--", "cat"]
    done = run_command([sys.executable, "-c", KILLED, *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
