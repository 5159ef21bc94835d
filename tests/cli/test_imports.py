"""Commands start without the libraries that they do not use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pinnerfs.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DEADLINE = 120

LIGHT = [
    ["--help"],
    ["--version"],
    ["list"],
    ["show", "camera-stall"],
    ["check", "camera-stall"],
    ["schema"],
    ["umount", "."],
    ["ctl", ".", "stats"],
    ["ctl", ".", "advance", "5s"],
    ["nonsense"],
    # Completion and the build of the man pages need the options of each command.
    *([command, "--help"] for command in COMMANDS),
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


def heavy_imports(command: list[str], environment: Mapping[str, str] = os.environ) -> set[str]:
    """Run a command, and return which of numpy and fusepy it imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=DEADLINE,
        check=True,
    )
    return {*done.stderr.split()}


@pytest.mark.parametrize("command", LIGHT, ids=" ".join)
def test_neither_numpy_nor_fuse(command: list[str]) -> None:
    """A command that plays no scenario imports neither numpy nor fusepy."""
    assert heavy_imports(command) == set()


@pytest.mark.parametrize("words", ["mount cam", "run camera-stall --ker", "dump --mm ", "umount ", "nonsense x "])
def test_completion_waits_for_neither(words: str) -> None:
    """Completing a word in a shell imports neither numpy nor fusepy."""
    words = f"pinnerfs {words}"
    variables = {"_PINNERFS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert heavy_imports([], os.environ | variables) == set()


def test_playing_imports_numpy() -> None:
    """A command that plays a scenario imports numpy, so the test above would see it."""
    assert heavy_imports(["dump", "camera-stall", "--at", "1s"]) == {"numpy"}


@pytest.mark.parametrize("setting", ["enable", "disable"])
def test_the_garbage_collection_of_a_program(setting: str) -> None:
    """A Python program that calls commands keeps its garbage collection as it was: on or off, and nothing frozen."""
    code = f"""
import gc
gc.{setting}()
frozen = gc.get_freeze_count()
from pinnerfs.cli.commands import commands
commands.main(["dump", "camera-stall", "--at", "1s"], standalone_mode=False)
print(gc.isenabled(), gc.get_freeze_count() - frozen)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=DEADLINE, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{setting == 'enable'} 0"
