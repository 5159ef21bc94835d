"""Answers that come late: a waiting caller can be interrupted, and does not make others wait."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, ROOT, environment, outcome

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

# Each waits in the call that the server names.
WAITING = {
    "cat": ("read", ["cat", "slow"]),
    "dd": ("read", ["dd", "if=slow", "status=none"]),
    "bash": ("read", ["bash", "-c", "read line < slow"]),
    "python": ("read", [sys.executable, "-c", "import os; os.read(os.open('slow', os.O_RDONLY), 10)"]),
    "bash that writes": ("write", ["bash", "-c", "echo 5 > slow"]),
    "cat that opens": ("open", ["cat", "slow_open"]),
    "python that opens": ("open", [sys.executable, "-c", "open('slow_open')"]),
}


@dataclass
class Server:
    """A running tests.mount.slow_server, with its mount."""

    path: Path
    process: subprocess.Popen[bytes]
    _text: bytes = b""

    def said(self) -> str:
        """Return the next line of the server."""
        assert self.process.stdout is not None
        until = time.monotonic() + DEADLINE
        while b"\n" not in self._text:
            assert select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0], "no line in time"
            part = os.read(self.process.stdout.fileno(), 4096)
            assert part, "the server has ended"
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in the mount."""
        return subprocess.Popen(
            command, cwd=self.path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Mount the slow server. After the test, unmount it."""
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-m", "tests.mount.slow_server", str(path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as process:
        try:
            running = Server(path, process)
            assert running.said() == "ready"
            yield running
        finally:
            subprocess.run(["fusermount", "-uz", path], capture_output=True, timeout=DEADLINE, check=False)
            try:
                assert process.wait(DEADLINE) in (0, -signal.SIGKILL)
            finally:
                process.kill()


def _end(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    try:
        out, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return process.returncode, out


@pytest.mark.parametrize("program", WAITING)
def test_a_signal_ends_a_waiting_call(server: Server, program: str) -> None:
    """SIGINT, SIGTERM and SIGKILL end a program that waits for an answer, which never comes."""
    call, command = WAITING[program]
    for number in SIGNALS:
        process = server.start(*command)
        assert server.said() == call
        process.send_signal(number)
        assert _end(process) == (-number, b"")
    assert (server.path / "fast").read_text() == "fast\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_server_is_busy(server: Server, number: signal.Signals) -> None:
    """A signal ends a waiting reader, and one whose request has not been read, while others keep the server busy."""
    with (
        server.start("bash", "-c", "while cat busy; do :; done") as load,
        server.start("cat", "slow") as reader,
        server.start("cat", "busy") as other,
    ):
        assert load.stdout is not None
        try:
            while server.said() != "read":
                pass
            while server.said() != "busy":
                pass
            for process in (reader, other):
                process.send_signal(number)
            assert reader.wait(DEADLINE) == -number
            assert other.wait(DEADLINE) in (-number, 0)  # it may have got its answer
        finally:
            for process in (load, reader, other):
                process.kill()
            load.stdout.close()


def test_others_do_not_wait(server: Server) -> None:
    """While callers wait, others are answered; then each gets its own answer."""
    readers = [server.start("cat", "slow") for _ in range(20)]
    opener = server.start("cat", "slow_open")
    for _ in [*readers, opener]:
        assert server.said() in ("read", "open")
    for _ in range(100):
        assert (server.path / "fast").read_text() == "fast\n"
    (server.path / "go").write_text("now")
    assert [_end(process) for process in [*readers, opener]] == [(0, b"slow\n")] * 21


def test_an_interrupted_call_has_no_effect(server: Server) -> None:
    """A handler of the signal sees EINTR, as Python's repeated call shows: the text is still there to read."""
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "file = os.open('slow', os.O_RDONLY)\n"
        "print(os.read(file, 10).decode(), end='')\n"
    )
    process = server.start(sys.executable, "-c", code)
    assert server.said() == "read"
    process.send_signal(signal.SIGUSR1)
    assert server.said() == "read"
    (server.path / "go").write_text("now")
    assert _end(process) == (0, b"slow\n")
    assert server.said() == "answered read"


def test_a_late_error(server: Server) -> None:
    """A late answer can be an error."""
    assert outcome((server.path / "late_error").read_bytes) == -errno.EIO


def test_a_shared_descriptor(server: Server) -> None:
    """A waiting read of a descriptor does not lock it: another reader of it can be interrupted, too."""
    file = os.open(server.path / "slow", os.O_RDONLY)
    try:
        readers = [subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) for _ in range(2)]
        for _ in readers:
            assert server.said() == "read"
        for reader in readers:
            reader.send_signal(signal.SIGTERM)
            assert _end(reader) == (-signal.SIGTERM, b"")
    finally:
        os.close(file)


def test_unmounting_ends_the_wait(server: Server) -> None:
    """If the server ends, a waiting reader gets an error."""
    process = subprocess.Popen(["cat", "slow"], cwd=server.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert server.said() == "read"
    subprocess.run(["fusermount", "-uz", server.path], check=True, timeout=DEADLINE)
    server.process.kill()
    server.process.wait(DEADLINE)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (1, b"")
    assert b"Transport endpoint is not connected" in err or b"Software caused connection abort" in err
