"""Rounds of `pinnerfs run`, each with one of its processes killed at a random moment: nothing must stay behind.

PINNERFS_ROUNDS is how many rounds there are, PINNERFS_SEED which.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.mount.support import DEADLINE, environment, mount_table, scenario

ROUNDS = int(os.environ.get("PINNERFS_ROUNDS", "15"))
SEED = int(os.environ.get("PINNERFS_SEED", "1"))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
VICTIMS = ("run", "command", "daemon")
LATEST = 0.8  # seconds after the start; the command has then long begun

# Reads all the time, so that many a death meets an open file and a request on its way.
COMMAND = "while :; do cat debug/page_pinner/*; echo 5 > debug/page_pinner/threshold; done > /dev/null 2>&1"


def _family(mark: str) -> dict[int, int]:
    """The processes that were started with this mark in their environment, by number, each with its parent."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if f"ROUND={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass  # it has ended meanwhile
    return found


def _member(run: int, mark: str, victim: str) -> int:
    """The number of the process to kill, or of `run` itself while there is no other."""
    children = [number for number, parent in _family(mark).items() if parent == run]
    daemons = [number for number in children if os.getsid(number) == number]
    commands = [number for number in children if number not in daemons]
    chosen = {"run": [run], "command": commands, "daemon": daemons}[victim]
    return (chosen or [run])[0]


def _ended(number: int, seconds: float) -> bool:
    """Whether a process is gone, or is so in time."""
    try:
        process = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def test_nothing_is_left(tmp_path: Path) -> None:
    """Whichever process dies of whatever signal and whenever: no mount, no daemon, no command is there afterwards."""
    dice = random.Random(SEED)
    (tmp_path / "debug").mkdir()
    source = scenario(tmp_path)
    begun = dict.fromkeys(VICTIMS, 0)
    for number in range(ROUNDS):
        victim, deadly = dice.choice(VICTIMS), dice.choice(SIGNALS)
        moment = dice.uniform(0, LATEST)
        what = f"round {number}: {deadly.name} to the {victim} after {moment:.3f} s (seed {SEED})"
        mark = f"{os.getpid()}-{number}"
        with subprocess.Popen(
            [sys.executable, "-m", "pinnerfs", "run", source, "--mountpoint", "debug", "--", "sh", "-c", COMMAND],
            cwd=tmp_path,
            env=environment() | {"ROUND": mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                time.sleep(moment)  # not to wait for something: it is the moment to be killed at
                chosen = _member(process.pid, mark, victim)
                begun[victim] += chosen != process.pid or victim == "run"
                with suppress(ProcessLookupError):
                    os.kill(chosen, deadly)
                # A command that goes on without its device, or after a signal that `run` ignores, is told to end.
                if deadly == signal.SIGINT if chosen == process.pid else victim == "daemon":
                    process.send_signal(signal.SIGTERM)
                assert _ended(process.pid, DEADLINE), f"{what}: run is still there"
                said = process.stderr.read().decode() if process.stderr else ""
                # Python itself says so where SIGINT comes while it still imports.
                assert "Traceback" not in said or "KeyboardInterrupt" in said, f"{what}: {said}"
                left = [one for one in _family(mark) if not _ended(one, DEADLINE)]
                assert left == [], f"{what}: processes are left"
                assert not any(str(tmp_path) in line for line in mount_table()), f"{what}: a mount is left"
            finally:
                for one in (process.pid, *_family(mark)):
                    if not _ended(one, 0):
                        os.kill(one, signal.SIGKILL)
    # Each kind was hit while it was there; else the rounds have shown nothing.
    assert ROUNDS < 15 or all(begun.values()), begun
    print(f"{ROUNDS} rounds, hit: {begun}; processes and mounts left: 0")
