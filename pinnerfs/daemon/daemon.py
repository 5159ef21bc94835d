"""The daemon that serves a mount until it is unmounted, in the foreground or detached."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from pinnerfs.daemon.log import open_log, write_in_background
from pinnerfs.daemon.memory import save_memory
from pinnerfs.daemon.privileges import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, close_inherited, keep_capabilities
from pinnerfs.daemon.ready import is_ready, not_ready, report_ready, wait_until_ready
from pinnerfs.daemon.room import check_room
from pinnerfs.daemon.signals import Terminator
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.root import root_directory
from pinnerfs.debugfs.tree import Tree
from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.libfuse import check_libfuse, mount_by_path
from pinnerfs.fuse.operations import serve
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.mounts.attach import attach
from pinnerfs.mounts.claim import Place, check_empty
from pinnerfs.mounts.table import Proc
from pinnerfs.threads import start_thread

__all__ = ["Daemon"]

log = logging.getLogger(__name__)

# How long a request waits for its turn while another thread runs Python. Python's default is 5 ms, which is longer than
# most requests take.
SWITCH_INTERVAL = 0.001  # seconds


class Daemon:
    """A device with the options of its mount.

    With `cover` the mount may hide a directory that is not empty. With `android` it also has what `run --android`
    shows. `files` are the other files of a replay, see `root_directory`. Without a `log_file` the log goes to stderr,
    which a detached daemon does not have.
    """

    def __init__(
        self,
        device: Device,
        generation: Generation,
        *,
        allow_other: bool = False,
        cover: bool = False,
        android: bool = False,
        files: Mapping[str, bytes] | None = None,
        log_file: str | None = None,
    ) -> None:
        check_room()
        if os.geteuid() != 0 and not cover:
            check_libfuse()
        self._device = device
        self._generation = generation
        self._allow_other = allow_other
        self._cover = cover
        self._android = android
        self._files = files
        self._mounted = threading.Event()
        open_log(log_file)

    def run(self, place: Place, ready: Callable[[], None]) -> None:
        """Mount on a directory, call `ready` when the mount answers, and return after the unmount.

        A deferred engine is built after `ready`. If that fails, the process logs why, unmounts and exits with status 1.
        On SIGINT, SIGTERM and SIGHUP the process unmounts and exits with status 0.
        """
        # For unmounting, also in another user's directory. Before any thread starts: each has its own capabilities.
        keep_capabilities(CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN)
        terminator = Terminator(place.path, wait=not self._cover)
        save_memory()
        sys.setswitchinterval(SWITCH_INTERVAL)
        write_in_background()
        start_thread(self._keep_up, terminator)
        # Not in __init__: `start` may have entered a user namespace since, with another uid.
        root = root_directory(self._device, self._generation, android=self._android, files=self._files)
        tree = Tree(root, os.geteuid(), os.getegid())
        try:
            with terminator.on_signal():
                self._serve(tree, place, terminator, ready)
            log.info("unmounted from %s", place.path)
        finally:
            self._device.stop()
            logging.shutdown()  # the lines that wait

    def _serve(self, tree: Tree, place: Place, terminator: Terminator, ready: Callable[[], None]) -> None:

        def on_mount() -> None:
            try:
                ready()
            except BrokenPipeError:
                # The process that started this one is gone, and will not report the mount.
                start_thread(terminator.terminate)
            self._mounted.set()

        log.info("mounting on %s (pid %d)", place.path, os.getpid())
        # Open it now: the mount may cover /proc, and this process cannot answer its own open.
        processes = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        connection = self._attach(place, terminator)
        try:
            serve(tree, self._device.faults, connection, processes, on_mount)
        finally:
            os.close(processes)
            terminator.clear()

    def _attach(self, place: Place, terminator: Terminator) -> int:
        """Mount, and return a descriptor of /dev/fuse."""
        if not self._cover:
            # Again: the scenario may have taken long to load.
            with Proc() as proc:
                check_empty(proc, place)
        # Root's mounts are open to all users; the modes then decide, as on a debugfs.
        allow_other = self._allow_other or os.geteuid() == 0
        connection, device = attach(place.descriptor, place.name, allow_other=allow_other, mount_by_path=mount_by_path)
        os.close(place.descriptor)
        terminator.note_mount(device)
        return connection

    def _keep_up(self, terminator: Terminator) -> None:
        """Build the engine once the mount answers, and then keep it up to date."""
        self._mounted.wait()
        try:
            self._device.build()
        except BaseException as error:
            terminator.exit_status = 1  # at once: a reader that gets EIO may end `run`, which sends SIGTERM
            log.error("unmounting: cannot build the device: %s", error, exc_info=not isinstance(error, PinnerfsError))
            terminator.terminate()
        try:
            self._device.keep_up()
        except Exception:
            logging.exception("page_pinner state update failed: reads return EIO from now on")

    def start(self, mountpoint: str, prepare: Callable[[], Place]) -> int:
        """Run in a child process, and return its pid when the mount answers.

        The child calls `prepare`, which returns the directory to mount on. PinnerfsError if it cannot mount;
        `mountpoint` is for the message.
        """
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child:
            theirs.close()
            with ours:
                answer = wait_until_ready(ours)
            if not is_ready(answer):
                exit_status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                reason = answer.decode(errors="surrogateescape")
                if not reason:
                    raise PinnerfsError(not_ready(mountpoint, exit_status))
                raise PinnerfsError(reason, exit_status=exit_status)
            return child
        ours.close()
        writer = theirs.detach()
        status = 1
        try:
            self.detach(prepare, partial(report_ready, writer))
            status = 0
        except PinnerfsError as error:
            os.write(writer, str(error).encode(errors="surrogateescape"))
            status = error.exit_status
        except Exception:
            logging.exception("the daemon failed")
        finally:
            logging.shutdown()
            os._exit(status)

    def detach(self, prepare: Callable[[], Place], ready: Callable[[], None]) -> None:
        """Do the same as `run`, without the session, the standard files and the working directory of this process."""
        with suppress(PermissionError):  # it has served a mount before
            os.setsid()
        os.chdir("/")
        close_inherited()
        # Open it before the mount, which may cover /dev: this process cannot answer its own open.
        null = os.open(os.devnull, os.O_RDWR)

        def settle() -> None:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # None if the descriptor was closed at the start
                    stream.flush()
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.close(null)
            ready()

        self.run(prepare(), settle)
