"""The README's commands, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.mount
def test_the_shell_blocks_run_from_top_to_bottom(tmp_path: Path) -> None:
    """Pasted into one shell in an empty folder, the README's commands succeed and print what their comments say."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        if os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
            pytest.fail("this machine cannot mount: /dev/fuse is out of reach")
        pytest.skip("this machine cannot mount: /dev/fuse is out of reach")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "pinnerfs"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pinnerfs "$@"\n')
    program.chmod(0o755)
    path = f"{binaries}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(README.parent)}
    work = tmp_path / "work"
    work.mkdir()
    script = "set -e\n" + "\n".join(_blocks("sh"))
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        subprocess.run(["fusermount", "-uz", str(work / "device")], capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "300000" in lines and "0" in lines and "./leak.toml: ok" in lines
    above = [int(line) for line in lines if line.isdecimal() and int(line) > 1_000_000]
    assert len(above) >= 3


def test_the_python_blocks_run() -> None:
    """The README's Python example runs and prints the longest pin."""
    blocks = _blocks("python")
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block],
            env=os.environ | {"PYTHONPATH": str(README.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "us was the longest pin" in done.stdout
