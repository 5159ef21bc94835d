"""Unmount and exit on a signal."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.answers import daemon_name
from pinnerfs.mounts.namespace import name_process
from pinnerfs.mounts.table import FSTYPE, Mount, Proc
from pinnerfs.mounts.unmount import is_dead, unmount_lazily
from pinnerfs.threads import start_thread

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
        self._mountpoint = mountpoint
        self._waits = wait
        # Open it now: the mount may cover /proc.
        self._proc = Proc()
        self._device: bytes | None = None
        self._mounted = threading.Event()
        self._terminates = False
        self.exit_status = 0  # of this process
        self._handled: set[signal.Signals] = set()

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Terminate on SIGINT, SIGTERM and SIGHUP within the `with` block, except those ignored at the start.

        If another thread terminates this process, the block does not end: the unmount is only a part of that.
        """
        self._handled = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        # Python runs a handler only in the main thread, which may be busy with a request. The wakeup pipe gets the
        # signal's number at once, in any thread.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before: dict[signal.Signals, Any] = {number: signal.signal(number, lambda *_: None) for number in self._handled}
        # The reader of the log or the process that waits for the mount may be gone: that is an error, and no signal.
        before[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        waiting = start_thread(self._wait, reader)
        with self._proc:
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(-1)
                os.close(writer)
                self._mounted.set()  # no mount is in progress any more
                waiting.join()  # it may have a signal that has just arrived
                if self._terminates:
                    threading.Event().wait()

    def note_mount(self, device: bytes) -> None:
        """Remember the device of the new mount, which identifies it even after its path has changed.

        Also name this process after it, so that others find it without a request to the mount.
        """
        self._device = device
        name_process(daemon_name(device))
        self._mounted.set()

    def clear(self) -> None:
        """Unmount what is left after the descriptor of /dev/fuse was closed, and forget the mount."""
        for mount in self._mounts():
            # After an unmount the kernel may have given the device's number to another mount, which is not dead.
            if is_dead(mount.path):
                self._detach(mount)
        self._device = None

    def _unmount(self) -> list[Mount]:
        """Unmount, and return the mounts that are left: those with another mount on them."""
        for mount in self._mounts():
            self._detach(mount)
        return self._mounts()

    def _detach(self, mount: Mount) -> None:
        with suppress(PinnerfsError):
            unmount_lazily(self._proc, mount)

    def terminate(self, numbers: int | None = None) -> None:
        """Unmount, and exit. Not for the thread that serves requests: unmounting may send some.

        A signal that arrives at `numbers` ends the wait for another mount.
        """
        self._terminates = True
        try:
            self._proc.enter()
            if self._unmount_and_wait(numbers):
                log.info("unmounted from %s", self._mountpoint)
            logging.shutdown()
        finally:
            # Exit here: requests go on while a file is open.
            os._exit(self.exit_status)

    def _unmount_and_wait(self, numbers: int | None) -> bool:
        """Unmount, also after a wait. Return whether that was possible."""
        changes = self._proc.open_mount_table()
        poll = select.poll()
        poll.register(changes, select.POLLPRI)
        if numbers is not None:
            poll.register(numbers, select.POLLIN)
        told = False
        while (left := self._unmount()) and self._waits:
            if not told:
                log.warning(
                    "cannot unmount from %s: another mount covers it, or its path is not accessible; trying again "
                    "until a second signal",
                    left[0].path,
                )
                told = True
            # The kernel reports changes of the mount table, but not that a directory was renamed.
            if any(descriptor == numbers for descriptor, _ in poll.poll(RETRY)):
                break
        return not left

    def _wait(self, numbers: int) -> None:
        while number := os.read(numbers, 1):
            if number[0] in self._handled:
                self._mounted.wait(MOUNT_TIMEOUT)
                self.terminate(numbers)
        os.close(numbers)

    def _mounts(self) -> list[Mount]:
        if self._device is None:
            return []
        return [mount for mount in self._proc.mounts() if (mount.device, mount.fstype) == (self._device, FSTYPE)]
