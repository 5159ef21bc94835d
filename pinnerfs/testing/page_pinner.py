"""A mounted fake device, as a test sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinnerfs.client import Steering
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.records import Record, parse_records
from pinnerfs.mounts.table import fusermount
from pinnerfs.testing.folders import DEADLINE, end_daemon, end_mount, is_alive, process_name

__all__ = ["PagePinner"]

# What Android's own cat asks for. No record is longer, and a larger buffer brings no more.
READ_SIZE = 4096

# A test says how much is to happen: an hour of the busiest scenario takes some seconds, a day of it minutes.
CALL_DEADLINE = 600  # seconds


class PagePinner:
    """A fake debugfs with a manual clock. `root` is where it is mounted: the files are in root / "page_pinner"."""

    def __init__(self, place: Path, scenario: str, *options: str) -> None:
        """Mount in a new folder `place`. PinnerfsError where that fails, with the status that the command left with."""
        fusermount()  # root mounts without it, and could not unmount
        self._place = place
        self.root = place / "mnt"
        self.root.mkdir(parents=True)
        # A daemon of its own, as in use: a file system in this very process would wait for itself.
        command = [sys.executable, "-m", "pinnerfs", "mount", scenario, str(self.root), "--clock", "manual", *options]
        try:
            done = subprocess.run(
                [*command, "--log", str(place / "log")],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=place,  # python -m looks for modules there first: where a test is, anything may lie
                timeout=DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            end_mount(place)
            raise PinnerfsError(f"{' '.join(command)} has not mounted within {DEADLINE} s") from None
        if done.returncode:
            lines = done.stderr.splitlines()
            # Of a wrong option the usage comes first; of a mount that fails libfuse's own words.
            said = lines[-1:] if done.returncode == 2 else lines
            end_mount(place)
            raise PinnerfsError("; ".join(line.removeprefix("Error: ") for line in said), done.returncode)
        self._steering = Steering(self.root)
        self._daemon = process_name(int(self._steering.read("pid")))
        (place / "daemon").write_text(self._daemon)

    def advance(self, time: str) -> None:
        """Let the clock go on by a time such as "5s"; every event up to then is in the books afterwards."""
        with self._in_time():
            self._steering.advance(time)

    def do(self, actions: str) -> None:
        """Pin, release and free pages now, one action a line: "pin task=camera pages=64 hold=500ms"."""
        with self._in_time():
            self._steering.do(actions)

    @property
    def threshold(self) -> int:
        """The threshold in µs. Setting it, even to the same value, throws the records away."""
        with self._in_time():
            return int((self.root / "page_pinner" / "threshold").read_text())

    @threshold.setter
    def threshold(self, value: int) -> None:
        with self._in_time():
            (self.root / "page_pinner" / "threshold").write_text(f"{value}\n")

    def text(self) -> str:
        """The text of longterm_pinner, as cat shows it."""
        # One record a read; Python's own read() asks for less at last than a record, which is ENOMEM.
        with self._in_time():
            descriptor = os.open(self.root / "page_pinner" / "longterm_pinner", os.O_RDONLY)
            try:
                return b"".join(iter(lambda: os.read(descriptor, READ_SIZE), b"")).decode()
            finally:
                os.close(descriptor)

    def records(self) -> list[Record]:
        """What longterm_pinner holds, newest first."""
        return parse_records(self.text())

    def close(self) -> None:
        """Unmount, and see the daemon off. PinnerfsError where it had died before, with what its log says."""
        alive = is_alive(self._daemon)
        log = (self._place / "log").read_text(errors="replace").strip()
        end_mount(self._place)
        if not alive:
            raise PinnerfsError(f"the daemon had died before the test was over; its log: {log or 'empty'}")

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """What is done here meets an error past the deadline: without its daemon a mount keeps nobody waiting."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            end_daemon(self._daemon)

        timer = threading.Timer(CALL_DEADLINE, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, PinnerfsError):
            if late.is_set():
                raise PinnerfsError(f"the daemon was ended: it has not answered within {CALL_DEADLINE} s") from None
            raise
        finally:
            timer.cancel()
            timer.join()  # past the deadline: until the daemon is gone
