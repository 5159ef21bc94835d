"""Commands start without the libraries that they do not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 120

LIGHT = [
    ["--help"],
    ["--version"],
    ["list"],
    ["list", "--help"],
    ["show", "camera-stall"],
    ["show", "--help"],
    ["check", "camera-stall"],
    ["check", "--help"],
    ["report", "--help"],
    ["umount", "."],
    ["umount", "--help"],
    ["ctl", ".", "stats"],
    ["ctl", ".", "advance", "5s"],
    ["ctl", "--help"],
    ["dump", "--help"],
    ["mount", "--help"],
    ["run", "--help"],
    ["nonsense"],
]

# Prints the imported modules in place of the output.
CODE = """
import os, sys, pinnerfs.cli
import pinnerfs.cli.launch as launch
def leave(status):
    os.write(2, " ".join({"numpy", "fuse"} & set(sys.modules)).encode())
    os._exit(0)
launch._exit = leave
sys.stderr = open(os.devnull, "w")
pinnerfs.cli.main()
"""


def heavy_imports(command: list[str]) -> set[str]:
    """Run a command, and return which of numpy and fusepy it imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE,
        check=True,
    )
    return {*done.stderr.split()}


@pytest.mark.parametrize("command", LIGHT, ids=" ".join)
def test_neither_numpy_nor_fuse(command: list[str]) -> None:
    """A command that plays no scenario imports neither numpy nor fusepy."""
    assert heavy_imports(command) == set()


def test_playing_imports_numpy() -> None:
    """A command that plays a scenario imports numpy, so the test above would see it."""
    assert heavy_imports(["dump", "camera-stall", "--at", "1s"]) == {"numpy"}
