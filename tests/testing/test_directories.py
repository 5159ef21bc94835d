"""Directories of temporary mounts, and which of them are removed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pinnerfs.testing import directories
from tests.mount.support import DEADLINE, ORDINARY


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that only this test uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def dead_process() -> str:
    """Return the name of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = directories.process_name(child.pid)
    assert directories.is_alive(name)
    child.communicate(timeout=DEADLINE)
    assert not directories.is_alive(name)
    return name


def test_only_directories_of_dead_processes_are_removed(temporary: Path) -> None:
    """Those of this process, of another PID namespace, and directories with other names stay."""
    mine, dead = directories.make_directory(), dead_process()
    namespace = mine.name.split("-")[2]
    prefix = directories.PREFIX
    gone = [
        temporary / f"{prefix}-{namespace}-{dead}-a",
        temporary / f"{prefix}-{namespace}-{os.getpid()}-1-b",  # an earlier process of the same number
        temporary / f"{prefix}-{namespace}-{dead}-c",
    ]
    kept = [mine, temporary / f"{prefix}-1-{dead}-d", temporary / f"{prefix}-x", temporary / "other"]
    for directory in (*gone[:2], *kept):
        (directory / "mnt").mkdir(parents=True)
    (gone[0] / "log").write_text("")
    (gone[0] / "daemon").write_text(dead)
    # Killed while it wrote the name of its daemon, and before it had a mount point.
    (gone[1] / "daemon").write_text("")
    gone[2].mkdir()
    directories.remove_left_directories()
    assert sorted(temporary.iterdir()) == sorted(kept)
    directories.remove_left_directories()
    assert sorted(temporary.iterdir()) == sorted(kept)
    assert mine.stat().st_mode & 0o777 == 0o700


def test_directories_of_other_users_stay(temporary: Path) -> None:
    """Another user's directory stays, and a symbolic link is not followed."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's directory")
    namespace, dead = directories.make_directory().name.split("-")[2], dead_process()
    other = temporary / f"{directories.PREFIX}-{namespace}-{dead}-a"
    (other / "mnt").mkdir(parents=True)
    os.chown(other, ORDINARY, ORDINARY)
    (temporary / "precious").mkdir()
    link = temporary / f"{directories.PREFIX}-{namespace}-{dead}-b"
    link.symlink_to(temporary / "precious")
    directories.remove_left_directories()
    assert (other / "mnt").is_dir() and link.is_symlink() and (temporary / "precious").is_dir()


def test_no_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a directory for temporary files there is nothing to remove, and no error."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    directories.remove_left_directories()
    assert not (tmp_path / "missing").exists()
