"""Folders of test runs, and which of them are swept."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pinnerfs.testing import folders
from tests.mount.support import DEADLINE, ORDINARY


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def dead_process() -> str:
    """The name of a process that no longer lives."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = folders.process_name(child.pid)
    assert folders.is_alive(name)
    child.communicate(timeout=DEADLINE)
    assert not folders.is_alive(name)
    return name


def test_only_dead_runs_are_swept(temporary: Path) -> None:
    """A dead run's folder goes; this run's, another namespace's, another start's and what has another name stay."""
    mine, dead = folders.make_folder(), dead_process()
    space = mine.name.split("-")[2]
    gone = [temporary / f"pinnerfs-pytest-{space}-{dead}-a", temporary / f"pinnerfs-pytest-{space}-{os.getpid()}-1-b"]
    kept = [mine, temporary / f"pinnerfs-pytest-1-{dead}-c", temporary / "pinnerfs-pytest-x", temporary / "other"]
    for folder in (*gone, *kept[1:]):
        (folder / "0" / "mnt").mkdir(parents=True)
    (gone[0] / "0" / "log").write_text("")
    (gone[0] / "0" / "daemon").write_text(dead)
    # Killed before it had a mount point, and while it wrote down its daemon.
    (gone[1] / "1").mkdir()
    (gone[1] / "1" / "daemon").write_text("")
    folders.sweep()
    assert sorted(temporary.iterdir()) == sorted(kept)
    folders.sweep()
    assert mine.stat().st_mode & 0o777 == 0o700


def test_nobody_elses_are_swept(temporary: Path) -> None:
    """Another user's folder stays, and a link to a folder is not followed."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's folder")
    space, dead = folders.make_folder().name.split("-")[2], dead_process()
    other = temporary / f"pinnerfs-pytest-{space}-{dead}-a"
    (other / "0" / "mnt").mkdir(parents=True)
    os.chown(other, ORDINARY, ORDINARY)
    (temporary / "precious").mkdir()
    link = temporary / f"pinnerfs-pytest-{space}-{dead}-b"
    link.symlink_to(temporary / "precious")
    folders.sweep()
    assert (other / "0" / "mnt").is_dir() and link.is_symlink() and (temporary / "precious").is_dir()


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the temporary folder is missing there is nothing to sweep, and no error."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    folders.sweep()
    assert not (tmp_path / "missing").exists()
