"""What `pinnerfs doctor` says about mounts: a dead one, a stopped daemon, a healthy one."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from typing import Any

from tests.mount.support import DEADLINE, Mount, Mounts, environment, is_mounted, pinnerfs
from tests.mount.test_stopped import _stopped


def _findings(device: Mount, max_wait: str = "5s") -> list[dict[str, Any]]:
    """Return the findings about a mount: other mounts of this machine have their own."""
    done = pinnerfs("doctor", "--json", "--max-wait", max_wait)
    checks = json.loads(done.stdout)["checks"]
    return [check for check in checks if check["name"] == "mounts" and str(device.path) in check["text"]]


def test_a_healthy_mount(mount: Mounts) -> None:
    """A mount that answers is not mentioned."""
    assert _findings(mount()) == []


def test_a_dead_mount(mount: Mounts) -> None:
    """After the daemon was killed the mount is named, and the remedy removes it."""
    device = mount(name="a mount; with blanks")
    signal.pidfd_send_signal(device.pidfd, signal.SIGKILL)
    assert device.gone()
    (found,) = _findings(device)
    quoted = shlex.quote(str(device.path))
    assert found["text"] == f"the daemon of {device.path} is gone"
    assert (found["state"], found["remedy"]) == ("warning", f"pinnerfs umount {quoted}")
    remedy = f'pinnerfs() {{ "{sys.executable}" -m pinnerfs "$@"; }}; {found["remedy"]}'
    subprocess.run(["sh", "-c", remedy], env=environment(), timeout=DEADLINE, check=True)
    assert not is_mounted(device.path)


def test_a_stopped_daemon(mount: Mounts) -> None:
    """A daemon that is stopped does not block the doctor, which names the remedy."""
    first, second = mount(name="first"), mount(name="second")
    with _stopped(first), _stopped(second):
        for device in (first, second):
            (found,) = _findings(device, "300ms")
            assert found["state"] == "warning"
            assert f"its daemon (pid {device.pid}) is stopped, and did not answer within 0.3 s" in found["text"]
            assert f"kill -CONT {device.pid}" in found["text"]
    assert _findings(first) == []
