"""Mounting through libfuse, as far as it needs no /dev/fuse."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pinnerfs.fuse.libfuse import check_libfuse, mount_by_path


@pytest.mark.mount
def test_a_mount_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What libfuse writes to stderr is returned. Later lines are on stderr again, and no descriptor stays open."""
    missing = tmp_path / "caf\udce9"
    check_libfuse()  # the library stays loaded
    before = os.listdir("/proc/self/fd")
    descriptor, reason = mount_by_path(str(missing), {"fsname": "debugfs", "default_permissions": True})
    assert descriptor == -1
    assert reason.startswith("fuse: ") and reason.endswith("No such file or directory\n") and str(missing) in reason
    assert os.listdir("/proc/self/fd") == before
    print("after", file=sys.stderr)
    os.write(2, b"and after\n")
    assert capfd.readouterr().err == "after\nand after\n"
