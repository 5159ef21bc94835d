"""Mounts whose terminal hangs up, whose stderr has no reader, or whose start is interrupted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, environment, is_mounted, pinnerfs, run_command, scenario

PINNERFS = [sys.executable, "-m", "pinnerfs"]


@contextmanager
def _in_a_terminal(command: list[str]) -> Iterator[tuple[int, int]]:
    """Run a command as a session leader in a new terminal. Yield its PID and the terminal."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, command, environment())
    try:
        yield child, terminal
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _wait_until_mounted(mounts: Mounts, device: Mount) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_mounted(device.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    mounts.watch(device)


def test_the_terminal_of_a_foreground_mount_hangs_up(mount: Mounts) -> None:
    """When its terminal hangs up, a foreground mount unmounts and ends, although it cannot log any more."""
    device = mount.add("mnt")
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.directory)), str(device.path)]
    with _in_a_terminal(command) as (_, terminal):
        _wait_until_mounted(mount, device)
        os.close(terminal)
        assert device.gone()
    assert not is_mounted(device.path)


def test_the_terminal_of_a_detached_mount_hangs_up(mount: Mounts) -> None:
    """A detached daemon keeps running after the hang-up of the terminal that started it."""
    device = mount.add("mnt")
    script = f'"$0" -m pinnerfs mount {scenario(mount.directory)} {device.path} --clock manual && exec sleep {DEADLINE}'
    with _in_a_terminal(
        [sys.executable, "-c", f"import os; os.execlp('sh', 'sh', '-c', {script!r}, {sys.executable!r})"]
    ) as (shell, terminal):
        _wait_until_mounted(mount, device)
        process = os.pidfd_open(shell)
        os.close(terminal)
        # The hang-up ends the shell, or the sleep that replaced it. Wait for that.
        assert os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT) is not None
        os.close(process)
        assert not device.gone(0)
        assert device.threshold.read_text() == "300000\n"


def test_nohup(mount: Mounts) -> None:
    """Under nohup a foreground mount ignores SIGHUP, and ends on SIGTERM."""
    device = mount.add("mnt")
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.directory)), str(device.path)]
    with subprocess.Popen(["nohup", *command], stderr=subprocess.DEVNULL, env=environment()) as process:
        try:
            _wait_until_mounted(mount, device)
            process.send_signal(signal.SIGHUP)
            assert device.threshold.read_text() == "300000\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
    assert not is_mounted(device.path)


def test_stderr_is_a_pipe_without_a_reader(mount: Mounts) -> None:
    """A foreground mount keeps working if its log goes to a pipe without a reader."""
    device = mount.add("mnt")
    reader, writer = os.pipe()
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.directory)), str(device.path)]
    with subprocess.Popen(command, stderr=writer, env=environment()) as process:
        try:
            os.close(writer)
            _wait_until_mounted(mount, device)
            os.close(reader)
            os.close(os.open(device.records, os.O_RDONLY))  # the daemon logs this
            assert device.threshold.read_text() == "300000\n"
            assert pinnerfs("umount", device.path).returncode == 0
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_start(mount: Mounts, number: signal.Signals) -> None:
    """If `pinnerfs mount` ends before its daemon answers, no mount and no daemon is left."""
    device = mount.add("mnt")
    code = (
        "import os, time, sys\n"
        "from pinnerfs.daemon import daemon\n"
        "run = daemon.Daemon.run\n"
        # The daemon mounts only after the end of the process that started it.
        "def late(*arguments):\n"
        "    os.write(1, b'%d' % os.getpid())\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    run(*arguments)\n"
        "daemon.Daemon.run = late\n"
        "parent = os.getpid()\n"
        "from pinnerfs.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "mount", str(scenario(mount.directory)), str(device.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        try:
            assert process.stdout is not None
            device.pid = int(os.read(process.stdout.fileno(), 100))
            device.pidfd = os.pidfd_open(device.pid)
            process.send_signal(number)
            assert process.wait(DEADLINE) == (130 if number == signal.SIGINT else -number)
            assert device.gone()
        finally:
            process.kill()
    assert not is_mounted(device.path)


def test_an_interrupt_after_the_daemon_is_ready(mount: Mounts) -> None:
    """If SIGINT comes after the daemon has reported the mount, `pinnerfs mount` succeeds."""
    device = mount.add("mnt")
    code = (
        "import os, signal\n"
        "from pinnerfs.daemon import daemon\n"
        "report, parent = daemon.report_ready, os.getpid()\n"
        "def stopped(connection):\n"
        "    os.kill(parent, signal.SIGSTOP)\n"
        "    report(connection)\n"
        "    os.kill(parent, signal.SIGINT)\n"
        "    os.kill(parent, signal.SIGCONT)\n"
        "daemon.report_ready = stopped\n"
        "from pinnerfs.cli import main\n"
        "main()\n"
    )
    done = run_command([sys.executable, "-c", code, "mount", str(scenario(mount.directory)), str(device.path)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert is_mounted(device.path)
