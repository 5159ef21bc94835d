"""Daemons that die at random moments: users of their files get an error, and the next mount works."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.mount.family import Family
from tests.mount.support import DEADLINE, Mount, Mounts, is_mounted, outcome, pinnerfs, scenario

SEED = int(os.environ.get("PINNERFS_SEED", "1"))
DEADLY = (signal.SIGKILL, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
GONE = {errno.ENOTCONN, errno.ECONNABORTED}

# Three readers of records, a reader and a writer of the threshold. Each stops at its first error and prints the errno.
USERS = """
import os, sys, threading

def read(name):
    while True:
        file = os.open(directory + name, os.O_RDONLY)
        try:
            while data := os.read(file, 4096):
                assert data.endswith(b"\\n"), data
        finally:
            os.close(file)

def write():
    while True:
        file = os.open(directory + "/threshold", os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(file, b"100000")
        finally:
            os.close(file)

def until_it_fails(work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        said.append(str(error.errno))
    except AssertionError as error:
        said.append(repr(error))

directory, said = sys.argv[1], []
work = [(read, "/longterm_pinner")] * 3 + [(read, "/threshold"), (write,)]
threads = [threading.Thread(target=until_it_fails, args=one) for one in work]
print("begun", flush=True)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*said)
"""


def _users_of(directory: str) -> list[str]:
    return [sys.executable, "-E", "-S", "-c", USERS, directory]


def _kill_while_used(device: Mount, number: signal.Signals, moment: float) -> list[int]:
    """Kill a daemon some seconds after its users began, and return the errors that they got."""
    # No core dump, with any signal.
    resource.prlimit(device.pid, resource.RLIMIT_CORE, (0, 0))
    with subprocess.Popen(_users_of(str(device.path / "page_pinner")), stdout=subprocess.PIPE, text=True) as users:
        try:
            assert users.stdout is not None and users.stdout.readline() == "begun\n"
            time.sleep(moment)  # this chooses the moment of the kill; it waits for nothing
            os.kill(device.pid, number)
            said = users.communicate(timeout=DEADLINE)[0]
        finally:
            users.kill()
    return [int(word) for word in said.split()]


def test_killed_while_used(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Each of five users gets ENOTCONN or ECONNABORTED, none hangs, and the next mount at that place works."""
    dice = random.Random(SEED)
    source = scenario(mount.directory, every="1ms", hold="400ms")
    killed, errors = Counter[str](), Counter[str]()
    rounds = amount(5, 250)
    device = mount(source, "--speed", "10", manual=False)
    for number in range(rounds):
        deadly = DEADLY[number % len(DEADLY)]
        met = _kill_while_used(device, deadly, dice.uniform(0, 0.05))
        assert len(met) == 5 and set(met) <= GONE, f"round {number}, {deadly.name}: {met}"
        assert device.gone()
        os.close(device.pidfd)
        killed[deadly.name] += 1
        errors.update(errno.errorcode[error] for error in met)
        done = pinnerfs("mount", source, device.path, "--log", device.log, "--speed", "10")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr == f"{device.path}: replaced a dead mount that an earlier daemon left\n"
        mount.watch(device)
        assert device.threshold.read_text() == "300000\n"
    tell(f"{rounds} kills {dict(killed)}; {5 * rounds} users, whose calls ended with {dict(errors)}; 0 hung")


def test_killed_under_a_command(tmp_path: Path, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Users under `pinnerfs run` get an error, none hangs, `run` says what happened, and nothing is left."""
    dice = random.Random(SEED)
    source = scenario(tmp_path, every="1ms", hold="400ms")
    (tmp_path / "debug").mkdir()
    rounds = amount(3, 100)
    for number in range(rounds):
        deadly = DEADLY[number % len(DEADLY)]
        family = Family(f"run-{number}")
        # The command kills the daemon while it uses its files.
        script = (
            'ulimit -c 0; pid=$(cat debug/.pinnerfs/pid); prlimit --core=0 --pid "$pid"; '
            f'{{ sleep {dice.uniform(0, 0.05):.3f}; kill -{deadly.value} "$pid"; }} & exec "$@"'
        )
        place = ["--mountpoint", "debug", "--", "sh", "-c", script, "sh"]
        with family.cleared_away():
            done = subprocess.run(
                [sys.executable, "-m", "pinnerfs", "run", source, *place, *_users_of("debug/page_pinner")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                env=family.environment(),
                check=False,
            )
            begun, *met = done.stdout.split()
            assert begun == "begun" and len(met) == 5 and {int(word) for word in met} <= GONE, done
            assert done.returncode == 0
            assert done.stderr == (
                f"the daemon was killed by signal {deadly.value} while the command ran: its files stopped answering\n"
            )
            assert family.left() == []
            assert not is_mounted(tmp_path / "debug")
    tell(f"{rounds} kills under `run`, {5 * rounds} users: 0 hung, 0 processes and mounts left")


def test_killed_while_mounting(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """If a process dies while mounting, the mount answers or is gone, and no daemon is left without a mount."""
    dice = random.Random(SEED)
    source = scenario(mount.directory)
    device = mount.add("mnt")
    rounds, outcomes = amount(4, 100), Counter[str]()
    for number in range(rounds):
        deadly = dice.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL))
        family = Family(f"mounting-{number}")
        with family.cleared_away():
            command = [sys.executable, "-m", "pinnerfs", "mount", str(source), str(device.path)]
            with subprocess.Popen(command, env=family.environment(), stderr=subprocess.PIPE) as process:
                time.sleep(dice.uniform(0.05, 0.5))  # this chooses the moment of the kill; it waits for nothing
                with suppress(ProcessLookupError, IndexError):
                    os.kill(dice.choice(family.members()), deadly)
                process.communicate(timeout=DEADLINE)
            what = f"round {number}, {deadly.name} (seed {SEED})"
            answer = _settled(device, family)
            outcomes[answer] += 1
            if answer == "alive":
                done = pinnerfs("umount", device.path)
                # It may have been about to exit.
                assert done.returncode == 0 or "nothing is mounted there" in done.stderr, f"{what}: {done.stderr}"
            elif answer == "dead":
                assert deadly == signal.SIGKILL, what
                again = pinnerfs("mount", source, device.path)
                assert again.returncode == 0 and "replaced a dead mount" in again.stderr, what
                assert pinnerfs("umount", device.path).returncode == 0, what
            assert family.left() == [], f"{what}: a daemon is left"
            assert not is_mounted(device.path), what
    tell(f"{rounds} kills while mounting, then {dict(outcomes)}; 0 daemons without a mount, 0 mount points lost")


def _settled(device: Mount, family: Family) -> str:
    """Return the state of the mount when all processes have settled: alive, dead or none."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        # In this order: without processes, the state does not change any more.
        members = family.members()
        answers = outcome(lambda: os.statvfs(device.path).f_namemax)
        there = is_mounted(device.path)
        if not there and not members:
            return "none"
        if there and not members and answers in (-errno.ENOTCONN, -errno.ECONNABORTED):
            return "dead"
        if there and len(members) == 1 and answers == 255:
            return "alive"
        time.sleep(0.01)
    raise AssertionError(f"mounted: {is_mounted(device.path)}, processes: {family.members()}")
