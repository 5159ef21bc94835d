"""SIGINT (Ctrl-C) ends every command at every moment: exit status 130, no traceback, no mount."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.support import is_mounted, pinnerfs, why_no_mount

ROOT = Path(__file__).parents[2]
DEADLINE = 120
INTERRUPTED = 130
ROUNDS = 12

COMMANDS = {
    "check": ["check", "--expect", "camera-stall", "threshold-edges"],
    "dump": ["dump", "ring-overflow", "--at", "60s"],
    "list": ["list"],
    "mount": ["mount", "camera-stall", "mnt"],
}

# Announces the first import after the program has started, then goes on. Before that the interpreter is at work.
ANNOUNCING = """
import os, sys
class Announcer:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("pinnerfs.cli."):
            sys.meta_path.remove(self)
            os.write(1, b"started\\n")
sys.meta_path.insert(0, Announcer())
from pinnerfs.cli import main
main()
"""

# Sends itself SIGINT when it imports the module that is the first argument.
INTERRUPTED_IMPORT = """
import os, signal, sys
import pinnerfs.cli
module = sys.argv.pop(1)
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupter())
pinnerfs.cli.main()
"""


def start(code: str, arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a command in a directory, with SIGINT as a shell in the foreground leaves it."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a mount point."""
    (tmp_path / "mnt").mkdir()
    return tmp_path


@pytest.mark.parametrize("module", ["click", "msgspec", "numpy", "pinnerfs.cli.dump", "pinnerfs.workload.timeline"])
def test_while_it_imports(directory: Path, module: str) -> None:
    """A SIGINT during an import is no traceback of that import."""
    with start(INTERRUPTED_IMPORT, [module, *COMMANDS["dump"]], directory) as process:
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (INTERRUPTED, b"", b"")


def check_mount(mountpoint: Path, *, expected: bool) -> None:
    """Unmount a mount that is expected; an interrupted one goes by itself, once its daemon has seen that."""
    if expected:
        assert pinnerfs("umount", mountpoint).returncode == 0
    deadline = time.monotonic() + DEADLINE
    # The daemon has closed stdout, so it has mounted or never will.
    while is_mounted(mountpoint):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", COMMANDS)
def test_at_random_moments(directory: Path, name: str) -> None:
    """Whenever SIGINT comes, the command has either finished or exits with 130, and prints no error."""
    if name == "mount" and (reason := why_no_mount(directory / "mnt")) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    rng = random.Random(name)
    longest = 0.05
    interrupted = 0
    for _ in range(ROUNDS):
        began = time.monotonic()
        with start(ANNOUNCING, COMMANDS[name], directory) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"started\n"
                time.sleep(rng.uniform(0, longest))
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=DEADLINE)
            finally:
                process.kill()
        assert process.returncode in (0, INTERRUPTED)
        assert err == b""
        if process.returncode == 0:
            longest = time.monotonic() - began
        interrupted += process.returncode == INTERRUPTED
        if name == "mount":
            check_mount(directory / "mnt", expected=process.returncode == 0)
    assert interrupted
