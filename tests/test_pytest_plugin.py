"""The pytest plugin, used by test files in pytest runs of their own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pinnerfs.mounts.directories import remove_left_directories
from tests.mount.conftest import machine_can_mount
from tests.mount.family import ended
from tests.mount.support import DEADLINE, ROOT, is_mounted, mount_table, scenario

__all__ = ["machine_can_mount"]

pytest_plugins = "pytester"
pytestmark = pytest.mark.mount

# An installed pinnerfs registers its plugin; a checkout does not.
LOAD = [] if "pinnerfs" in entry_points(group="pytest11").names else ["-p", "pinnerfs.pytest_plugin"]
OPTIONS = [*LOAD, "--strict-markers", "-W", "error", "-p", "no:cacheprovider"]


@pytest.fixture(autouse=True)
def elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs use this checkout and a temporary directory of their own, which is cleaned up after the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    monkeypatch.delenv("PINNERFS_REQUIRE_FUSE", raising=False)
    yield pytester.path / "temporary"
    monkeypatch.undo()  # the PATH of a test may lack fusermount
    monkeypatch.setattr(tempfile, "tempdir", str(pytester.path / "temporary"))
    remove_left_directories()


def left_over(temporary: Path) -> list[str]:
    """Return the mounts and files that are left."""
    mounts = [line for line in mount_table() if str(temporary) in line]
    return mounts + sorted(path.name for path in temporary.iterdir() if not path.name.startswith("pytest-of-"))


def run(pytester: pytest.Pytester, test: str, *options: str, **outcomes: int) -> pytest.RunResult:
    """Run a test file that has this text."""
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess(*OPTIONS, *options, timeout=DEADLINE)
    result.assert_outcomes(**outcomes)
    return result


def test_the_fixture(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """The fixture mounts camera-stall; time, threshold, text and records are those of a simulation."""
    run(
        pytester,
        """
        import os
        import subprocess
        import pinnerfs
        import pytest

        def test_it(page_pinner):
            twin = pinnerfs.Simulation(pinnerfs.load("camera-stall"))
            assert os.path.ismount(page_pinner.root)
            assert page_pinner.threshold == 300_000 and page_pinner.text() == "" and page_pinner.records() == []
            for time in ("5s", "25s"):
                page_pinner.advance(time)
                twin.advance(time)
            assert page_pinner.text() == twin.cat() != ""
            assert page_pinner.records() == list(twin.records())
            assert isinstance(page_pinner.records()[0], pinnerfs.Record)
            cat = subprocess.run(["cat", page_pinner.root / "page_pinner" / "longterm_pinner"], capture_output=True)
            assert cat.stdout.decode() == page_pinner.text()

        def test_threshold(page_pinner):
            page_pinner.advance("60s")
            assert page_pinner.records()
            page_pinner.threshold = "1s"
            assert page_pinner.threshold == 1_000_000 and page_pinner.records() == []
            page_pinner.threshold = 1_000_000
            assert page_pinner.threshold == 1_000_000
            with pytest.raises(ValueError, match="threshold = -1: wanted microseconds from 0 on, or a time such as"):
                page_pinner.threshold = -1
            page_pinner.advance("60s")
            assert min(record.ts for record in page_pinner.records()) > 1_000_000

        def test_do(page_pinner):
            page_pinner.do("pin task=camera pages=64 hold=900ms")
            page_pinner.advance("900ms")
            records = page_pinner.records()
            assert [record.ts for record in records] == [900_000] * 64
            assert any("vb2_dma_sg_get_userptr" in frame for frame in records[0].stack)
        """,
        passed=3,
    )
    assert left_over(elsewhere) == []


def test_a_full_ring(pytester: pytest.Pytester) -> None:
    """All 4096 records of a full ring are read."""
    run(
        pytester,
        """
        import pytest

        @pytest.mark.page_pinner("ring-overflow")
        def test_it(page_pinner):
            page_pinner.advance("10min")
            assert len(page_pinner.records()) == 4096
        """,
        passed=1,
    )


def test_the_marker(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """The nearest marker chooses scenario, seed, threshold and kernel; a path is relative to the test's file."""
    scenario(pytester.mkdir("stories"), every="1s", hold="400ms")
    run(
        pytester,
        """
        import pathlib
        import pinnerfs
        import pytest

        pytestmark = pytest.mark.page_pinner("quiet-device")

        @pytest.mark.page_pinner("camera-stall", seed=7, threshold=500000)
        def test_seed_and_threshold(page_pinner):
            twin = pinnerfs.Simulation(pinnerfs.load("camera-stall"), seed=7, threshold=500_000)
            page_pinner.advance("60s")
            twin.advance("60s")
            assert page_pinner.threshold == 500_000
            assert page_pinner.text() == twin.cat() != ""

        @pytest.mark.page_pinner(pathlib.Path("stories/every-1s-400ms.toml"), kernel="android12-5.10-early")
        def test_path_and_kernel(page_pinner, monkeypatch, tmp_path):
            page_pinner.advance("2s")
            assert [record.count for record in page_pinner.records()] == [0, 0]
            assert (page_pinner.root / "page_pinner" / "failure_tracking").exists()

        @pytest.mark.page_pinner("cma-retries", kernel="android14-6.1", mm="6.1.192", quiet_migration=True)
        def test_memory_management(page_pinner):
            page_pinner.advance("1600ms")
            assert page_pinner.stats()["allocs_failed"] == 1

        @pytest.mark.page_pinner("cma-retries", kernel="android14-6.1", cma_retries=0)
        def test_retries(page_pinner):
            page_pinner.advance("1600ms")
            assert page_pinner.stats()["allocs_failed"] == 1

        @pytest.mark.page_pinner(threshold="500ms")
        def test_threshold_as_a_time(page_pinner):
            assert page_pinner.threshold == 500_000

        def test_the_modules(page_pinner):
            page_pinner.advance("60s")
            twin = pinnerfs.Simulation(pinnerfs.load("quiet-device"))
            twin.advance("60s")
            assert page_pinner.text() == twin.cat()
        """,
        passed=6,
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "--markers", timeout=DEADLINE)
    result.stdout.fnmatch_lines(
        ["@pytest.mark.page_pinner(scenario='camera-stall', *, seed=None, *: what the fixture *"]
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("sed=7", "*@pytest.mark.page_pinner: got an unexpected keyword argument 'sed': wanted page_pinner(scenario=*"),
        (
            "'camera-stall', 7",
            "*@pytest.mark.page_pinner: too many positional arguments: wanted page_pinner(scenario=*",
        ),
        ("7", "*@pytest.mark.page_pinner: expected str, bytes or os.PathLike object, not int: wanted page_pinner(*"),
        ("'camera'", "*page_pinner: no scenario 'camera' in the gallery: wanted one of blind-spot, *"),
        ("'./missing.toml'", "*page_pinner: cannot read scenario '*/missing.toml': No such file or directory*"),
        ("seed='x'", "*page_pinner: seed = 'x': wanted a whole number from 0 to 18446744073709551615*"),
        ("threshold='1x'", "*page_pinner: threshold = '1x': wanted microseconds from 0 on, or a time such as*"),
        (
            "threshold=-1",
            "*@pytest.mark.page_pinner: threshold = -1: wanted microseconds from 0 on, or a time *",
        ),
        ("kernel='6.6'", "*page_pinner: no kernel '6.6': wanted one of introduced, *"),
    ],
)
def test_wrong_markers(pytester: pytest.Pytester, elsewhere: Path, marker: str, message: str) -> None:
    """A wrong marker is an error of the test, with a message, also on a machine that cannot mount."""
    result = run(
        pytester,
        f"""
        import pytest

        @pytest.mark.page_pinner({marker})
        def test_it(page_pinner):
            pass
        """,
        errors=1,
    )
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("During handling of*")
    assert left_over(elsewhere) == []


IDLE = "def test_it(page_pinner):\n    pass\n"


def test_without_fuse(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """A user's test without libfuse is skipped with the reason, or fails if PINNERFS_REQUIRE_FUSE=1."""
    # Python imports it at its start. It makes root mount as an ordinary user does.
    pytester.makepyfile(sitecustomize="import os; os.geteuid = lambda: 1000")
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}:{ROOT}")
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse.so")  # where fusepy looks for it
    result = run(pytester, IDLE, "-rs", skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * this machine cannot mount: cannot load libfuse 2: */nowhere/libfuse.so*"])
    monkeypatch.setenv("PINNERFS_REQUIRE_FUSE", "1")
    result = run(pytester, IDLE, errors=1)
    result.stdout.fnmatch_lines(["*page_pinner: cannot load libfuse 2: */nowhere/libfuse.so*"])
    assert left_over(elsewhere) == []


def test_without_fusermount(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """Without fusermount an ordinary user's test is skipped. Root needs none."""
    monkeypatch.setenv("PATH", "/nowhere")
    if os.geteuid() == 0:
        run(pytester, IDLE, passed=1)
        assert left_over(elsewhere) == []
        return
    result = run(pytester, IDLE, "-rs", skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * this machine cannot mount: cannot find fusermount in PATH *"])
    monkeypatch.setenv("PINNERFS_REQUIRE_FUSE", "1")
    result = run(pytester, IDLE, errors=1)
    result.stdout.fnmatch_lines(["*page_pinner: cannot find fusermount in PATH *"])
    assert left_over(elsewhere) == []


def test_a_changed_path(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A test that changes PATH, for example to stub commands, is cleaned up as well."""
    run(
        pytester,
        """
        def test_it(monkeypatch, page_pinner):  # in this order PATH comes back after the unmount
            monkeypatch.setenv("PATH", "/nowhere")
        """,
        passed=1,
    )
    assert left_over(elsewhere) == []


def test_where_mounting_is_refused(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """If /dev/fuse does not work, as in a container, the test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can hide /dev/fuse")
    pytester.makepyfile(IDLE)
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", sys.executable, "-m", "pytest"]
    done = subprocess.run([*command, *OPTIONS, "-rs"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert "1 skipped" in done.stdout and "this machine cannot mount: " in done.stdout, done.stdout + done.stderr
    assert left_over(elsewhere) == []


def test_a_daemon_that_dies(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A daemon that dies during the test is an error of the test, and leaves nothing behind."""
    result = run(
        pytester,
        """
        import os
        import select
        import signal

        def test_it(page_pinner):
            pid = int((page_pinner.root / ".pinnerfs" / "pid").read_text())
            descriptor = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            assert select.select([descriptor], [], [], 30)[0]
        """,
        passed=1,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*page_pinner: the daemon died before the unmount; its log: empty*"])
    assert left_over(elsewhere) == []


def test_a_file_left_open(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A test that leaves a file open or its working directory in the mount leaves no mount and no daemon."""
    run(
        pytester,
        """
        import os
        import select

        def test_it(page_pinner):
            os.open(page_pinner.root / "page_pinner" / "threshold", os.O_RDONLY)
            os.chdir(page_pinner.root)
            test_it.daemon = os.pidfd_open(int((page_pinner.root / ".pinnerfs" / "pid").read_text()))

        def test_gone(page_pinner):
            assert select.select([test_it.daemon], [], [], 0)[0]
        """,
        passed=2,
    )
    assert left_over(elsewhere) == []


WAITING = """
import sys

def test_one(page_pinner):
    page_pinner.advance("1s")

def test_two(page_pinner):
    pid = (page_pinner.root / ".pinnerfs" / "pid").read_text().strip()
    print("\\nMOUNTED", page_pinner.root, pid, flush=True)
    sys.stdin.readline()
    page_pinner.advance("60s")
    print(f"\\nRECORDS {len(page_pinner.records())}", flush=True)
"""


@dataclass
class Waiting:
    """A run that is in the middle of a test."""

    process: subprocess.Popen[str]
    root: Path
    daemon: int  # a pidfd

    def finish(self) -> str:
        """Let the test finish."""
        out, _ = self.process.communicate("\n", timeout=DEADLINE)
        return out

    def daemon_lives(self) -> bool:
        """Return whether the daemon runs. A signal would reach a zombie as well."""
        return not select.select([self.daemon], [], [], 0)[0]


@contextmanager
def waiting(pytester: pytest.Pytester) -> Iterator[Waiting]:
    """Start a run that mounts and waits for a line."""
    pytester.makepyfile(test_waiting=WAITING)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-s", "test_waiting.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words: list[str] = []
            while words[:1] != ["MOUNTED"]:
                line = process.stdout.readline()
                assert line, "the run ended before it had mounted"
                words = line.split()
            daemon = os.pidfd_open(int(words[2]))
            try:
                yield Waiting(process, Path(words[1]), daemon)
            finally:
                os.close(daemon)
        finally:
            process.kill()


def test_two_runs_at_once(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """Two runs at the same time do not disturb each other."""
    with waiting(pytester) as first, waiting(pytester) as second:
        assert first.root != second.root
        assert is_mounted(first.root) and is_mounted(second.root)
        ends = [first.finish(), second.finish()]
    records = [next(line for line in end.splitlines() if line.startswith("RECORDS")) for end in ends]
    assert all("2 passed" in end for end in ends), ends
    assert records[0] == records[1] != "RECORDS 0"
    assert left_over(elsewhere) == []


def parent_of(process: int) -> int:
    """Return the pid of the parent of a pidfd's process: of a daemon, the process that forked it."""
    found = re.search(r"^Pid:\s+(\d+)$", Path(f"/proc/self/fdinfo/{process}").read_text(), re.MULTILINE)
    assert found is not None
    return int(Path(f"/proc/{found[1]}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_killed_run(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """The mount and the daemon of a killed run end, and those of a running one do not."""
    with waiting(pytester) as living:
        with waiting(pytester) as killed:
            server = parent_of(killed.daemon)
            killed.process.kill()
            killed.process.wait(DEADLINE)
            assert ended(server, DEADLINE)
            assert not is_mounted(killed.root) and not killed.root.parent.exists()
            assert not killed.daemon_lives()
        assert is_mounted(living.root) and living.daemon_lives()
        assert "2 passed" in living.finish()
    assert left_over(elsewhere) == []


def test_cleaning_up_after_a_killed_run(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """If the process that forks daemons was killed before, the next run ends the mount and the daemon."""
    with waiting(pytester) as living:
        with waiting(pytester) as killed:
            server = parent_of(killed.daemon)
            os.kill(server, signal.SIGKILL)
            assert ended(server, DEADLINE)
            killed.process.kill()
            killed.process.wait(DEADLINE)
            assert is_mounted(killed.root) and killed.daemon_lives()
            # It need not use the fixture.
            run(pytester, "def test_nothing():\n    pass\n", "test_cleaning_up_after_a_killed_run.py", passed=1)
            assert not is_mounted(killed.root) and not killed.root.parent.exists()
            assert not killed.daemon_lives()
        assert is_mounted(living.root) and living.daemon_lives()
        assert "2 passed" in living.finish()
    assert left_over(elsewhere) == []


def test_cleaning_up_a_dead_mount(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """If a run and its daemon were both killed, and nothing cleaned up, the next run unmounts the dead mount."""
    with waiting(pytester) as killed:
        os.kill(parent_of(killed.daemon), signal.SIGKILL)
        killed.process.kill()
        killed.process.wait(DEADLINE)
        signal.pidfd_send_signal(killed.daemon, signal.SIGKILL)
        run(pytester, "def test_nothing():\n    pass\n", "test_cleaning_up_a_dead_mount.py", passed=1)
        assert not is_mounted(killed.root)
    assert left_over(elsewhere) == []


EACH = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_it(page_pinner, number):
    page_pinner.advance("60s")
    assert page_pinner.records()
    with open("used", "a") as file:
        stat = open(f"/proc/{int(page_pinner.read('pid'))}/stat").read()
        file.write(stat.rpartition(")")[2].split()[1] + "\\n")
"""


def servers(pytester: pytest.Pytester) -> set[int]:
    """Return the processes that forked the daemons of the tests in `EACH`."""
    return set(map(int, (pytester.path / "used").read_text().split()))


def test_one_process_forks_all_daemons(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """The daemons of a run come from one process, which has ended when the run has."""
    run(pytester, EACH, "-W", "ignore", passed=6)
    (server,) = servers(pytester)
    assert ended(server, 0)
    assert left_over(elsewhere) == []


def test_workers(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """Each worker of pytest-xdist has a process of its own, which has ended soon after the run."""
    run(pytester, EACH, "-W", "ignore", "-n", "2", passed=6)
    assert len(servers(pytester)) == 2
    assert all(ended(server, DEADLINE) for server in servers(pytester))
    assert left_over(elsewhere) == []


def test_imports() -> None:
    """The plugin imports no large library, and pinnerfs itself does not import pytest."""
    for imports, heavy in (
        ("pytest, pinnerfs.pytest_plugin", {"numpy", "fuse", "click", "msgspec"}),
        ("pinnerfs, pinnerfs.cli, pinnerfs.client; pinnerfs.Simulation", {"pytest", "_pytest"}),
    ):
        code = f"import sys; import {imports}; print(*sorted({heavy!r} & set(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        assert done.stdout == "\n"
