"""A mount of pinnerfs at /sys/kernel/debug, in a mount namespace of its own, and running something in there.

Nothing outside sees it: the daemon holds the namespace, and what runs inside gets a copy of it with an empty /tmp.
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

__all__ = ["World", "WorldError", "why_no_mount"]

DEADLINE = 90  # seconds for a case, unless it says otherwise; far more than it takes, however busy the machine is
USER = 1000  # the ordinary user of the recorded cases is called `user`

CLONE_NEWNS = 0x20000
MNT_DETACH = 2
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 1 << 18, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


class WorldError(Exception):
    """The mount or the call inside failed, for the reason that this says."""


def why_no_mount(folder: Path) -> str | None:
    """Return why this machine cannot replay cases, or None where it can."""
    if os.geteuid() != 0:
        return "only root can make a mount namespace"
    if (reason := support.why_no_mount(folder)) is not None:
        return reason
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "true"], capture_output=True, text=True)
    return f"unshare -m: {done.stderr.strip()}" if done.returncode else None


def _must(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    _must(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None), f"mount {target}")


def _enter(pid: int) -> None:
    """Go into a copy of that process's mount namespace, with an empty /tmp and a user 1000 called `user`."""
    names = {}
    for name, entry in (("passwd", f"user:x:{USER}:{USER}::/:/bin/sh\n"), ("group", f"user:x:{USER}:\n")):
        lines = Path(f"/etc/{name}").read_text().splitlines(keepends=True)
        names[name] = "".join(line for line in lines if f":{USER}:" not in line) + entry
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    _must(_libc.setns(namespace, CLONE_NEWNS), "setns")
    os.close(namespace)
    _must(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("none", "/tmp", "tmpfs", 0)
    for name, text in names.items():
        Path(f"/tmp/{name}").write_text(text)
        _mount(f"/tmp/{name}", f"/etc/{name}", "", MS_BIND)
        os.unlink(f"/tmp/{name}")
    os.chdir("/")


class _Daemon:
    """A `pinnerfs mount -f` in a mount namespace of its own, where it covers the machine's own debugfs.

    It is forked from this process, which has imported all of it: an interpreter of its own takes longer to start than
    most cases take.
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
            _must(_libc.unshare(CLONE_NEWNS), "unshare")
            _mount("none", "/", "", MS_REC | MS_PRIVATE)
            _libc.umount2(DEBUGFS.encode(), MNT_DETACH)
            if not os.path.isdir(DEBUGFS):
                _mount("none", "/sys/kernel", "tmpfs", 0)
                os.mkdir(DEBUGFS)
            sys.argv = ["pinnerfs", *arguments]
            main()
        except SystemExit as left:
            os._exit(left.code if isinstance(left.code, int) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def ended(self, seconds: float = 0) -> bool:
        """Return whether it has ended, or does so in time."""
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def end(self) -> None:
        """End it; its namespace goes with it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended():
                os.kill(self.pid, number)
            if self.ended(DEADLINE):
                break
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)


class World:
    """A running mount, its clock at the beginning of a slot of its scenario."""

    def __init__(self, folder: Path, kernel: str, scenario: str) -> None:
        number = len(list(folder.iterdir()))
        file = folder / f"{number}.toml"
        file.write_text(scenario)
        self._log = folder / f"{number}.log"
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
        ]
        self._daemon = _Daemon(arguments, self._log)
        self.path = Path(f"/proc/{self._daemon.pid}/root{DEBUGFS}")
        deadline = time.monotonic() + DEADLINE
        while not (self.path / ".pinnerfs" / "pid").exists():
            if self._daemon.ended() or time.monotonic() > deadline:
                said = self.log()
                self.close()
                raise WorldError(f"the mount never answered: {said}")
            time.sleep(0.002)
        self._fresh = self._tree()

    def close(self) -> None:
        """End the daemon; its namespace goes with it."""
        self._daemon.end()

    def log(self) -> str:
        """What the daemon has logged."""
        return self._log.read_text()

    def _tree(self) -> list[tuple[str, int, int, int, int]]:
        paths = [self.path, *sorted(self.path.rglob("*"))]
        stats = [(str(path.relative_to(self.path)), path.stat()) for path in paths]
        return [(name, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size) for name, stat in stats]

    def usable(self) -> bool:
        """Whether the tree is as it was at the beginning, all modes, owners and sizes."""
        tracking = self.path / "page_pinner" / "failure_tracking"
        try:
            return self._tree() == self._fresh and (not tracking.exists() or tracking.read_text() == "1\n")
        except OSError:
            return False

    def write(self, name: str, value: str) -> None:
        """Write to a file as one write, without truncating it."""
        file = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)

    def threshold(self, value: str) -> None:
        """Set the threshold, which clears the records."""
        self.write("page_pinner/threshold", value)

    def pin(self, count: int = 1) -> None:
        """Let the next pins of the scenario happen, from grab to release."""
        if count:
            self.write(".pinnerfs/advance", f"{count * SLOT}s")

    def rewind(self, pins: int) -> None:
        """Go on to where the scenario's first pin comes next."""
        slots = int((self.path / ".pinnerfs" / "clock").read_text()) // (SLOT * 1_000_000)
        self.pin(-slots % pins)

    def inside(self, function: Callable[..., Any], *arguments: Any, uid: int = 0, deadline: float = DEADLINE) -> Any:
        """What `function` returns when it is called in a process of its own, inside, as that user."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            try:
                os.setsid()
                _enter(self._daemon.pid)
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
            raise WorldError(f"no answer within {deadline} s")
        fine, value = pickle.loads(answered)
        if not fine:
            raise WorldError(value)
        return value
