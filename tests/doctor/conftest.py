"""Run `pinnerfs doctor` on a machine on which something is broken, in namespaces of its own."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mount.support import run_command, why_no_mount

DOCTOR = (sys.executable, "-m", "pinnerfs", "doctor", "--json")


@dataclass(frozen=True)
class Examined:
    """The exit status of a doctor, its stderr and its data."""

    status: int
    err: str
    data: dict[str, Any]

    def check(self, name: str) -> dict[str, Any]:
        """Return the only finding of a check."""
        (found,) = [check for check in self.data["checks"] if check["name"] == name]
        return {key: found[key] for key in ("state", "text", "remedy")}


Doctor = Callable[..., Examined]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Create a directory that every user can enter, with `own` for a tmpfs with device nodes."""
    if os.geteuid() != 0:
        pytest.skip("only root can break things in a mount namespace")
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        if (reason := why_no_mount(directory)) is not None:
            pytest.skip(f"this machine cannot mount: {reason}")
        for inner in ("own", "etc", "layer"):
            (directory / inner).mkdir()
        yield directory


@pytest.fixture
def doctor(directory: Path) -> Doctor:
    """Run a doctor in a mount namespace, after shell commands that break something."""

    def doctor(setup: str = ":", *command: str) -> Examined:
        script = f'set -e\nmount -t tmpfs -o dev,mode=755 none own\n{setup}\nexec "$@"'
        done = run_command(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *(command or DOCTOR)],
            cwd=directory,
        )
        assert done.stdout, done.stderr
        return Examined(done.returncode, done.stderr, json.loads(done.stdout))

    return doctor
