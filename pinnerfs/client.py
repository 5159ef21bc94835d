"""Use a mount from Python: read its page_pinner files and control it; or mount one and unmount it at the end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pinnerfs.debugfs.control import CONTROL_DIRECTORY
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.records import Record, parse_records
from pinnerfs.mounts.table import fusermount
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.testing.directories import (
    end_daemon,
    is_alive,
    make_directory,
    process_name,
    remove_directory,
    remove_left_directories,
)
from pinnerfs.threshold import parse_threshold

__all__ = ["Client", "MountedDevice", "mounted"]

# The daemon answers no one else while it advances, and a signal does not end the write: so advance in slices.
SLICE = " within=500ms"

# What Android's own cat asks for. A record is shorter, and a larger buffer does not return more.
READ_SIZE = 4096

MOUNT_TIMEOUT = 30  # seconds
CALL_TIMEOUT = 600  # seconds; an hour of the busiest scenario takes some seconds, a day of it minutes


class Client:
    """A client for a mounted fake device: its page_pinner files and its `.pinnerfs/` control files.

    `root` is the mount point: the kernel's files are in `root / "page_pinner"`.
    """

    def __init__(self, mountpoint: str | os.PathLike[str]) -> None:
        """Find the mount. PinnerfsError if pinnerfs is not mounted there."""
        self.root = Path(mountpoint)
        self._control = self.root / CONTROL_DIRECTORY
        try:
            os.stat(self._control)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "wanted a pinnerfs mount, but none is there" if missing else error.strerror
            raise PinnerfsError(f"cannot control {os.fspath(mountpoint) or repr('')}: {reason}") from None

    @property
    def threshold(self) -> int:
        """The threshold in µs. Setting it, even to the same value, clears the records. A time such as "1s" works."""
        with self._timeout():
            return int((self.root / "page_pinner" / "threshold").read_text())

    @threshold.setter
    def threshold(self, value: int | str) -> None:
        number = parse_threshold(value) % (1 << 64)  # the file takes it unsigned
        with self._timeout():
            (self.root / "page_pinner" / "threshold").write_text(f"{number}\n")

    def text(self) -> str:
        """Return the text of longterm_pinner, as cat prints it."""
        # One record per read. Python's own read() ends with a buffer smaller than a record, which is ENOMEM.
        with self._timeout():
            descriptor = os.open(self.root / "page_pinner" / "longterm_pinner", os.O_RDONLY)
            try:
                return b"".join(iter(lambda: os.read(descriptor, READ_SIZE), b"")).decode()
            finally:
                os.close(descriptor)

    def records(self) -> list[Record]:
        """Return the records of longterm_pinner, newest first."""
        return parse_records(self.text())

    def advance(self, time: str) -> None:
        """Advance a manual clock by a time such as "5s", and return when everything up to then has happened."""
        with self._timeout(), self._refusals("cannot advance the clock"):
            before = int(self._read("clock"))
            while True:
                try:
                    return self._write("advance", f"{time}{SLICE}")
                except OSError as error:
                    if error.errno != errno.ETIMEDOUT:
                        raise
                after = int(self._read("clock"))
                time = f"{parse_time('advance', time) - (after - before)}us"
                before = after

    def do(self, actions: str) -> None:
        """Pin, release and free pages now, one action per line: "pin task=camera pages=64 hold=500ms".

        If one action is wrong, none of them is done.
        """
        with self._timeout(), self._refusals("cannot do the actions"):
            self._write("do", actions)

    def clock(self) -> int:
        """Return the boot time of the device in µs."""
        return int(self.read("clock"))

    def stats(self) -> dict[str, int]:
        """Return the counters of the accounting by their names."""
        pairs = (line.rsplit(" ", 1) for line in self.read("stats").splitlines())
        return {name: int(value) for name, value in pairs}

    def read(self, name: str) -> str:
        """Return the text of a control file."""
        with self._timeout():
            try:
                return self._read(name)
            except OSError as error:
                raise PinnerfsError(f"cannot read {name}: {error.strerror}") from None

    def _read(self, name: str) -> str:
        return (self._control / name).read_text()

    def _write(self, name: str, text: str) -> None:
        """Write in one call, and at least one byte: a write of none would not reach the daemon."""
        with open(self._control / name, "wb", buffering=0) as file:
            file.write(text.encode(errors="surrogateescape") or b"\n")

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Raise PinnerfsError for a refused write, with the daemon's reason for it."""
        try:
            yield
        except OSError as error:
            try:
                reason = self._read("error").strip()
            except OSError:
                reason = ""
            raise PinnerfsError(f"{what}: {reason or error.strerror}") from None

    @contextmanager
    def _timeout(self) -> Iterator[None]:
        """Limit how long the daemon may take, where that can be done."""
        yield


class MountedDevice(Client):
    """A fake device that this process has mounted. If its daemon hangs, it is ended and the call raises an error."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "mnt")
        self._directory = directory
        self._daemon = process_name(int(self._read("pid")))
        (directory / "daemon").write_text(self._daemon)

    def close(self) -> None:
        """Unmount and end the daemon. PinnerfsError with its log if it had died before."""
        alive = is_alive(self._daemon)
        log = (self._directory / "log").read_text(errors="replace").strip()
        remove_directory(self._directory)
        if not alive:
            raise PinnerfsError(f"the daemon died before the unmount; its log: {log or 'empty'}")

    @contextmanager
    def _timeout(self) -> Iterator[None]:
        """End the daemon past the timeout: then a call that waits for it fails at once."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            end_daemon(self._daemon)

        timer = threading.Timer(CALL_TIMEOUT, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, PinnerfsError):
            if late.is_set():
                raise PinnerfsError(f"ended the daemon: it did not answer within {CALL_TIMEOUT} s") from None
            raise
        finally:
            timer.cancel()
            timer.join()  # past the timeout: until the daemon has ended


@contextmanager
def mounted(
    scenario: str | os.PathLike[str] = "camera-stall",
    *,
    seed: int | None = None,
    threshold: int | str | None = None,
    kernel: str | None = None,
    clock: Literal["manual", "real"] = "manual",
) -> Iterator[MountedDevice]:
    """Mount a scenario, by name or path, in a temporary directory; unmount it at the end.

    PinnerfsError if that fails, with the exit status of `pinnerfs mount`.
    """
    options = {"seed": seed, "threshold": threshold, "kernel": kernel, "clock": clock}
    if threshold is not None:
        options["threshold"] = parse_threshold(threshold) % (1 << 64)
    fusermount()  # root mounts without it, but could not unmount
    remove_left_directories()
    directory = make_directory()
    try:
        _mount(_located(scenario), directory, options)
        device = MountedDevice(directory)
    except BaseException:
        remove_directory(directory)
        raise
    try:
        yield device
    finally:
        device.close()


def _located(scenario: str | os.PathLike[str]) -> str:
    """Return a name as it is, and a path independent of the working directory."""
    text = os.fspath(scenario)
    is_path = "/" in text or text.endswith(".toml")
    return os.path.abspath(text) if is_path else text


def _mount(scenario: str, directory: Path, options: Mapping[str, object]) -> None:
    root = directory / "mnt"
    root.mkdir()
    # A process of its own: a file system that this process serves would wait for itself.
    command = [sys.executable, "-m", "pinnerfs", "mount", scenario, str(root), "--log", str(directory / "log")]
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=directory,  # python -m looks for modules in the working directory first
            timeout=MOUNT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PinnerfsError(f"pinnerfs mount {scenario} {root} did not finish within {MOUNT_TIMEOUT} s") from None
    if done.returncode:
        message = "; ".join(line.removeprefix("Error: ") for line in done.stderr.splitlines())
        raise PinnerfsError(message, done.returncode)
