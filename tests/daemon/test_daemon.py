"""The daemon's errors before its mount answers. These tests mount nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock
from pinnerfs.daemon import daemon as daemons
from pinnerfs.daemon.daemon import Daemon
from pinnerfs.debugfs.device import Device
from pinnerfs.errors import NO_FUSE, PinnerfsError
from tests.mount.support import scenario


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    """A daemon on any machine, for a mount point that is no text."""
    monkeypatch.setattr(daemons, "check_binding", lambda: None)
    simulation = Simulation(load(scenario(tmp_path)))
    return Daemon(Device(simulation, ManualClock()), simulation.generation, "/caf\udce9")


def _refused(_: Daemon, ready: Callable[[], None]) -> None:
    raise PinnerfsError("cannot mount on /caf\udce9: because", NO_FUSE)


@pytest.mark.parametrize(
    ("run", "message", "status"),
    [
        (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "the daemon was killed by signal 9 before it was ready", 1),
        (lambda *_: os._exit(5), "the daemon exited with status 5 before it was ready", 1),
        (_refused, "because", NO_FUSE),
    ],
)
def test_a_daemon_that_does_not_get_ready(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, run: Callable[..., None], message: str, status: int
) -> None:
    """`start` raises the daemon's own error with its exit status, or says how the daemon ended."""
    monkeypatch.setattr(Daemon, "run", run)
    with pytest.raises(PinnerfsError) as caught:
        daemon.start()
    assert str(caught.value) == f"cannot mount on /caf\udce9: {message}"
    assert caught.value.exit_status == status


PERMISSION = "fusermount: mount failed: Operation not permitted"


@pytest.mark.parametrize(
    ("written", "uid", "summary"),
    [
        (b"", 0, "no reason given"),
        (b"fuse: first\n\nsecond\n", 0, "first; second"),
        (b"fuse: no caf\xe9\n", 0, "no caf\udce9"),
        (
            PERMISSION.encode(),
            0,
            f"{PERMISSION} (for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)",
        ),
        (
            PERMISSION.encode(),
            1000,
            f"{PERMISSION} (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)",
        ),
    ],
)
def test_what_libfuse_writes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], written: bytes, uid: int, summary: str
) -> None:
    """It becomes one line with a remedy for missing permissions; stderr gets nothing until it is replayed."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    capture = daemons._StderrCapture()
    try:
        os.write(2, written)
    finally:
        capture.restore()
    assert capture.summary() == summary
    assert capfd.readouterr().err == ""
    capture.replay()
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == written.decode(errors="replace") + "after\n"
