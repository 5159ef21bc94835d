"""Unmount and exit on a signal.

libfuse misses a signal that arrives just before it waits for a request.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnerfs.errors import PinnerfsError, in_a_line
from pinnerfs.mounts.table import Mount, Proc
from pinnerfs.mounts.unmount import unmount_lazily

__all__ = ["Terminator"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOUNT_TIMEOUT = 5  # seconds that a signal waits for a mount in progress
RETRY = 1000  # milliseconds until the next attempt to unmount

log = logging.getLogger(__name__)


class Terminator:
    """A thread that unmounts and exits on a signal. Create it in the process and the namespace that mount.

    `mountpoint` is for the log. With `wait` it does not exit while another mount covers this one, which cannot be
    unmounted then and would be left dead. A second signal ends the wait.
    """

    def __init__(self, mountpoint: str, *, wait: bool) -> None:
        self._mountpoint = in_a_line(mountpoint)
        self._waits = wait
        # Open it now: the mount may cover /proc.
        self._proc = Proc()
        self._device: bytes | None = None
        self._mounted = threading.Event()
        self._handled: set[signal.Signals] = set()

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Terminate on SIGINT, SIGTERM and SIGHUP within the `with` block, except those ignored at the start."""
        self._handled = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        # Python runs a handler only when the main thread returns from libfuse, which may be never. The wakeup pipe gets
        # the signal's number at once, in any thread.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # libfuse keeps a handler that is set.
        before = {number: signal.signal(number, lambda *_: None) for number in self._handled}
        threading.Thread(target=self._wait, args=(reader,), daemon=True).start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)

    def note_mount(self, device: bytes) -> None:
        """Remember the device of the new mount, which identifies it even after its path has changed."""
        self._device = device
        self._mounted.set()

    def unmount(self) -> list[Mount]:
        """Unmount, and return the mounts that are left: those with another mount on them."""
        for mount in self._mounts():
            with suppress(PinnerfsError):
                unmount_lazily(self._proc, mount)
        return self._mounts()

    def terminate(self, numbers: int | None = None) -> None:
        """Unmount, and exit with status 0. Not for the thread that serves requests: unmounting may send some.

        A signal that arrives at `numbers` ends the wait for another mount.
        """
        try:
            self._proc.enter()
            if self._unmount_and_wait(numbers):
                log.info("unmounted from %s", self._mountpoint)
            logging.shutdown()
        finally:
            # Exit here: libfuse's loop would go on while a file is open.
            os._exit(0)

    def _unmount_and_wait(self, numbers: int | None) -> bool:
        """Unmount, also after a wait. Return whether that was possible."""
        changes = self._proc.open_mount_table()
        poll = select.poll()
        poll.register(changes, select.POLLPRI)
        if numbers is not None:
            poll.register(numbers, select.POLLIN)
        told = False
        while (left := self.unmount()) and self._waits:
            if not told:
                log.warning(
                    "cannot unmount from %s: another mount covers it, or its path is not accessible; trying again "
                    "until a second signal",
                    in_a_line(left[0].path),
                )
                told = True
            # The kernel reports changes of the mount table, but not that a directory was renamed.
            if any(descriptor == numbers for descriptor, _ in poll.poll(RETRY)):
                break
        return not left

    def _wait(self, numbers: int) -> None:
        while os.read(numbers, 1)[0] not in self._handled:
            pass
        self._mounted.wait(MOUNT_TIMEOUT)
        self.terminate(numbers)

    def _mounts(self) -> list[Mount]:
        return [] if self._device is None else [mount for mount in self._proc.mounts() if mount.device == self._device]
