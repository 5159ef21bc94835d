"""Whoever started a mount is gone: a terminal that hangs up, a pipe that nobody reads, a start that is interrupted."""

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

from tests.mount.support import DEADLINE, Mount, Mounts, environment, is_mounted, pinnerfs, scenario

PINNERFS = [sys.executable, "-m", "pinnerfs"]


@contextmanager
def _at_a_terminal(command: list[str]) -> Iterator[tuple[int, int]]:
    """A command as the leader of a session at a terminal of its own: its process, and the terminal's other end."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, command, environment())
    try:
        yield child, terminal
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _until_mounted(mounts: Mounts, device: Mount) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_mounted(device.path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    mounts.watch(device)


def test_the_terminal_of_a_foreground_mount_hangs_up(mount: Mounts) -> None:
    """It unmounts and ends, though its log has nowhere to go."""
    device = mount.add("mnt")
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.folder)), str(device.path)]
    with _at_a_terminal(command) as (_, terminal):
        _until_mounted(mount, device)
        os.close(terminal)
        assert device.gone()
    assert not is_mounted(device.path)


def test_the_terminal_of_a_detached_mount_hangs_up(mount: Mounts) -> None:
    """The daemon of a session that is over lives on."""
    device = mount.add("mnt")
    script = f'"$0" -m pinnerfs mount {scenario(mount.folder)} {device.path} --clock manual && exec sleep {DEADLINE}'
    with _at_a_terminal(
        [sys.executable, "-c", f"import os; os.execlp('sh', 'sh', '-c', {script!r}, {sys.executable!r})"]
    ) as (shell, terminal):
        _until_mounted(mount, device)
        process = os.pidfd_open(shell)
        os.close(terminal)
        # The shell, or the sleep that it has become, is ended by the hang-up: so that has come.
        assert os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT) is not None
        os.close(process)
        assert not device.gone(0)
        assert device.threshold.read_text() == "300000\n"


def test_nohup(mount: Mounts) -> None:
    """A foreground mount under nohup lives through a hang-up, and ends on SIGTERM."""
    device = mount.add("mnt")
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.folder)), str(device.path)]
    with subprocess.Popen(["nohup", *command], stderr=subprocess.DEVNULL, env=environment()) as process:
        try:
            _until_mounted(mount, device)
            process.send_signal(signal.SIGHUP)
            assert device.threshold.read_text() == "300000\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
    assert not is_mounted(device.path)


def test_stderr_is_a_pipe_that_nobody_reads(mount: Mounts) -> None:
    """A foreground mount whose log goes to a reader that has ended lives on."""
    device = mount.add("mnt")
    reader, writer = os.pipe()
    command = [*PINNERFS, "mount", "-f", str(scenario(mount.folder)), str(device.path)]
    with subprocess.Popen(command, stderr=writer, env=environment()) as process:
        try:
            os.close(writer)
            _until_mounted(mount, device)
            os.close(reader)
            os.close(os.open(device.records, os.O_RDONLY))  # of which it logs a line
            assert device.threshold.read_text() == "300000\n"
            assert pinnerfs("umount", device.path).returncode == 0
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_start_that_is_interrupted(mount: Mounts, number: signal.Signals) -> None:
    """A `pinnerfs mount` that ends before its daemon answers leaves no mount, nor a daemon that nobody knows of."""
    device = mount.add("mnt")
    code = (
        "import os, time, sys\n"
        "from pinnerfs.daemon import daemon\n"
        "run = daemon.Daemon.run\n"
        # The daemon waits for the end of the process that started it, and mounts only then.
        "def late(self, ready):\n"
        "    os.write(1, b'%d' % os.getpid())\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    run(self, ready)\n"
        "daemon.Daemon.run = late\n"
        "parent = os.getpid()\n"
        "from pinnerfs.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "mount", str(scenario(mount.folder)), str(device.path)]
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
