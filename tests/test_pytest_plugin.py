"""The pytest plugin, used by test files of their own in runs of their own."""

from __future__ import annotations

import os
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

from pinnerfs.testing.folders import sweep
from tests.mount.conftest import machine_can_mount
from tests.mount.support import DEADLINE, ROOT, is_mounted, mount_table, scenario

__all__ = ["machine_can_mount"]

pytest_plugins = "pytester"
pytestmark = pytest.mark.mount

# An installed pinnerfs brings its plugin along; a mere checkout does not.
LOAD = [] if "pinnerfs" in entry_points(group="pytest11").names else ["-p", "pinnerfs.pytest_plugin"]
OPTIONS = [*LOAD, "--strict-markers", "-W", "error", "-p", "no:cacheprovider"]


@pytest.fixture(autouse=True)
def elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs use this checkout and a temporary folder of their own, which is swept, whatever a test left there."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    monkeypatch.delenv("PINNERFS_REQUIRE_FUSE", raising=False)
    yield pytester.path / "temporary"
    monkeypatch.undo()  # the PATH of a test may lack what it takes to unmount
    monkeypatch.setattr(tempfile, "tempdir", str(pytester.path / "temporary"))
    sweep()


def left_over(temporary: Path) -> list[str]:
    """Mounts, and what else lies about."""
    mounts = [line for line in mount_table() if str(temporary) in line]
    return mounts + sorted(path.name for path in temporary.iterdir() if not path.name.startswith("pytest-of-"))


def run(pytester: pytest.Pytester, test: str, *options: str, **outcomes: int) -> pytest.RunResult:
    """Run the text of a test file."""
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess(*OPTIONS, *options, timeout=DEADLINE)
    result.assert_outcomes(**outcomes)
    return result


def test_the_fixture(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A mounted camera-stall whose clock stands still; time, threshold, text and records are those of a simulation."""
    run(
        pytester,
        """
        import os
        import subprocess
        import pinnerfs

        def test_it(page_pinner):
            twin = pinnerfs.Simulation(pinnerfs.load("camera-stall"))
            assert os.path.ismount(page_pinner.root)
            assert page_pinner.threshold == 300_000 and page_pinner.text() == "" and page_pinner.records() == []
            for time in ("5s", "25s"):
                page_pinner.advance(time)
                twin.advance(time)
            assert page_pinner.text() == twin.longterm_pinner() != ""
            assert page_pinner.records() == list(twin.records())
            assert isinstance(page_pinner.records()[0], pinnerfs.Record)
            cat = subprocess.run(["cat", page_pinner.root / "page_pinner" / "longterm_pinner"], capture_output=True)
            assert cat.stdout.decode() == page_pinner.text()

        def test_threshold(page_pinner):
            page_pinner.advance("60s")
            assert page_pinner.records()
            page_pinner.threshold = 1_000_000
            assert page_pinner.threshold == 1_000_000 and page_pinner.records() == []
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
    """A file of 4096 records is read to its end, whatever their length."""
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
    """It says scenario, seed, threshold and kernel; a path is seen from the test's file; the nearest marker counts."""
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
            assert page_pinner.text() == twin.longterm_pinner() != ""

        @pytest.mark.page_pinner(pathlib.Path("stories/every-1s-400ms.toml"), kernel="android12-5.10-early")
        def test_path_and_kernel(page_pinner, monkeypatch, tmp_path):
            page_pinner.advance("2s")
            assert [record.count for record in page_pinner.records()] == [0, 0]
            assert (page_pinner.root / "page_pinner" / "failure_tracking").exists()

        def test_the_modules(page_pinner):
            page_pinner.advance("60s")
            twin = pinnerfs.Simulation(pinnerfs.load("quiet-device"))
            twin.advance("60s")
            assert page_pinner.text() == twin.longterm_pinner()
        """,
        passed=3,
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "--markers", timeout=DEADLINE)
    result.stdout.fnmatch_lines(
        ["@pytest.mark.page_pinner(scenario='camera-stall', *, seed=None, *: what the fixture *"]
    )


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("sed=7", "*@pytest.mark.page_pinner: got an unexpected keyword argument 'sed': wanted page_pinner(scenario=*"),
        (
            "'camera-stall', 7",
            "*@pytest.mark.page_pinner: too many positional arguments: wanted page_pinner(scenario=*",
        ),
        ("7", "*@pytest.mark.page_pinner: expected str, bytes or os.PathLike object, not int: wanted page_pinner(*"),
        ("'camera'", "*page_pinner: no scenario 'camera' in the gallery: wanted one of blind-spot, *"),
        ("'./missing.toml'", "*page_pinner: cannot read scenario '*/missing.toml': No such file or directory*"),
        ("seed='x'", "*page_pinner: Invalid value for '--seed': 'x' is not a valid integer range.*"),
        ("threshold='1s'", "*page_pinner: Invalid value for '--threshold': '1s': something stands behind*"),
        ("kernel='6.6'", "*page_pinner: Invalid value for '--kernel': '6.6' is not one of *"),
    ],
)
def test_wrong_markers(pytester: pytest.Pytester, elsewhere: Path, marker: str, words: str) -> None:
    """A wrong marker is an error of the test, in words, whatever else the machine can do."""
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
    result.stdout.fnmatch_lines([words])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert left_over(elsewhere) == []


IDLE = "def test_it(page_pinner):\n    pass\n"


def test_without_fuse(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """Where libfuse is missing the test is skipped with the reason, or fails where that is not allowed."""
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse.so")  # where fusepy looks for it
    result = run(pytester, IDLE, "-rs", skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * this machine cannot mount: cannot load libfuse 2: */nowhere/libfuse.so*"])
    monkeypatch.setenv("PINNERFS_REQUIRE_FUSE", "1")
    result = run(pytester, IDLE, errors=1)
    result.stdout.fnmatch_lines(["*page_pinner: cannot load libfuse 2: */nowhere/libfuse.so*"])
    assert left_over(elsewhere) == []


def test_without_fusermount(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    """What could not be unmounted is not mounted, by root neither: the test is skipped, or fails."""
    monkeypatch.setenv("PATH", "/nowhere")
    result = run(pytester, IDLE, "-rs", skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * this machine cannot mount: cannot find fusermount in PATH *"])
    monkeypatch.setenv("PINNERFS_REQUIRE_FUSE", "1")
    result = run(pytester, IDLE, errors=1)
    result.stdout.fnmatch_lines(["*page_pinner: cannot find fusermount in PATH *"])
    assert left_over(elsewhere) == []


def test_a_path_of_the_tests_own(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A test that changes PATH, as one with stubs for commands does, is cleaned up after like any other."""
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
    """A /dev/fuse that does not work, as in a container, makes the test be skipped."""
    if os.geteuid() != 0:
        pytest.skip("only root can hide /dev/fuse")
    pytester.makepyfile(IDLE)
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", sys.executable, "-m", "pytest"]
    done = subprocess.run([*command, *OPTIONS, "-rs"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert "1 skipped" in done.stdout and "this machine cannot mount: " in done.stdout, done.stdout + done.stderr
    assert left_over(elsewhere) == []


def test_a_daemon_that_dies(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A daemon that is gone before the test is over is an error of the test, and nothing is left of it."""
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
    result.stdout.fnmatch_lines(["*page_pinner: the daemon had died before the test was over; its log: empty*"])
    assert left_over(elsewhere) == []


def test_a_daemon_that_hangs(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A daemon that does not answer in time is ended, whatever the test asks of it, and nothing is left of it."""
    result = run(
        pytester,
        """
        import os
        import signal
        from pathlib import Path
        import pytest
        from pinnerfs import PinnerfsError
        from pinnerfs.testing import folders, page_pinner as module

        def set_threshold(device):
            device.threshold = 1

        @pytest.mark.parametrize("ask", [
            lambda device: device.advance("1s"),
            lambda device: device.do("pin task=camera pages=1"),
            lambda device: device.threshold,
            set_threshold,
            lambda device: device.text(),
            lambda device: device.records(),
        ])
        def test_it(ask, page_pinner, monkeypatch):
            monkeypatch.setattr(module, "CALL_DEADLINE", 0)
            monkeypatch.setattr(folders, "PATIENCE", 0)
            pid = int((page_pinner.root / ".pinnerfs" / "pid").read_text())
            os.kill(pid, signal.SIGSTOP)
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                os.sched_yield()
            with pytest.raises(PinnerfsError, match="the daemon was ended: it has not answered within 0 s"):
                ask(page_pinner)
        """,
        passed=6,
        errors=6,
    )
    result.stdout.fnmatch_lines(["*page_pinner: the daemon had died before the test was over; its log: empty*"])
    assert left_over(elsewhere) == []


def test_a_file_left_open(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A test that leaves a file of the mount open, or its working folder there, leaves no mount and no daemon."""
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
    """A run in the midst of a test."""

    process: subprocess.Popen[str]
    root: Path
    daemon: int  # a pidfd

    def finish(self) -> str:
        """Let the test go on to its end."""
        out, _ = self.process.communicate("\n", timeout=DEADLINE)
        return out

    def daemon_lives(self) -> bool:
        """Not by a signal to it: that reaches a process, too, which nobody has waited for yet."""
        return not select.select([self.daemon], [], [], 0)[0]


@contextmanager
def waiting(pytester: pytest.Pytester) -> Iterator[Waiting]:
    """A run that has mounted, and waits for a line."""
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
    """Runs side by side mount at paths of their own, and neither disturbs the other."""
    with waiting(pytester) as first, waiting(pytester) as second:
        assert first.root != second.root
        assert is_mounted(first.root) and is_mounted(second.root)
        ends = [first.finish(), second.finish()]
    records = [next(line for line in end.splitlines() if line.startswith("RECORDS")) for end in ends]
    assert all("2 passed" in end for end in ends), ends
    assert records[0] == records[1] != "RECORDS 0"
    assert left_over(elsewhere) == []


def test_what_a_killed_run_leaves_is_swept(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """The next session takes down the mount and daemon of a run that was killed, and leaves a living one's alone."""
    with waiting(pytester) as living:
        with waiting(pytester) as killed:
            killed.process.kill()
            killed.process.wait(DEADLINE)
            assert is_mounted(killed.root) and killed.daemon_lives()
            # A session that does not even use the fixture.
            run(pytester, "def test_nothing():\n    pass\n", "test_what_a_killed_run_leaves_is_swept.py", passed=1)
            assert not is_mounted(killed.root) and not killed.root.parents[1].exists()
            assert not killed.daemon_lives()
        assert is_mounted(living.root) and living.daemon_lives()
        assert "2 passed" in living.finish()
    assert left_over(elsewhere) == []


def test_a_dead_mount_is_swept(pytester: pytest.Pytester, elsewhere: Path) -> None:
    """A run and its daemon were both killed: the dead mount goes as well."""
    with waiting(pytester) as killed:
        killed.process.kill()
        killed.process.wait(DEADLINE)
        signal.pidfd_send_signal(killed.daemon, signal.SIGKILL)
        run(pytester, "def test_nothing():\n    pass\n", "test_a_dead_mount_is_swept.py", passed=1)
        assert not is_mounted(killed.root)
    assert left_over(elsewhere) == []


def test_imports() -> None:
    """The plugin costs a run of pytest no heavy import, and pinnerfs itself does without pytest."""
    for imports, heavy in (
        ("pytest, pinnerfs.pytest_plugin", {"numpy", "fuse", "click", "msgspec"}),
        ("pinnerfs, pinnerfs.cli, pinnerfs.testing.page_pinner; pinnerfs.Simulation", {"pytest", "_pytest"}),
    ):
        code = f"import sys; import {imports}; print(*sorted({heavy!r} & set(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        assert done.stdout == "\n"
