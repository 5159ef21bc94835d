"""Unmount and exit on a signal.

libfuse unmounts the path that it mounted on. If a directory above was renamed, or the mount was detached and another
file system mounted there, it would unmount that one and leave its own mount behind, dead. So the unmount is done here.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.answers import daemon_name
from pinnerfs.mounts.namespace import detach, name_process
from pinnerfs.mounts.table import FSTYPE, parse_mount_table, unmount_lazily
from pinnerfs.threads import start_thread

__all__ = ["Terminator"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOUNT_TIMEOUT = 5  # seconds that a signal waits for a mount in progress


class Terminator:
    """A thread that unmounts and exits on a signal. Create it in the process and the namespace that mount."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = os.fsencode(mountpoint)
        # Open it now: the mount may cover /proc, and this process cannot answer its own open.
        self._table = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115
        self._device: bytes | None = None
        self._mounted = threading.Event()
        self._handled: set[signal.Signals] = set()

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Terminate on SIGINT, SIGTERM and SIGHUP within the `with` block, except those ignored at the start."""
        self._handled = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        # Python runs a handler only in the main thread, which may be busy with a request. The wakeup pipe gets the
        # signal's number at once, in any thread.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before: dict[signal.Signals, Any] = {number: signal.signal(number, lambda *_: None) for number in self._handled}
        # The reader of the log or the process that waits for the mount may be gone: that is an error, and no signal.
        before[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        start_thread(self._wait, reader)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)

    def note_mount(self) -> None:
        """Remember the device of the new mount, which identifies it even after its path has changed.

        Also name this process after it, so that others find it without a request to the mount.
        """
        for device, mountpoint, fstype in self._mounts():
            if mountpoint == self._mountpoint and fstype == FSTYPE:
                self._device = device
        if self._device is not None:
            name_process(daemon_name(self._device.decode()))
        self._mounted.set()

    def terminate(self) -> None:
        """Unmount, and exit with status 0. Not for the thread that serves requests: unmounting may send some."""
        try:
            for mountpoint in self._mountpoints():
                # As root without a program: fusermount does not work in a user namespace.
                with suppress(OSError, PinnerfsError):
                    (detach if os.geteuid() == 0 else unmount_lazily)(mountpoint)
            logging.getLogger(__name__).info("unmounted from %s", os.fsdecode(self._mountpoint))
            logging.shutdown()
        finally:
            # Exit here: requests go on while a file is open.
            os._exit(0)

    def _wait(self, numbers: int) -> None:
        while os.read(numbers, 1)[0] not in self._handled:
            pass
        self._mounted.wait(MOUNT_TIMEOUT)
        self.terminate()

    def _mounts(self) -> list[tuple[bytes, bytes, str]]:
        self._table.seek(0)
        return list(parse_mount_table(self._table.read()))

    def _mountpoints(self) -> list[str]:
        """Return the paths where the mount can be unmounted: those where no other mount covers it."""
        if self._device is None:
            return []
        on_top = {mountpoint: device for device, mountpoint, _ in self._mounts()}
        return [os.fsdecode(mountpoint) for mountpoint, device in on_top.items() if device == self._device]
