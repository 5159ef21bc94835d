"""How a daemon ends when a signal tells it to: its own mount is taken down, wherever that lies by now, and no other.

libfuse would unmount the path that it once mounted on. Where a folder above was renamed, or the mount was unmounted
lazily and something else mounted in its place, that is somebody else's mount, and its own would stay behind, dead.
libfuse also misses a signal that comes just before it waits for a request, and dies of one that comes while it mounts.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.namespace import detach
from pinnerfs.mounts.table import FSTYPE, parse_mount_table, unmount_lazily

__all__ = ["Ending"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 5  # seconds that a mount which is in the making has to be there, and be taken down


class Ending:
    """Waits for a signal in a thread of its own. To be made in the process, and the namespace, that mounts."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = os.fsencode(mountpoint)
        # Before the mount, which may cover /proc: nobody answers there while this process opens something.
        self._table = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115
        self._device: bytes | None = None
        self._mounted = threading.Event()
        self._chosen: set[signal.Signals] = set()

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Meanwhile this process ends on SIGINT, SIGTERM and SIGHUP, but for those that it was started to ignore."""
        self._chosen = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        # Python's part of a handler runs when the main thread comes out of libfuse, which may be never; but its number
        # goes through the pipe at once, whichever thread it interrupts.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # libfuse leaves alone what has a handler.
        before = {number: signal.signal(number, lambda *_: None) for number in self._chosen}
        threading.Thread(target=self._wait, args=(reader,), daemon=True).start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)

    def note_mount(self) -> None:
        """Now it is mounted: from here on it is known by its device, whatever happens to its name."""
        for device, place, kind in self._mounts():
            if place == self._mountpoint and kind == FSTYPE:
                self._device = device
        self._mounted.set()

    def end(self) -> None:
        """Take the mount down and leave. Not for the thread that answers: taking it down may ask something of it."""
        try:
            for place in self._places():
                # Root's mounts need no program, and those in a user namespace could not use it.
                with suppress(OSError, PinnerfsError):
                    (detach if os.geteuid() == 0 else unmount_lazily)(place)
            logging.getLogger(__name__).info("unmounted from %s", os.fsdecode(self._mountpoint))
            logging.shutdown()
        finally:
            # Where a file is still open the loop would go on for its sake.
            os._exit(0)

    def _wait(self, numbers: int) -> None:
        while os.read(numbers, 1)[0] not in self._chosen:
            pass
        self._mounted.wait(PATIENCE)
        self.end()

    def _mounts(self) -> list[tuple[bytes, bytes, str]]:
        self._table.seek(0)
        return list(parse_mount_table(self._table.read()))

    def _places(self) -> list[str]:
        """Where the mount can be taken down: where it is, unless another lies over it."""
        if self._device is None:
            return []
        on_top = {place: device for device, place, _ in self._mounts()}
        return [os.fsdecode(place) for place, device in on_top.items() if device == self._device]
