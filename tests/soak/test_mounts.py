"""Many mounts in a row, and many open files on one mount: nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pinnerfs.scenario.gallery import gallery
from tests.mount.support import DEADLINE, Mounts, environment, is_mounted, pinnerfs, record, scenario
from tests.soak.usage import Usage, WatchedMount

HANDLES = 10_000
HOLDERS = 4  # processes: an ordinary user can often open only 4096 files in each

# Opens a file COUNT times. For each line on stdin it reads each descriptor and prints the answers.
HOLDER = """
import os, resource, sys
path, count = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [os.open(path, os.O_RDONLY) for _ in range(count)]
print("open", flush=True)
for line in sys.stdin:
    print({os.read(file, 4096) for file in files}, flush=True)
"""


@contextmanager
def holders(path: Path, processes: int, each: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run processes that each open the file `count` times, and kill the rest at the end."""
    command = [sys.executable, "-c", HOLDER, str(path), str(each)]
    with ExitStack() as stack:
        started: list[subprocess.Popen[str]] = []
        for _ in range(processes):
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        assert [said(process) for process in started] == ["open"] * processes
        yield started


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def read_all(started: list[subprocess.Popen[str]]) -> set[str]:
    """Return the distinct answers to the next read of each open file."""
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return {said(process) for process in started}


def processes_of(directory: Path) -> list[str]:
    """Return all processes whose TMPDIR is this directory."""
    mark = f"TMPDIR={directory}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:
            continue  # belongs to another user, or is gone
    return found


def test_mounts_one_after_the_other(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """After many mounts and unmounts no process, file, mount or descriptor is left."""
    home = mount.directory / "home"
    home.mkdir()
    more = {name: str(home) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
    device = mount.add("mnt")
    there = sorted(mount.directory.iterdir())
    scenarios = sorted(gallery())
    descriptors = len(os.listdir("/proc/self/fd"))
    rounds = amount(3, 500)

    def run(*arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pinnerfs", *map(str, arguments)]
        done = subprocess.run(
            command, env=environment() | more, cwd=home, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), arguments

    for number in range(rounds):
        clock = ("--clock", "manual") if number % 3 else ()
        run("mount", scenarios[number % len(scenarios)], device.path, *clock)
        mount.watch(device)
        assert int(device.threshold.read_text()) > 0
        assert processes_of(home) == [str(device.pid)]
        if number % 2:
            run("umount", device.path)
            assert device.gone(0)
        else:
            subprocess.run(["fusermount", "-u", device.path], timeout=DEADLINE, check=True)
            assert device.gone()
        assert not is_mounted(device.path) and list(device.path.iterdir()) == []
        device.clean_up()
    assert processes_of(home) == []
    assert list(home.iterdir()) == []
    assert sorted(mount.directory.iterdir()) == there
    assert len(os.listdir("/proc/self/fd")) == descriptors
    tell(f"{rounds} mounts of {len(scenarios)} scenarios: 0 processes, 0 files, 0 mounts, 0 descriptors left")


def test_ten_thousand_open_files(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """10,000 open files each keep their position. Closed or killed, none stays in the daemon."""
    rounds = amount(1, 10)
    watched = WatchedMount(mount, scenario(mount.directory), "--clock", "manual", "--start", "10s")
    device = watched.mount
    before = watched.usage()
    curve: list[Usage] = []
    pins = 10
    for _ in range(rounds):
        with holders(device.records, HOLDERS, HANDLES // HOLDERS) as started:
            curve.append(watched.settled(HANDLES))
            assert read_all(started) == {str({record(pins - 1)})}
            device.advance("2s")
            pins += 2
            assert read_all(started) == {str({record(pins - 2)})}
            # Half of the processes close their files, and the others are killed.
            for process in started[::2]:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(DEADLINE) == 0
            watched.settled(HANDLES // 2)
    after = watched.settled(0)
    assert {one.descriptors for one in (before, *curve, after)} == {before.descriptors}
    assert abs(after.objects - before.objects) < 200, (before, after)
    # The first round fills caches.
    assert curve[-1].rss - curve[1 if rounds > 1 else 0].rss < 2 << 10, curve
    tell(f"{rounds} times {HANDLES} open files, each read twice")
    tell(f"before: {before}; open: {curve[0]}, then {curve[-1]}; after: {after}")


def test_a_reader_that_never_closes(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """A reader that never closes costs nothing and keeps the mount busy; killed, it leaves nothing."""
    rounds = amount(3, 100)
    watched = WatchedMount(mount, scenario(mount.directory, every="1ms"), "--clock", "manual", "--start", "100s")
    device = watched.mount
    with holders(device.records, 1, 3) as started:
        curve: list[Usage] = []
        for number in range(rounds):
            device.advance("20s")
            assert read_all(started) == {str({record((120 + 20 * number) * 1000 - 400 - number)})}
            curve.append(watched.settled(3))
        # numpy and Python fill their caches in the first rounds.
        before, after = curve[1], curve[-1]
        assert after.rss - before.rss < 2 << 10, (before, after)
        assert abs(after.objects - before.objects) < 200, (before, after)
        refused = pinnerfs("umount", device.path)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "it is busy: process " in refused.stderr and "has a file open there" in refused.stderr
        assert is_mounted(device.path)
    watched.settled(0)
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert device.gone(0)
    tell(f"{rounds * 20_000} records under 3 open files; before: {before}; after: {after}")
