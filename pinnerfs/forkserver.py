"""A client for the process that forks the processes of `pinnerfs mount`.

Imports take far longer than a mount. So one process imports everything once, and forks for each mount of this process.
It sees only what it inherited at its start. So its place is taken by a new one when a process that this thread started
now would inherit something else, such as another user, other limits or another mount namespace.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pinnerfs.errors import PinnerfsError
from pinnerfs.polling import wait_readable

__all__ = ["run_forked"]

_MODULE = "pinnerfs.cli.forkserver"

# The lines of /proc/thread-self/status about what a new process inherits.
_STATUS = re.compile(
    r"^(?:Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|SigBlk|SigIgn|Cap\w+|Cpus_allowed|Mems_allowed):.*", re.MULTILINE
)

# Variables that Python and libraries read when they start. The others are sent with each request.
_START_VARIABLES = (
    "PYTHON",
    "LD_",
    "LC_",
    "LANG",
    "TZ",
    "COV",
    "FUSE_",
    "GLIBC_",
    "MALLOC_",
    "NPY_",
    "OMP_",
    "OPENBLAS",
)

# Python ignores the first two. The server waits for its children, so it cannot ignore the third.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)

_LONGEST_END = 5.0  # seconds

_OUTPUT = 1 << 16  # bytes of stderr that become an error message


def run_forked(directory: str, arguments: Sequence[str], timeout: float) -> tuple[int, str, int]:
    """Run `pinnerfs ARGUMENTS` in a fork, with this environment and with a directory as its working directory.

    Return its exit status, its stderr, and a pipe that ends when the fork no longer serves a mount. TimeoutError if
    that takes too long: then its processes are killed.
    """
    global _server
    with _lock:
        state = _inherited()
        if _server is not None and (_server.state != state or not _server.lives()):
            _server.close()
            _server = None
        if _server is None:
            _server = _Server(state)
        try:
            return _server.run(directory, arguments, timeout)
        except BaseException:
            # It may still answer this request, which the next one must not read.
            _server.close()
            _server = None
            raise


def _inherited() -> tuple[object, ...]:
    """Return what a process that this thread starts inherits now."""
    here, root = Path("/proc/thread-self"), os.stat("/")
    facts: list[object] = [sys.executable, tempfile.gettempdir(), root.st_dev, root.st_ino]
    facts += [(name, value) for name, value in os.environ.items() if name.startswith(_START_VARIABLES)]
    facts += _STATUS.findall((here / "status").read_text(errors="replace"))
    facts += [os.getpriority(os.PRIO_PROCESS, 0), (here / "limits").read_text(), (here / "cgroup").read_text()]
    with suppress(PermissionError):  # after a change of the user
        facts += [os.readlink(here / "ns" / name) for name in sorted(os.listdir(here / "ns"))]
    return tuple(facts)


class _Server:
    """A process that runs pinnerfs in forks of itself. It ends with the process that started it, however that ends."""

    def __init__(self, state: tuple[object, ...]) -> None:
        self.state = state
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        self._stderr = os.memfd_create("stderr")
        owner = os.pidfd_open(self._owner)
        try:
            # Without -P Python would look for modules in the working directory first.
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", _MODULE, tempfile.gettempdir()],
                os.environ,
                # The server takes the first two for its requests and for the end of this process.
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, descriptor, number)
                    for number, descriptor in enumerate((theirs.fileno(), owner, self._stderr))
                ],
                setsid=True,  # Ctrl-C is for this process alone
                setsigdef=_DEFAULT_SIGNALS,
            )
        except BaseException:
            self._socket.close()
            os.close(self._stderr)
            raise
        finally:
            theirs.close()
            os.close(owner)
        self._process = os.pidfd_open(pid)

    def lives(self) -> bool:
        """Return whether it has not ended."""
        return not wait_readable(0, self._process)

    def run(self, directory: str, arguments: Sequence[str], timeout: float) -> tuple[int, str, int]:
        """Do the same as `run_forked`."""
        variables = [name + b"=" + value for name, value in os.environb.items()]
        words = [directory, str(len(arguments)), *arguments]
        if any("\0" in word for word in words):
            raise ValueError("embedded null byte")
        request, stderr = os.memfd_create("request"), os.memfd_create("stderr")
        serving, served = os.pipe()
        try:
            with open(request, "wb", closefd=False) as file:
                file.write(b"\0".join([*map(os.fsencode, words), *variables]))
                file.seek(0)
            with suppress(BrokenPipeError):
                socket.send_fds(self._socket, [b" "], [request, stderr, served])
            if not wait_readable(timeout, self._socket.fileno()):
                raise TimeoutError
            answer = b""
            with suppress(ConnectionResetError):
                answer = self._socket.recv(100)
            if not answer:
                raise self._ended()
            return int(answer), _text(stderr), serving
        except BaseException:
            os.close(serving)
            raise
        finally:
            for descriptor in request, stderr, served:
                os.close(descriptor)

    def _ended(self) -> PinnerfsError:
        """Return the error of a server that ended instead of answering."""
        status = self._wait()  # it may close its socket before it says why
        text = _text(self._stderr)
        if text:
            return PinnerfsError("; ".join(line.removeprefix("Error: ") for line in text.splitlines()), status or 1)
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return PinnerfsError(f"the process that starts the daemons {how}")

    def _wait(self) -> int:
        """Wait for its end, and return its exit status; below 0 for a signal."""
        wait_readable(None, self._process)
        with suppress(ChildProcessError):  # another part of this program has waited for it
            ended = os.waitid(os.P_PIDFD, self._process, os.WEXITED)
            if ended is not None:
                return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return 0

    def close(self) -> None:
        """End it. Its daemons go on. A fork of the process that started it only forgets it."""
        if self._owner == os.getpid():
            # It may have ended. After a change of the user this is not permitted; then it ends with this process.
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
                self._wait()
        self._release()

    def leave(self) -> None:
        """Wait for its end, unless daemons are left: then it ends them, and itself, when this process has ended."""
        if self._owner != os.getpid():
            return
        with suppress(OSError):  # it may have ended
            self._socket.shutdown(socket.SHUT_WR)
            if wait_readable(_LONGEST_END, self._socket.fileno()) and not self._socket.recv(100):
                wait_readable(_LONGEST_END, self._process)
        self._release()

    def _release(self) -> None:
        """Close the descriptors that lead to it."""
        self._socket.close()
        os.close(self._stderr)
        os.close(self._process)


def _text(file: int) -> str:
    return os.pread(file, _OUTPUT, 0).decode(errors="replace")


_lock = threading.Lock()
_server: _Server | None = None


def _leave() -> None:
    if _server is not None:
        _server.leave()


def _forget() -> None:
    """Forget the server in a fork of this process: it serves only the process that started it."""
    global _lock, _server
    _lock = threading.Lock()
    if _server is not None:
        _server.close()
        _server = None


atexit.register(_leave)
os.register_at_fork(after_in_child=_forget)
