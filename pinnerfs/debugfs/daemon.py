"""The daemon: a mount that answers until it is unmounted, in the foreground or detached."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.mount import check_binding, serve
from pinnerfs.debugfs.privileges import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, close_inherited, keep_capabilities
from pinnerfs.debugfs.tree import Tree
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.generations import Generation

__all__ = ["Daemon"]

READY = b"ready"

log = logging.getLogger(__name__)


class Daemon:
    """What to mount and how. `mountpoint` is absolute; `log_file` None means stderr, while there is one.

    With `cover` the mount hides what lies in the folder.
    """

    def __init__(
        self,
        device: Device,
        generation: Generation,
        mountpoint: str,
        *,
        allow_other: bool = False,
        cover: bool = False,
        sendfile: bool = False,
        log_file: str | None = None,
    ) -> None:
        check_binding()
        self._device = device
        self._generation = generation
        self._mountpoint = mountpoint
        self._allow_other = allow_other
        self._cover = cover
        self._sendfile = sendfile
        handler: logging.Handler
        try:
            handler = logging.StreamHandler() if log_file is None else logging.FileHandler(log_file)
        except OSError as error:
            raise PinnerfsError(f"cannot open log file {log_file}: {error.strerror}") from None
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, handlers=[handler])

    def run(self, ready: Callable[[], None]) -> None:
        """Mount, and return after the unmount. `ready` is called once the mount answers."""
        # To mount and unmount, on a folder that may lie in another user's.
        keep_capabilities(CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN)
        behind = threading.Thread(target=self._device.keep_up, daemon=True)
        # Started with all signals blocked: they are for the loop in the main thread, which they end.
        old = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        behind.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        # Only now is it certain who mounts: `start` may have entered a user namespace.
        tree = Tree(self._device, self._generation, os.geteuid(), os.getegid())
        # Other users get in where root mounts; the modes then decide, as on a debugfs.
        allow_other = self._allow_other or os.geteuid() == 0
        try:
            log.info("mounting on %s, as process %d", self._mountpoint, os.getpid())
            serve(tree, self._mountpoint, ready, allow_other, self._cover, self._sendfile)
            log.info("unmounted from %s", self._mountpoint)
        finally:
            self._device.stop()

    def start(self, before: Callable[[], None] = lambda: None) -> int:
        """Run in a process of its own, and return its number when the mount answers. `before` is called there first.

        PinnerfsError where it never will.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child:
            os.close(writer)
            with os.fdopen(reader, "rb") as pipe:
                said = pipe.read()
            if said != READY:
                ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                reason = said.decode(errors="surrogateescape")
                if not reason:
                    raise PinnerfsError(f"cannot mount on {self._mountpoint}: the daemon died at once")
                raise PinnerfsError(reason, exit_status=ended)
            return child
        os.close(reader)
        status = 1
        try:
            os.setsid()
            os.chdir("/")
            close_inherited()
            # Before the mount, which may cover /dev: nobody answers there while this process opens something.
            null = os.open(os.devnull, os.O_RDWR)
            before()
            self.run(lambda: self._settle(writer, null))
            status = 0
        except PinnerfsError as error:
            os.write(writer, str(error).encode(errors="surrogateescape"))
            status = error.exit_status
        except Exception:
            logging.exception("the daemon failed")
        finally:
            logging.shutdown()
            os._exit(status)

    @staticmethod
    def _settle(writer: int, null: int) -> None:
        """Let go of the terminal, or what else is in its place, and tell the parent."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it is where the descriptor was closed from the start
                stream.flush()
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.write(writer, READY)
        os.close(writer)
