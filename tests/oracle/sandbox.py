"""Mount pinnerfs at /sys/kernel/debug in a private mount namespace, and call functions in that namespace.

The mount is visible only in the namespace of the daemon. A call runs in a copy of that namespace with an empty /tmp.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pinnerfs.cli import main
from tests.mount import support
from tests.oracle.cases import DEBUGFS
from tests.oracle.scenarios import SLOT

__all__ = ["CMA_COUNTERS", "Sandbox", "SandboxError", "why_no_mount"]

DEADLINE = 90  # default seconds for a case; large, because the machine may be busy
USER = 1000  # the recorded cases call this user `user`

CMA_COUNTERS = "/sys/kernel/mm/cma"  # there, the mount's own counters are visible to a call

CLONE_NEWNS = 0x20000
MNT_DETACH = 2
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 1 << 18, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The mount failed, or the call in the sandbox did."""


def why_no_mount(directory: Path) -> str | None:
    """Return why this machine cannot replay cases, or None if it can."""
    if os.geteuid() != 0:
        return "only root can create a mount namespace"
    if (reason := support.why_no_mount(directory)) is not None:
        return reason
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "true"], capture_output=True, text=True)
    return f"unshare -m: {done.stderr.strip()}" if done.returncode else None


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None), f"mount {target}")


def _enter_namespace(pid: int) -> None:
    """Enter a copy of the mount namespace of a process. Mount an empty /tmp and name user 1000 `user`."""
    names = {}
    for name, entry in (("passwd", f"user:x:{USER}:{USER}::/:/bin/sh\n"), ("group", f"user:x:{USER}:\n")):
        lines = Path(f"/etc/{name}").read_text().splitlines(keepends=True)
        names[name] = "".join(line for line in lines if f":{USER}:" not in line) + entry
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    _check(_libc.setns(namespace, CLONE_NEWNS), "setns")
    os.close(namespace)
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("none", "/tmp", "tmpfs", 0)
    for name, text in names.items():
        Path(f"/tmp/{name}").write_text(text)
        _mount(f"/tmp/{name}", f"/etc/{name}", "", MS_BIND)
        os.unlink(f"/tmp/{name}")
    if os.path.isdir(counters := f"{DEBUGFS}/.pinnerfs/cma"):
        _mount("none", os.path.dirname(CMA_COUNTERS), "tmpfs", 0)
        os.mkdir(CMA_COUNTERS)
        _mount(counters, CMA_COUNTERS, "", MS_BIND)
    os.chdir("/")


class _Daemon:
    """A `pinnerfs mount -f` in a private mount namespace, where it covers the debugfs of the machine.

    It is a fork of this process, which has already imported pinnerfs. A new interpreter would take longer to start than
    most cases take to run.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        with log.open("wb") as file:
            self.pid = os.fork()
            if not self.pid:
                self._run(arguments, file.fileno())
        self._pidfd = os.pidfd_open(self.pid)

    @staticmethod
    def _run(arguments: list[str], log: int) -> NoReturn:
        try:
            for number in (signal.SIGALRM, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor, target in (os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2):
                os.dup2(descriptor, target)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            _check(_libc.unshare(CLONE_NEWNS), "unshare")
            _mount("none", "/", "", MS_REC | MS_PRIVATE)
            # A copy of another test's mount would keep its daemon alive.
            for line in support.mount_table():
                fields = line.split(" ")
                if fields[2:3] == ["fuse.pinnerfs"]:
                    _libc.umount2(os.fsencode(fields[1]).decode("unicode_escape").encode("latin-1"), MNT_DETACH)
            _libc.umount2(DEBUGFS.encode(), MNT_DETACH)
            if not os.path.isdir(DEBUGFS):
                _mount("none", "/sys/kernel", "tmpfs", 0)
                os.mkdir(DEBUGFS)
                os.mkdir(os.path.dirname(CMA_COUNTERS))
            sys.argv = ["pinnerfs", *arguments]
            main()
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def ended(self, seconds: float = 0) -> bool:
        """Return whether the daemon ends within this time."""
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def end(self) -> None:
        """End the daemon, which also removes its mount namespace."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended():
                os.kill(self.pid, number)
            if self.ended(DEADLINE):
                break
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)


class Sandbox:
    """A running mount. Its clock is always at the start of a slot of the scenario."""

    def __init__(self, directory: Path, kernel: str, scenario: str, options: tuple[str, ...] = ()) -> None:
        number = len(list(directory.iterdir()))
        file = directory / f"{number}.toml"
        file.write_text(scenario)
        self._log = directory / f"{number}.log"
        arguments = [
            "mount",
            str(file),
            DEBUGFS,
            "-f",
            "--clock",
            "manual",
            "--kernel",
            kernel,
            "--log",
            str(self._log),
            *options,
        ]
        self._daemon = _Daemon(arguments, self._log)
        self.path = Path(f"/proc/{self._daemon.pid}/root{DEBUGFS}")
        deadline = time.monotonic() + DEADLINE
        while not (self.path / ".pinnerfs" / "pid").exists():
            if self._daemon.ended() or time.monotonic() > deadline:
                log = self.log()
                self.close()
                raise SandboxError(f"the mount did not appear: {log}")
            time.sleep(0.002)
        self._initial_tree = self._tree()

    def close(self) -> None:
        """End the daemon, which also removes its mount namespace."""
        self._daemon.end()

    def log(self) -> str:
        """Return the log of the daemon."""
        return self._log.read_text()

    def _tree(self) -> list[tuple[str, int, int, int, int]]:
        paths = [self.path, *sorted(self.path.rglob("*"))]
        stats = [(str(path.relative_to(self.path)), path.stat()) for path in paths]
        return [(name, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size) for name, stat in stats]

    def usable(self) -> bool:
        """Return whether all modes, owners and sizes of the tree are unchanged since the mount."""
        try:
            return self._tree() == self._initial_tree
        except OSError:
            return False

    def write(self, name: str, value: str) -> None:
        """Write to a file by one write, without truncating it."""
        file = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)

    def reset(self) -> None:
        """Set the switches of page_pinner that the kernel has to their defaults."""
        for name, default in (("failure_tracking", "1\n"), ("buffer_size", "4096\n")):
            if (file := self.path / "page_pinner" / name).exists() and file.read_text() != default:
                self.write(f"page_pinner/{name}", default)

    def threshold(self, value: str) -> None:
        """Set the threshold, which clears the records of longterm_pinner. Some kernels have no threshold."""
        if (self.path / "page_pinner" / "threshold").exists():
            self.write("page_pinner/threshold", value)

    def pin(self, count: int = 1) -> None:
        """Advance the clock over the next `count` pins of the scenario, including their releases."""
        if count:
            self.write(".pinnerfs/advance", f"{count * SLOT}s")

    def pass_over(self, moment: int) -> None:
        """Advance the clock to the first slot after `moment`, in µs."""
        self.pin(moment // (SLOT * 1_000_000) + 1)

    def rewind(self, pins: int) -> None:
        """Advance the clock to the next slot of the first of the `pins` pins."""
        slots = int((self.path / ".pinnerfs" / "clock").read_text()) // (SLOT * 1_000_000)
        self.pin(-slots % pins)

    def call(self, function: Callable[..., Any], *arguments: Any, uid: int = 0, deadline: float = DEADLINE) -> Any:
        """Call `function` as user `uid` in a new process in the sandbox, and return its result."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            try:
                os.setsid()
                _enter_namespace(self._daemon.pid)
                if uid:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                answer = (True, function(*arguments))
            except BaseException as error:
                answer = (False, f"{type(error).__name__}: {error}")
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(pickle.dumps(answer))
            os._exit(0)
        os.close(writer)
        pidfd = os.pidfd_open(child)
        answered = b""
        try:
            until = time.monotonic() + deadline
            with os.fdopen(reader, "rb", buffering=0) as pipe:
                while select.select([pipe], [], [], max(0, until - time.monotonic()))[0]:
                    part = pipe.read(1 << 16)
                    if not part:
                        break
                    answered += part
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.close(pidfd)
            os.waitpid(child, 0)
        if not answered:
            raise SandboxError(f"no answer within {deadline} s")
        succeeded, value = pickle.loads(answered)
        if not succeeded:
            raise SandboxError(value)
        return value
