"""The daemon: a mount that answers until it is unmounted, in the foreground or detached."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from pinnerfs.daemon.log import open_log
from pinnerfs.daemon.privileges import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, close_inherited, keep_capabilities
from pinnerfs.daemon.signals import Ending
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.tree import Tree
from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.operations import check_binding, serve
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["Daemon"]

READY = b"ready"
LIMIT = 1 << 16  # bytes of libfuse's words; it says a line or two

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
        open_log(log_file)

    def run(self, ready: Callable[[], None]) -> None:
        """Mount, and return after the unmount. `ready` is called once the mount answers.

        On SIGINT, SIGTERM and SIGHUP this process unmounts and ends, with exit status 0.
        """
        # To mount and unmount, on a folder that may lie in another user's. Before any thread: each has its own.
        keep_capabilities(CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN)
        ending = Ending(self._mountpoint)
        behind = threading.Thread(target=self._keep_up, daemon=True)
        # Started with all signals blocked: they are for others.
        old = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        behind.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        # Only now is it certain who mounts: `start` may have entered a user namespace.
        tree = Tree(self._device, self._generation, os.geteuid(), os.getegid())
        # Other users get in where root mounts; the modes then decide, as on a debugfs.
        allow_other = self._allow_other or os.geteuid() == 0
        libfuse = _Words()

        def answers() -> None:
            libfuse.let_go()
            libfuse.repeat()
            ending.note_mount()
            try:
                ready()
            except BrokenPipeError:
                # Whoever started it is gone, and nobody knows of it.
                threading.Thread(target=ending.end, daemon=True).start()

        try:
            log.info("mounting on %s, as process %d", self._mountpoint, os.getpid())
            with ending.on_signal():
                serve(tree, self._mountpoint, answers, allow_other, self._cover, self._sendfile)
            log.info("unmounted from %s", self._mountpoint)
        except PinnerfsError as error:
            raise PinnerfsError(f"{error}: {libfuse.said()}", exit_status=error.exit_status) from None
        finally:
            libfuse.let_go()
            self._device.stop()

    def _keep_up(self) -> None:
        try:
            self._device.keep_up()
        except Exception:
            logging.exception("the books have failed: who asks for records gets an I/O error")

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


class _Words:
    """What libfuse and fusermount say on stderr, from now on until it is let go."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._kept = os.memfd_create("stderr")
        os.dup2(self._kept, 2)

    def let_go(self) -> None:
        """From now on it goes where it went before."""
        if self._stderr >= 0:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._stderr = -1

    def repeat(self) -> None:
        """Say it again, where it goes now."""
        with suppress(OSError):
            os.write(2, os.pread(self._kept, LIMIT, 0))

    def said(self) -> str:
        """It, in one line, with what can be done about it."""
        lines = os.pread(self._kept, LIMIT, 0).decode(errors="replace").splitlines()
        said = "; ".join(line.removeprefix("fuse: ") for line in lines if line) or "it does not say why"
        if os.strerror(errno.EPERM) not in said and os.strerror(errno.EACCES) not in said:
            return said
        if os.geteuid() == 0:
            return f"{said} (for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
        return f"{said} (wanted a fusermount that is setuid root: Debian and Ubuntu: install fuse3 anew)"
