"""Use a mount from Python: read its page_pinner files and control it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pinnerfs.debugfs import CONTROL_DIRECTORY
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.page_pinner.records import Record, parse_records
from pinnerfs.mounts.answers import MAX_WAIT, no_answer
from pinnerfs.mounts.table import FSTYPE, Proc, open_directory
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.threads import NoAnswerError, in_thread
from pinnerfs.threshold import no_threshold, parse_threshold

__all__ = ["Client"]

# The daemon answers no one else while it advances, and a signal does not end the write: so advance in slices.
SLICE = " within=50ms"

# What Android's own cat asks for. A record is shorter, and a larger buffer does not return more.
READ_SIZE = 4096

_Answer = TypeVar("_Answer")


class Client:
    """A client for a mounted fake device: its page_pinner files and its `.pinnerfs/` control files.

    `root` is the mount point: the kernel's files are in `root / "page_pinner"`. If the daemon does not answer for
    `max_wait` seconds, a call raises PinnerfsError.
    """

    def __init__(self, mountpoint: str | os.PathLike[str], max_wait: float = MAX_WAIT) -> None:
        """Find the mount. PinnerfsError if pinnerfs is not mounted there."""
        self.root = Path(mountpoint)
        self._max_wait = max_wait
        try:
            self._ask(lambda: os.stat(self.root / CONTROL_DIRECTORY))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            reason = "wanted a pinnerfs mount, but none is there" if missing else error.strerror
            raise PinnerfsError(f"cannot control {os.fspath(mountpoint) or repr('')}: {reason}") from None

    @property
    def threshold(self) -> int:
        """The threshold in µs. Setting it, even to the same value, clears the records. A time such as "1s" works.

        ValueError on a kernel without a threshold.
        """
        with self._without_threshold():
            return int(self._text("page_pinner/threshold"))

    @threshold.setter
    def threshold(self, value: int | str) -> None:
        number = parse_threshold(value) % (1 << 64)  # the file takes it unsigned
        with self._without_threshold():
            self._put("page_pinner/threshold", f"{number}\n".encode())

    @contextmanager
    def _without_threshold(self) -> Iterator[None]:
        """Raise ValueError if the kernel has no file `threshold`."""
        try:
            yield
        except FileNotFoundError:
            if not self._ask((self.root / "page_pinner").is_dir):
                raise  # it is no longer mounted
            raise ValueError(no_threshold("this kernel")) from None

    def _file(self, name: str | None) -> str:
        """Return the name of a record file; of the kernel's main one for None. ValueError if it is not there."""
        known = dict.fromkeys(file for generation in GENERATIONS.values() for file in generation.record_files)
        there = self._ask(lambda: [file for file in known if (self.root / "page_pinner" / file).exists()])
        if name is None:
            return there[0] if there else next(iter(known))  # the read says why none can be seen
        if name not in there:
            raise ValueError(f"file = {name!r}: this kernel has the record files {', '.join(there)}")
        return name

    def text(self, file: str | None = None) -> str:
        """Return the text of a record file, as cat prints it: of the kernel's main one, or of the file with this name.

        The main one is longterm_pinner, or buffer.
        """
        return self._text(f"page_pinner/{self._file(file)}")

    def _text(self, path: str) -> str:
        """Return the text of a file of the mount."""
        parts: list[bytes] = []

        def read() -> None:
            # One record per read. Python's own read() ends with a buffer smaller than a record, which is ENOMEM.
            descriptor = os.open(self.root / path, os.O_RDONLY)
            try:
                while part := os.read(descriptor, READ_SIZE):
                    parts.append(part)
            finally:
                os.close(descriptor)

        self._ask(read, parts.__len__)
        return b"".join(parts).decode(errors="surrogateescape")

    def records(self, file: str | None = None) -> list[Record]:
        """Return the records of a file, newest first: see `text`. A field that the kernel does not print is None."""
        name = self._file(file)
        return parse_records(self._text(f"page_pinner/{name}"), name)

    def advance(self, time: str) -> None:
        """Advance a manual clock by a time such as "5s", and return when everything up to then has happened."""
        with self._refusals("cannot advance the clock"):
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
        """Pin, release, unmap, free and allocate pages now, one action per line: "pin task=camera pages=64 hold=500ms".

        If one action is wrong, none of them is done.
        """
        with self._refusals("cannot do the actions"):
            self._write("do", actions)

    def inject(self, rules: str) -> None:
        """Add and remove rules of faults, one per line: "add,op=read,file=longterm_pinner,errno=EIO,times=1".

        "removeall" removes all rules. If one line is wrong, nothing changes.
        """
        with self._refusals("cannot inject the faults"):
            self._write("inject", rules)

    def clock(self) -> int:
        """Return the boot time of the device in µs."""
        return int(self.read("clock"))

    def clock_slipped(self) -> int:
        """Return how many µs a real clock has lost, because this machine could not apply the events in time."""
        return self.stats().get("clock_slipped", 0)

    def stats(self) -> dict[str, int]:
        """Return the counters of the accounting by their names."""
        return self._counters("stats")

    def _counters(self, name: str) -> dict[str, int]:
        pairs = (line.rsplit(" ", 1) for line in self.read(name).splitlines())
        return {name: int(value) for name, value in pairs}

    def dmesg(self) -> str:
        """Return the lines of the kernel log about failed CMA allocations, with their boot time."""
        return self.read("dmesg")

    def vmstat(self) -> dict[str, int]:
        """Return cma_alloc_success and cma_alloc_fail, as /proc/vmstat counts calls of cma_alloc."""
        return self._counters("vmstat")

    def read(self, name: str) -> str:
        """Return the text of a control file."""
        try:
            return self._read(name)
        except OSError as error:
            raise PinnerfsError(f"cannot read {name}: {error.strerror}") from None

    def _read(self, name: str) -> str:
        return self._text(f"{CONTROL_DIRECTORY}/{name}")

    def _write(self, name: str, text: str) -> None:
        # At least one byte: a write of none would not reach the daemon.
        self._put(f"{CONTROL_DIRECTORY}/{name}", text.encode(errors="surrogateescape") or b"\n")

    def _put(self, path: str, data: bytes) -> None:
        """Write to a file of the mount in one call."""

        def write() -> None:
            descriptor = self._open_to_write(path)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

        self._ask(write)

    def _open_to_write(self, path: str) -> int:
        """Open a file of the mount. Not by its whole path: another user could make that lead to a file of root.

        Without O_CREAT: a debugfs answers that with EACCES.
        """
        root = open_directory(os.fspath(self.root), "control")
        try:
            with Proc() as proc:
                mount = proc.mount_at(root)
            if mount is None or mount.fstype != FSTYPE:
                raise PinnerfsError(f"cannot control {self.root}: wanted a pinnerfs mount, but none is there")
            return os.open(path, os.O_WRONLY, dir_fd=root)
        finally:
            os.close(root)

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

    def _ask(self, call: Callable[[], _Answer], progress: Callable[[], int] = lambda: 0) -> _Answer:
        """Make calls that wait for the daemon. PinnerfsError if there is no progress for the longest wait."""
        try:
            return in_thread(call, self._max_wait, progress)
        except NoAnswerError:
            raise self._no_answer() from None

    def _no_answer(self) -> PinnerfsError:
        return no_answer("control", self.root, self._max_wait)
