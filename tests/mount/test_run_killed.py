"""Rounds of `pinnerfs run`, each with one of its processes killed at a random moment: nothing must stay behind.

PINNERFS_ROUNDS is how many rounds there are, PINNERFS_SEED which.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.mount.family import Family, ended
from tests.mount.support import DEADLINE, mount_table, scenario

ROUNDS = int(os.environ.get("PINNERFS_ROUNDS", "15"))
SEED = int(os.environ.get("PINNERFS_SEED", "1"))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
VICTIMS = ("run", "command", "daemon")
LATEST = 0.8  # seconds after the start, or after the command has begun

# Reads all the time, so that many a death meets an open file and a request on its way.
COMMAND = "echo begun; while :; do cat debug/page_pinner/*; echo 5 > debug/page_pinner/threshold; done > /dev/null 2>&1"


def _parent(number: int) -> int:
    """The number of a process's parent; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _member(run: int, family: Family, victim: str) -> int:
    """The number of the process to kill, or of `run` itself while there is no other."""
    children = [number for number in family.members() if _parent(number) == run]
    daemons = [number for number in children if os.getsid(number) == number]
    commands = [number for number in children if number not in daemons]
    chosen = {"run": [run], "command": commands, "daemon": daemons}[victim]
    return (chosen or [run])[0]


def test_nothing_is_left(tmp_path: Path) -> None:
    """Whichever process dies of whatever signal and whenever: no mount, no daemon, no command is there afterwards."""
    dice = random.Random(SEED)
    (tmp_path / "debug").mkdir()
    source = scenario(tmp_path)
    begun = dict.fromkeys(VICTIMS, 0)
    for number in range(ROUNDS):
        # Every other round begins its time when the command runs, however long that takes.
        late = number % 2 == 1
        victim, deadly = VICTIMS[number // 2 % len(VICTIMS)], dice.choice(SIGNALS)
        moment = dice.uniform(0, LATEST / 4 if late else LATEST)
        when = f"{moment:.3f} s after {'the command began' if late else 'the start'}"
        what = f"round {number}: {deadly.name} to the {victim} {when} (seed {SEED})"
        family = Family(f"killed-{number}")
        with (
            subprocess.Popen(
                [sys.executable, "-m", "pinnerfs", "run", source, "--mountpoint", "debug", "--", "sh", "-c", COMMAND],
                cwd=tmp_path,
                env=family.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process,
            family.cleared_away(),
        ):
            assert process.stdout is not None
            if late:
                assert process.stdout.readline() == b"begun\n", what
            time.sleep(moment)  # not to wait for something: it is the moment to be killed at
            chosen = _member(process.pid, family, victim)
            begun[victim] += chosen != process.pid or victim == "run"
            with suppress(ProcessLookupError):
                os.kill(chosen, deadly)
            # A command that goes on without its device, or after a signal that `run` ignores, is told to end.
            if deadly == signal.SIGINT if chosen == process.pid else victim == "daemon":
                process.send_signal(signal.SIGTERM)
            assert ended(process.pid, DEADLINE), f"{what}: run is still there"
            said = process.stderr.read().decode() if process.stderr else ""
            # Python itself says so where SIGINT comes while it still imports.
            assert "Traceback" not in said or "KeyboardInterrupt" in said, f"{what}: {said}"
            assert family.left() == [], f"{what}: processes are left"
            assert not any(str(tmp_path) in line for line in mount_table()), f"{what}: a mount is left"
    # Each kind was hit while it was there; else the rounds have shown nothing.
    assert ROUNDS < 15 or all(begun.values()), begun
    print(f"{ROUNDS} rounds, hit: {begun}; processes and mounts left: 0")
