"""`pinnerfs run` leaves nothing if one of its processes is killed at a random moment.

PINNERFS_ROUNDS is the number of rounds, PINNERFS_SEED the seed of the random choices.
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
LONGEST = 0.8  # seconds after the start, or after the command has begun

# Reads all the time, so that a kill often happens with an open file and a pending request.
COMMAND = "echo begun; while :; do cat debug/page_pinner/*; echo 5 > debug/page_pinner/threshold; done > /dev/null 2>&1"


def _parent(number: int) -> int:
    """Return the PID of a process's parent, or 0 if the process has ended."""
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _member(run: int, family: Family, victim: str) -> int:
    """Return the PID of the process to kill. Before it exists, that is `run` itself."""
    children = [number for number in family.members() if _parent(number) == run]
    daemons = [number for number in children if os.getsid(number) == number]
    commands = [number for number in children if number not in daemons]
    chosen = {"run": [run], "command": commands, "daemon": daemons}[victim]
    return (chosen or [run])[0]


def test_nothing_is_left(tmp_path: Path) -> None:
    """After a kill of any process at any moment, no mount and no process is left."""
    rng = random.Random(SEED)
    (tmp_path / "debug").mkdir()
    source = scenario(tmp_path)
    killed = dict.fromkeys(VICTIMS, 0)
    for number in range(ROUNDS):
        # In every other round the time counts from the start of the command.
        from_command = number % 2 == 1
        victim, signal_number = VICTIMS[number // 2 % len(VICTIMS)], rng.choice(SIGNALS)
        moment = rng.uniform(0, LONGEST / 4 if from_command else LONGEST)
        when = f"{moment:.3f} s after {'the command began' if from_command else 'the start'}"
        case = f"round {number}: {signal_number.name} to the {victim} {when} (seed {SEED})"
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
            if from_command:
                assert process.stdout.readline() == b"begun\n", case
            time.sleep(moment)  # not a wait for an event: the moment of the kill is random
            chosen = _member(process.pid, family, victim)
            killed[victim] += chosen != process.pid or victim == "run"
            with suppress(ProcessLookupError):
                os.kill(chosen, signal_number)
            # Without a daemon, or after SIGINT, which `run` ignores, the command still runs: end it. Before the command
            # begins, the victim may be a child that has looked at the mount point and is about to exit.
            if signal_number == signal.SIGINT if chosen == process.pid else victim == "daemon" or not from_command:
                process.send_signal(signal.SIGTERM)
            assert ended(process.pid, DEADLINE), f"{case}: `run` did not end"
            err = process.stderr.read().decode() if process.stderr else ""
            # During imports, Python itself prints KeyboardInterrupt on SIGINT.
            assert "Traceback" not in err or "KeyboardInterrupt" in err, f"{case}: {err}"
            assert family.left() == [], f"{case}: processes are left"
            assert not any(str(tmp_path) in line for line in mount_table()), f"{case}: a mount is left"
    # Each process was killed at least once while it existed. Otherwise the rounds test nothing.
    assert ROUNDS < 15 or all(killed.values()), killed
    print(f"{ROUNDS} rounds, killed: {killed}; processes and mounts left: 0")
