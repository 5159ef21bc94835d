"""The daemon that serves a mount until it is unmounted, in the foreground or detached."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from pinnerfs.daemon.log import open_log, write_in_background
from pinnerfs.daemon.privileges import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, close_inherited, keep_capabilities
from pinnerfs.daemon.room import check_room
from pinnerfs.daemon.signals import Terminator
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.root import root_directory
from pinnerfs.debugfs.tree import Tree
from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.operations import check_binding, serve
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.threads import start_thread

__all__ = ["Daemon"]

READY = b"ready"
CAPTURED = 1 << 16  # bytes of stderr; libfuse writes a line or two

log = logging.getLogger(__name__)


class Daemon:
    """A device with the options of its mount.

    `mountpoint` is absolute. With `cover` the mount may hide a directory that is not empty. Without a `log_file` the
    log goes to stderr, which a detached daemon does not have.
    """

    def __init__(
        self,
        device: Device,
        generation: Generation,
        mountpoint: str,
        *,
        allow_other: bool = False,
        cover: bool = False,
        log_file: str | None = None,
    ) -> None:
        check_room()
        check_binding()
        self._device = device
        self._generation = generation
        self._mountpoint = mountpoint
        self._allow_other = allow_other
        self._cover = cover
        open_log(log_file)

    def run(self, ready: Callable[[], None]) -> None:
        """Mount, call `ready` when the mount answers, and return after the unmount.

        On SIGINT, SIGTERM and SIGHUP the process unmounts and exits with status 0.
        """
        # For unmounting, also in another user's directory. Before any thread starts: each has its own capabilities.
        keep_capabilities(CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN)
        terminator = Terminator(self._mountpoint)
        write_in_background()
        start_thread(self._keep_up)
        # Not in __init__: `start` may have entered a user namespace since, with another uid.
        tree = Tree(root_directory(self._device, self._generation), os.geteuid(), os.getegid())
        with terminator.on_signal():
            self._serve(tree, terminator, ready)

    def _serve(self, tree: Tree, terminator: Terminator, ready: Callable[[], None]) -> None:
        stderr = _StderrCapture()

        def on_mount() -> None:
            stderr.restore()
            stderr.replay()
            terminator.note_mount()
            try:
                ready()
            except BrokenPipeError:
                # The process that started this one is gone, and will not report the mount.
                start_thread(terminator.terminate)

        # Root's mounts are open to all users; the modes then decide, as on a debugfs.
        allow_other = self._allow_other or os.geteuid() == 0
        try:
            log.info("mounting on %s (pid %d)", self._mountpoint, os.getpid())
            serve(tree, self._device.faults, self._mountpoint, on_mount, allow_other, self._cover)
            log.info("unmounted from %s", self._mountpoint)
        except PinnerfsError as error:
            raise PinnerfsError(f"{error}: {stderr.summary()}", exit_status=error.exit_status) from None
        finally:
            stderr.restore()
            self._device.stop()
            logging.shutdown()  # the lines that wait

    def _keep_up(self) -> None:
        try:
            self._device.keep_up()
        except Exception:
            logging.exception("page_pinner state update failed: reads return EIO from now on")

    def start(self, before: Callable[[], None] = lambda: None) -> int:
        """Run in a child process, and return its pid when the mount answers. The child calls `before` first.

        PinnerfsError if it cannot mount.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child:
            os.close(writer)
            with os.fdopen(reader, "rb") as pipe:
                answer = pipe.read()
            if answer != READY:
                exit_status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                reason = answer.decode(errors="surrogateescape")
                if not reason:
                    raise PinnerfsError(
                        f"cannot mount on {self._mountpoint}: the daemon {_ended(exit_status)} before it was ready"
                    )
                raise PinnerfsError(reason, exit_status=exit_status)
            return child
        os.close(reader)
        status = 1
        try:
            os.setsid()
            os.chdir("/")
            close_inherited()
            # Open it before the mount, which may cover /dev: this process cannot answer its own open.
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
        """Close the standard files, and tell the parent that the mount answers."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # None if the descriptor was closed at the start
                stream.flush()
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.write(writer, READY)
        os.close(writer)


def _ended(exit_status: int) -> str:
    return f"was killed by signal {-exit_status}" if exit_status < 0 else f"exited with status {exit_status}"


class _StderrCapture:
    """A capture of what libfuse and fusermount write to stderr, from its creation until `restore`."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        self._captured = os.memfd_create("stderr")
        os.dup2(self._captured, 2)

    def restore(self) -> None:
        """Stop the capture."""
        if self._stderr >= 0:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._stderr = -1

    def replay(self) -> None:
        """Write what was captured to stderr."""
        with suppress(OSError):
            os.write(2, os.pread(self._captured, CAPTURED, 0))

    def summary(self) -> str:
        """Return what was captured in one line, with a remedy for missing permissions."""
        lines = os.pread(self._captured, CAPTURED, 0).decode(errors="surrogateescape").splitlines()
        text = "; ".join(line.removeprefix("fuse: ") for line in lines if line) or "no reason given"
        if os.strerror(errno.EPERM) not in text and os.strerror(errno.EACCES) not in text:
            return text
        if os.geteuid() == 0:
            return f"{text} (for a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
        return f"{text} (wanted fusermount to be setuid root; Debian and Ubuntu: reinstall fuse3)"
