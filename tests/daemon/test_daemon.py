"""The daemon's errors before its mount answers. These tests mount nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock
from pinnerfs.daemon import daemon as daemons
from pinnerfs.daemon.daemon import Daemon
from pinnerfs.debugfs.device import Device
from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.claim import Place
from tests.mount.support import scenario


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    """A daemon on any machine."""
    monkeypatch.setattr(daemons, "check_libfuse", lambda: None)
    simulation = Simulation(load(scenario(tmp_path)))
    return Daemon(Device(simulation, ManualClock()), simulation.generation)


def _refused(*_: object) -> None:
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
        daemon.start("/caf\udce9", lambda: Place("/caf\udce9", "/caf\udce9", -1))
    assert str(caught.value) == f"cannot mount on /caf\udce9: {message}"
    assert caught.value.exit_status == status
