"""A mount answers before its daemon imports numpy and builds the simulation."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, environment, is_mounted, pinnerfs, run_command, scenario

# Builds the simulation when the FIFO of the first argument has a writer. It builds none if the writer writes.
SLOWLY = (
    sys.executable,
    "-c",
    """
import sys
from pinnerfs.cli import engine
fifo, build = sys.argv.pop(1), engine._build
def slowly(*arguments):
    with open(fifo) as file:
        if error := file.read():
            raise OSError(error)
    return build(*arguments)
engine._build = slowly
import pinnerfs.cli
pinnerfs.cli.main()
""",
)

# Prints whether numpy is loaded when the daemon's process starts, and starts none.
LOADED = (
    sys.executable,
    "-c",
    """
import os, sys
from pinnerfs.daemon.daemon import Daemon
Daemon.start = Daemon.run = lambda *_: print("numpy" in sys.modules, flush=True) or os._exit(0)
import pinnerfs.cli
pinnerfs.cli.main()
""",
)

# Runs pinnerfs where numpy is not installed.
WITHOUT_NUMPY = (
    sys.executable,
    "-c",
    """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *others: None if name == "numpy" else find(name, *others)
import pinnerfs.cli
pinnerfs.cli.main()
""",
)


class Building:
    """A mount whose daemon waits before it builds the simulation."""

    def __init__(self, mounts: Mounts, *options: str) -> None:
        self.fifo = mounts.directory / "fifo"
        os.mkfifo(self.fifo)
        self.device = mounts.add("mnt")
        log = ["--log", str(self.device.log)]
        source = str(scenario(mounts.directory))
        done = run_command([*SLOWLY, str(self.fifo), "mount", source, str(self.device.path), *log, *options])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        mounts.watch(self.device)

    def go_on(self, error: str = "") -> None:
        """Let the daemon build, or fail with an error."""
        self.fifo.write_text(error)


@contextmanager
def _reader(device: Mount) -> Iterator[subprocess.Popen[bytes]]:
    """Read the threshold in another process. Yield it when it has opened the file."""
    code = f"import os; print(os.open({str(device.threshold)!r}, os.O_RDONLY), flush=True); print(os.read(3, 100))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"3\n"
            yield process
        finally:
            process.kill()


def test_what_needs_no_simulation(mount: Mounts) -> None:
    """Before the simulation is built, the mount shows its files and its control files. A reader waits for it."""
    building = Building(mount, "--clock", "manual")
    device = building.device
    assert {*os.listdir(device.path)} == {"page_pinner", "cma"}
    assert device.records.stat().st_mode & 0o777 == 0o444
    assert device.control("inject") == ""
    with _reader(device) as reader:
        building.go_on()
        assert reader.communicate(timeout=DEADLINE) == (b"b'300000\\n'\n", b"")
    device.advance("2s")
    assert len(device.read_all()) == 2


def test_umount(mount: Mounts) -> None:
    """While the daemon builds the simulation, `umount` unmounts and waits until the daemon has ended."""
    device = Building(mount).device
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert device.gone(0)
    assert not is_mounted(device.path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("read", [False, True])
def test_signals(mount: Mounts, number: signal.Signals, read: bool) -> None:
    """A signal ends a daemon that builds the simulation, also while a reader waits for it."""
    device = Building(mount).device
    if read:
        with _reader(device) as reader:
            os.kill(device.pid, number)
            assert device.gone()
            assert reader.wait(DEADLINE) == 1
    else:
        os.kill(device.pid, number)
        assert device.gone()
    assert not is_mounted(device.path)


def test_a_failure(mount: Mounts) -> None:
    """If the simulation cannot be built, the daemon logs why, unmounts and ends. A reader gets an error."""
    building = Building(mount)
    device = building.device
    with _reader(device) as reader:
        building.go_on("no memory left")
        _, stderr = reader.communicate(timeout=DEADLINE)
        assert any(f"[Errno {number}]" in stderr.decode() for number in (errno.EIO, errno.ECONNABORTED, errno.ENOTCONN))
    assert device.gone()
    assert not is_mounted(device.path)
    log = device.log.read_text()
    assert "ERROR unmounting: cannot build the device: no memory left\n" in log and "Traceback" in log
    device.log.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount other file systems")
def test_a_failure_below_another_mount(mount: Mounts) -> None:
    """If the simulation cannot be built, a reader gets EIO, also while another mount prevents the unmount."""
    building = Building(mount)
    device = building.device
    with _reader(device) as reader:
        subprocess.run(["mount", "-t", "tmpfs", "none", device.path], check=True)
        try:
            building.go_on("no memory left")
            _, stderr = reader.communicate(timeout=DEADLINE)
        finally:
            subprocess.run(["umount", device.path], check=True)
    assert f"[Errno {errno.EIO}]" in stderr.decode()
    assert device.gone()
    assert not is_mounted(device.path)
    assert "another mount covers it" in device.log.read_text()
    device.log.unlink()


@contextmanager
def _run(directory: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command with a mount whose daemon waits before it builds the simulation."""
    os.mkfifo(directory / "fifo")
    words = [*SLOWLY, str(directory / "fifo"), "run", str(scenario(directory)), "--", *command]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _has_debugfs() -> bool:
    return os.path.isdir("/sys/kernel/debug")


needs_debugfs = pytest.mark.skipif(not _has_debugfs(), reason="this kernel has no /sys/kernel/debug")


@needs_debugfs
def test_run_does_not_wait(mount: Mounts) -> None:
    """`run` starts its command, and ends with it, before the simulation is built."""
    with _run(mount.directory, "ls", "/sys/kernel/debug") as process:
        assert process.communicate(timeout=DEADLINE) == ("cma\npage_pinner\n", "")
    assert process.returncode == 0


@needs_debugfs
def test_run_reports_a_failure(mount: Mounts) -> None:
    """If the simulation of `run` cannot be built, its files stop answering, and `run` says so at the end."""
    script = "echo begun; while test -d /sys/kernel/debug/.pinnerfs; do sleep 0.01; done"
    with _run(mount.directory, "sh", "-c", script) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        (mount.directory / "fifo").write_text("no memory left")
        stdout, stderr = process.communicate(timeout=DEADLINE)
    assert stdout == ""
    assert "the daemon exited with status 1 while the command ran: its files stopped answering\n" in stderr


@pytest.mark.parametrize(
    ("options", "loaded"),
    [
        ([], False),
        (["--clock", "manual"], False),
        (["-f"], True),
        (["--start", "1us"], True),
        (["--clock", "manual", "--start", "1us"], True),
        (["--speed", "1000", "--seed", "1"], False),
    ],
    ids=str,
)
def test_when_to_build_first(mount: Mounts, options: list[str], loaded: bool) -> None:
    """The simulation is built before the mount if that can take long, or if its errors go to the terminal."""
    source, device = scenario(mount.directory), mount.add("mnt")
    done = run_command([*LOADED, "mount", str(source), str(device.path), *options])
    assert (done.stdout, done.stderr) == (f"{loaded}\n", "")


def test_a_clock_that_may_be_too_fast(mount: Mounts) -> None:
    """The simulation is built before the mount if this machine may be too slow for the clock, to warn of that."""
    source, device = scenario(mount.directory, every="10us", hold="1us"), mount.add("mnt")
    done = run_command([*LOADED, "mount", str(source), str(device.path), "--speed", "1000"])
    assert done.stdout == "True\n"


@pytest.mark.parametrize("size", ["16GiB", "17GiB"])
def test_a_large_memory(mount: Mounts, size: str) -> None:
    """The simulation is built before the mount if its memory may be more than this machine has."""
    source, device = scenario(mount.directory), mount.add("mnt")
    source.write_text(source.read_text().replace("64MiB", size))
    done = run_command([*LOADED, "mount", str(source), str(device.path)])
    assert (done.stdout, done.stderr) == (f"{size == '17GiB'}\n", "")


@pytest.mark.parametrize(
    "options",
    [["--mountpoint", "/tmp"], ["--android"]],
    ids=" ".join,
)
def test_run_builds_first(mount: Mounts, options: list[str]) -> None:
    """`run` builds first over another directory, which may have the files of numpy, and for --android."""
    code = LOADED[2].replace(
        "import pinnerfs.cli\n", "from pinnerfs.daemon import runner\nrunner.run = Daemon.run\nimport pinnerfs.cli\n"
    )
    done = run_command([sys.executable, "-c", code, "run", str(scenario(mount.directory)), *options, "--", "true"])
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    "command", ["mount camera-stall {}", "run --mountpoint {} camera-stall -- true", "dump camera-stall --at 1s"]
)
def test_without_numpy(mount: Mounts, command: str) -> None:
    """If numpy is not installed, a command that needs it says so before it returns. Nothing stays mounted."""
    path = mount.add("mnt").path
    done = run_command([*WITHOUT_NUMPY, *command.format(path).split()])
    wanted = "Error: cannot find numpy; wanted it to be installed (python3 -m pip install numpy)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", wanted)
    assert not is_mounted(path)


@pytest.mark.parametrize("file", ["numpy.py", "numpy/__init__.py"])
@pytest.mark.parametrize("command", ["mount -f camera-stall {}", "dump camera-stall --at 1s"])
def test_a_wrong_numpy(mount: Mounts, command: str, file: str) -> None:
    """If Python finds another numpy or a broken one, a command that needs it prints one line and no traceback."""
    wrong = mount.directory / "wrong" / file
    wrong.parent.mkdir(parents=True)
    wrong.write_text('raise ImportError("a message\\nof two lines") from ValueError("no libgfortran")\n')
    code = f"import sys; sys.path.insert(0, {str(mount.directory / 'wrong')!r}); import pinnerfs.cli as c; c.main()"
    done = run_command([sys.executable, "-c", code, *command.format(mount.add("mnt").path).split()])
    reasons = {
        "numpy.py": f"Python finds {wrong} in place of numpy; wanted another name for it",
        "numpy/__init__.py": "cannot import numpy: no libgfortran; wanted it installed anew "
        "(python3 -m pip install --force-reinstall numpy)",
    }
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {reasons[file]}\n")


def test_run_with_a_broken_numpy(mount: Mounts) -> None:
    """If the simulation cannot be built after the mount, `run` tells it, also if the command ends before the daemon."""
    wrong, runs = mount.directory / "wrong" / "numpy", mount.directory / "runs"
    wrong.mkdir(parents=True)
    waits = f"import os, time\nwhile not os.path.exists({str(runs)!r}):\n    time.sleep(0.01)\nraise ImportError\n"
    (wrong / "__init__.py").write_text(waits)
    # The command ends while the daemon logs the error.
    slow = "import logging, time; logging.Logger.error = lambda *_, **options: time.sleep(0.5)"
    code = f"{slow}; import sys; sys.path.insert(0, {str(wrong.parent)!r}); import pinnerfs.cli as c; c.main()"
    read = f"touch '{runs}'; cat /sys/kernel/debug/page_pinner/threshold 2> /dev/null"
    done = run_command([sys.executable, "-c", code, "run", "camera-stall", "--", "sh", "-c", read])
    notice = "the daemon exited with status 1 while the command ran: its files stopped answering\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", notice)


def test_run_without_numpy(mount: Mounts) -> None:
    """`run` says it before the command starts, also where it would build the simulation later."""
    marker = mount.directory / "marker"
    done = run_command([*WITHOUT_NUMPY, "run", "camera-stall", "--", "touch", str(marker)])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: cannot find numpy; ")
    assert not marker.exists()
