"""Mounting from Python, and a client for a mount."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinnerfs
from pinnerfs import mounting
from pinnerfs.client import Client
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounting import MountedDevice, mounted
from pinnerfs.mounts import directories
from pinnerfs.mounts.unmount import fusermount
from tests.mount.conftest import machine_can_mount
from tests.mount.support import DEADLINE, is_mounted

__all__ = ["machine_can_mount"]

pytestmark = pytest.mark.mount


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a directory for temporary files, and check after the test that it is empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    fusermount.cache_clear()  # the cache is shared with other tests
    left = sorted(tmp_path.iterdir())
    for directory in left:
        directories.remove_directory(directory)
    assert left == []


def pid_of(device: Client) -> int:
    return int(device.read("pid"))


def test_a_mount_like_the_simulation() -> None:
    """A mounted scenario has the text, the records and the counters of a Simulation at the same moment."""
    name, kernel = "core-dump-slow-disk", "android12-5.10-early"
    twin = pinnerfs.Simulation(pinnerfs.load(name), seed=7, threshold=500_000, kernel=kernel)
    with pinnerfs.mounted(name, seed=7, threshold="500ms", kernel=kernel) as device:
        assert device.root.is_dir() and os.path.ismount(device.root)
        assert (device.threshold, device.text(), device.records(), device.clock()) == (500_000, "", [], 0)
        device.advance("60s")
        twin.advance("60s")
        assert device.clock() == 60_000_000
        assert device.text() == twin.cat() != ""
        assert device.records() == list(twin.records())
        assert device.stats() == twin.stats()
    assert not is_mounted(device.root) and not device.root.exists()


def test_actions() -> None:
    """Pages can be pinned live, and a wrong action is an error with the daemon's reason."""
    with mounted() as device:
        device.do("pin task=camera pages=64 hold=900ms")
        device.advance("900ms")
        assert [record.ts for record in device.records()] == [900_000] * 64
        with pytest.raises(PinnerfsError, match=r"^cannot do the actions: "):
            device.do("pin nothing")
        with pytest.raises(PinnerfsError, match=r"^cannot advance the clock: advance = 'soon' must be a number and a"):
            device.advance("soon")
        with pytest.raises(PinnerfsError, match=r"^cannot read nothing: No such file or directory$"):
            device.read("nothing")


def test_faults() -> None:
    """Rules of faults hit calls of this process, too; a wrong one is an error with the daemon's reason."""
    with mounted() as device:
        device.inject("add,op=read,file=threshold,errno=EIO,times=1\nadd,op=open,file=longterm_pinner,errno=EPERM")
        with pytest.raises(OSError, match="Input/output error"):
            _ = device.threshold
        assert device.threshold == 300_000
        with pytest.raises(PermissionError):
            device.text()
        with pytest.raises(
            PinnerfsError, match=r"^cannot inject the faults: line 2: errno = 'EOI' is unknown: it must"
        ):
            device.inject("removeall\nadd,errno=EOI")
        assert [line.rpartition(" ")[2] for line in device.read("inject").splitlines()] == ["fired=1", "fired=1"]
        device.inject("removeall")
        assert (device.read("inject"), device.text()) == ("", "")


@pytest.mark.parametrize(
    ("value", "reads"), [("1s", 1_000_000), (5, 5), ("0x10", 16), (0, 0), ((1 << 64) - 1, -1), ("300ms", 300_000)]
)
def test_setting_the_threshold(value: int | str, reads: int) -> None:
    """The threshold can be set to a time or a number, and that clears the records."""
    with mounted("camera-stall") as device:
        device.advance("60s")
        assert device.records()
        device.threshold = value
        assert (device.threshold, device.records()) == (reads, [])


def test_a_wrong_threshold() -> None:
    """A negative threshold is refused, before and after the mount, and changes nothing."""
    wanted = 'threshold = -1: wanted microseconds from 0 on, or a time such as "300ms"'
    with pytest.raises(ValueError) as error, mounted(threshold=-1):
        pytest.fail("it has mounted")
    assert str(error.value) == wanted
    with mounted(threshold=18446744073709551615) as device:
        assert device.threshold == -1
        with pytest.raises(ValueError) as error:
            device.threshold = -1
        assert str(error.value) == wanted
        assert device.threshold == -1


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is relative to the working directory."""
    (tmp_path / "scenarios").mkdir()
    text = pinnerfs.gallery()["camera-stall"].read_text()
    (tmp_path / "scenarios" / "mine.toml").write_text(text)
    monkeypatch.chdir(tmp_path / "scenarios")
    with mounted("mine.toml") as by_name, mounted(Path("mine.toml")) as by_path:
        for device in (by_name, by_path):
            device.advance("30s")
        assert by_name.text() == by_path.text() != ""
        assert by_name.root != by_path.root
    os.unlink("mine.toml")
    os.rmdir(tmp_path / "scenarios")


def test_a_real_clock() -> None:
    """With a real clock time passes by itself, and cannot be advanced."""
    with mounted(clock="real") as device:
        with pytest.raises(PinnerfsError, match=r"^cannot advance the clock: "):
            device.advance("1s")
        start = device.clock()
        assert device.clock() > start


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ({"scenario": "camera"}, 2, "no scenario 'camera' in the gallery: wanted one of blind-spot, "),
        ({"scenario": "./no.toml"}, 2, "cannot read scenario '/.*/no.toml': No such file or directory"),
        ({"scenario": "--help"}, 2, "no scenario '--help' in the gallery: wanted one of blind-spot, "),
    ],
)
def test_a_mount_that_fails(arguments: dict[str, object], status: int, message: str) -> None:
    """A failed mount raises the error of `pinnerfs mount`, with its exit status."""
    with pytest.raises(PinnerfsError, match=f"^{message}") as error, mounted(**arguments):  # type: ignore[arg-type]
        pytest.fail("it has mounted")
    assert error.value.exit_status == status


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "android14-6.1", "mm": "6.1.192"},
        {"kernel": "android14-6.1", "cma_retries": 2},
        {"kernel": "android14-6.1", "quiet_migration": True},
        {"kernel": "pixel-5.10", "mm": "android14-5.15", "cma_retries": 1, "quiet_migration": True},
    ],
)
def test_the_memory_management_of_a_mount(options: dict[str, Any]) -> None:
    """Its options are those of a Simulation, and each changes what a failing allocation leaves."""
    twin = pinnerfs.Simulation(pinnerfs.load("cma-retries"), **options)
    plain = pinnerfs.Simulation(pinnerfs.load("cma-retries"), kernel=options["kernel"])
    file = twin.generation.failure_file
    with mounted("cma-retries", **options) as device:
        for one in (device, twin, plain):
            one.advance("4s")
        assert device.text(file) == twin.cat(file) != plain.cat(file)
        assert device.stats() == twin.stats()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "-"}, "scenario = '-': wanted a name or a path: the daemon has no standard input"),
        ({"seed": -1}, "seed = -1: wanted a whole number from 0 to 18446744073709551615"),
        ({"seed": 1 << 64}, "seed = 18446744073709551616: wanted a whole number from 0 to 18446744073709551615"),
        ({"seed": "x"}, "seed = 'x': wanted a whole number from 0 to 18446744073709551615"),
        (
            {"kernel": "6.6"},
            "no kernel '6.6': wanted one of introduced, android12-5.10-early, android12-5.10, pixel-5.10, "
            "android13-5.10-buffer, android14-5.15, android14-6.1, android15-6.6",
        ),
        (
            {"mm": "6.6"},
            "no mm '6.6': wanted one of 6.1.192, android12-5.10, pixel-5.10, android14-5.15, android14-6.1",
        ),
        ({"cma_retries": -1}, "cma_retries = -1: wanted a whole number from 0 to 1000"),
        ({"cma_retries": True}, "cma_retries = True: wanted a whole number from 0 to 1000"),
        ({"clock": "atomic"}, "clock = 'atomic': wanted one of manual, real"),
    ],
)
def test_a_wrong_argument(arguments: dict[str, object], message: str) -> None:
    """A wrong argument is an error that names it, and nothing is mounted."""
    with pytest.raises(PinnerfsError) as error, mounted(**arguments):  # type: ignore[arg-type]
        pytest.fail("it has mounted")
    assert str(error.value) == message


def test_the_records_of_a_kernel_with_two_files() -> None:
    """The client reads the kernel's main file unless it is told another one."""
    twin = pinnerfs.Simulation(pinnerfs.load("every-kernel"), kernel="pixel-5.10")
    twin.advance("10s")
    with mounted("every-kernel", kernel="pixel-5.10") as device:
        device.advance("10s")
        assert device.records() == list(twin.records()) == device.records("longterm_pinner")
        assert [record.count for record in device.records()] == 10 * [2]
        assert device.text("alloc_contig_failed") == twin.cat("alloc_contig_failed")
        freed = device.records("alloc_contig_failed")
        assert freed == list(twin.records("alloc_contig_failed"))
        assert [(record.kind, record.ts, record.moment) for record in freed[:1]] == [("FREE", None, 9_500_000)]
        with pytest.raises(
            ValueError, match=r"^file = 'buffer': this kernel has the record files longterm_pinner, all"
        ):
            device.records("buffer")


def test_a_kernel_without_a_threshold() -> None:
    """The property is refused with the reason, and records() reads `buffer`."""
    reason = r"^this kernel has no threshold: it records failed migrations alone"
    with mounted("every-kernel", kernel="android14-6.1") as device:
        device.advance("10s")
        assert (device.text(), device.records(), device.records("buffer")) == ("", [], [])
        with pytest.raises(ValueError, match=reason):
            _ = device.threshold
        with pytest.raises(ValueError, match=reason):
            device.threshold = 1
    with (
        pytest.raises(ValueError, match=r"^kernel android14-6\.1 has no threshold: "),
        mounted("every-kernel", kernel="android14-6.1", threshold="1s"),
    ):
        pytest.fail("it has mounted")


def test_a_mount_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that does not answer before the timeout is an error."""
    monkeypatch.setattr(mounting, "MOUNT_TIMEOUT", 0)
    with pytest.raises(PinnerfsError, match=r"^pinnerfs mount camera-stall /.* did not finish within 0 s$"), mounted():
        pytest.fail("it has mounted")


def test_an_exception_inside() -> None:
    """The mount ends when the block raises an exception."""
    with pytest.raises(KeyError), mounted() as device:
        raise KeyError
    assert not is_mounted(device.root) and not device.root.exists()


def test_a_daemon_that_dies() -> None:
    """If the daemon has died, the end of the block is an error."""
    with (
        pytest.raises(PinnerfsError, match=r"^the daemon died before the unmount; its log: empty$"),
        mounted() as device,
    ):
        daemon = os.pidfd_open(pid_of(device))
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
        assert select.select([daemon], [], [], DEADLINE)[0]
        os.close(daemon)


def set_threshold(device: MountedDevice) -> None:
    device.threshold = 1


@pytest.mark.parametrize(
    "call",
    [
        lambda device: device.advance("1s"),
        lambda device: device.do("pin task=camera pages=1"),
        lambda device: device.threshold,
        set_threshold,
        lambda device: device.text(),
        lambda device: device.records(),
        lambda device: device.stats(),
        lambda device: device.clock(),
    ],
)
def test_a_daemon_that_hangs(call: Callable[[MountedDevice], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that does not answer in time is killed."""
    with pytest.raises(PinnerfsError, match=r"^the daemon died before the unmount"), mounted() as device:
        monkeypatch.setattr(device, "_max_wait", 0)
        monkeypatch.setattr(directories, "END_TIMEOUT", 0)
        pid = int((device.root / ".pinnerfs" / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            os.sched_yield()
        with pytest.raises(PinnerfsError, match=r"^ended the daemon: it did not answer within 0 s$"):
            call(device)


def test_a_client_of_another_process(tmp_path: Path) -> None:
    """A Client works on an existing mount, and its absence is an error."""
    with mounted() as device:
        other = Client(device.root)
        other.advance("60s")
        assert other.text() == device.text() != ""
        cat = subprocess.run(
            ["cat", other.root / "page_pinner" / "longterm_pinner"], capture_output=True, text=True, timeout=DEADLINE
        )
        assert cat.stdout == other.text()
    with pytest.raises(PinnerfsError, match=r"^cannot control /.*: wanted a pinnerfs mount, but none is there$"):
        Client(tmp_path)
