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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.oracle.cases import DEBUGFS
from tests.oracle.scenarios import SLOT

__all__ = ["World", "WorldError", "why_no_mount"]

ROOT = Path(__file__).parents[2]
DEADLINE = 20  # seconds for a case, unless it says otherwise
USER = 1000  # the ordinary user of the recorded cases is called `user`

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 1 << 18, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)

INSIDE = f"""
umount -l {DEBUGFS} 2>/dev/null
test -d {DEBUGFS} || {{ mount -t tmpfs none /sys/kernel && mkdir {DEBUGFS}; }}
exec "$@"
"""


class WorldError(Exception):
    """The mount or the call inside failed, for the reason that this says."""


def why_no_mount() -> str | None:
    """Why this machine cannot replay cases, or None where it can."""
    if os.geteuid() != 0:
        return "only root can make a mount namespace"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse for us"
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


class World:
    """A running mount, its clock at the beginning of a slot of its scenario."""

    def __init__(self, folder: Path, kernel: str, scenario: str) -> None:
        number = len(list(folder.iterdir()))
        file = folder / f"{number}.toml"
        file.write_text(scenario)
        self._log = folder / f"{number}.log"
        command = [sys.executable, "-m", "pinnerfs", "mount", str(file), DEBUGFS, "-f", "--clock", "manual"]
        command += ["--kernel", kernel, "--log", str(self._log)]
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-c", INSIDE, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self.path = Path(f"/proc/{self._daemon.pid}/root{DEBUGFS}")
        deadline = time.monotonic() + DEADLINE
        while not (self.path / ".pinnerfs" / "pid").exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = self.log()
                self.close()
                raise WorldError(f"the mount never answered: {said}")
            time.sleep(0.01)
        self._fresh = self._tree()

    def close(self) -> None:
        """End the daemon; its namespace goes with it."""
        if self._daemon.poll() is None:
            self._daemon.terminate()
            try:
                self._daemon.wait(5)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
        self._daemon.wait()

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
