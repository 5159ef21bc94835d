"""A pinnerfs mount as a process, the records that it must show, and the shells and users that look at it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.operations import check_binding

ROOT = Path(__file__).parents[2]
DEADLINE = 120  # seconds for anything; far more than it takes, however busy the machine is
ORDINARY = 65534  # the uid and gid of an ordinary user

# 64 MiB of memory; a task begins at a place of its own, by its name, and wraps.
BASE_PFN = 0x8000
FRAMES_OF_MEMORY = 64 << 20 >> 12
FIRST_PAGE = int.from_bytes(hashlib.sha256(b"driver").digest()[:8]) % FRAMES_OF_MEMORY
HEADER = """
format = 1
name = "{name}"
description = "for the tests"

[memory]
size = "64MiB"
base_pfn = 0x8000
region = [{{ name = "all", size = "64MiB", migratetype = "Movable", flags = ["uptodate", "lru", "swapbacked"] }}]

[stack.driver]
frames = [{frames}]
"""
TASK = """
[[task]]
name = "driver"
stack = "driver"
region = "all"
[[task.phase]]
for = "8000h"
every = "{every}"
hold = "{hold}"
"""
FRAMES = ("pin_it+0x10/0x20", "drv_map+0x4/0x8 [drv]", "drv_ioctl+0x100/0x200")
LONG_FRAMES = tuple(f"{'a_function_with_a_very_long_name_' * 3}{number:02}+0x10/0x20" for number in range(16))

# In a mount namespace: /sbin as it is outside, but what is written to it goes to a tmpfs on the folder `layer`.
OWN_SBIN = """
mount -t tmpfs none layer
mkdir layer/upper layer/work
sbin=$(readlink -f /sbin)
mount -t overlay overlay -o lowerdir="$sbin",upperdir=layer/upper,workdir=layer/work "$sbin"
"""

# In a mount namespace: an /etc whose changes go to a tmpfs on the directory `etc`. The users 1000 and 1001 have names
# there, as fusermount refuses a user without one, and there is the mtab that it wants and a minimal system lacks.
OWN_ETC = r"""
mount -t tmpfs -o mode=755 none etc
mkdir etc/upper etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc/upper,workdir=etc/work /etc
sed -i '/:100[01]:/d' /etc/passwd
printf '%s\n' one:x:1000:1000::/:/bin/sh other:x:1001:1001::/:/bin/sh >> /etc/passwd
test -e /etc/mtab || ln -s ../proc/self/mounts /etc/mtab
"""

# pinnerfs as the user of the number that is the first argument.
AS_USER = (
    sys.executable,
    "-c",
    """
import ctypes, importlib, os, pkgutil, sys
import fuse, pinnerfs, pinnerfs.cli
# Imports and reads what comes late otherwise: the user may have no access to where Python and the checkout are.
for module in pkgutil.walk_packages(pinnerfs.__path__, "pinnerfs."):
    if module.name.rpartition(".")[2] not in ("__main__", "pytest_plugin"):
        importlib.import_module(module.name)
pinnerfs.Simulation(pinnerfs.load("camera-stall")).advance("1s")
user = int(sys.argv.pop(1))
os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
# As after exec: else /proc/self would be root's.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
pinnerfs.cli.main()
""",
)


def scenario(folder: Path, every: str = "1s", hold: str = "400ms", frames: Iterable[str] = FRAMES) -> Path:
    """A scenario that pins one page after the other, one each `every`, wrapping at the end of the memory."""
    path = folder / f"every-{every}-{hold}.toml"
    quoted = ", ".join(f'"{frame}"' for frame in frames)
    path.write_text(HEADER.format(name=path.stem, frames=quoted) + TASK.format(every=every, hold=hold))
    return path


def record(number: int, hold: int = 400_000, frames: Iterable[str] = FRAMES) -> bytes:
    """The text of that scenario's pin with this number, from 0 on, as the spec has it."""
    pfn = BASE_PFN + (FIRST_PAGE + number) % FRAMES_OF_MEMORY
    lines = [
        f"Page pinned ts {hold} us count 1",
        f"PFN {pfn} Block {pfn >> 10} type Movable Flags 0x80014(uptodate|lru|swapbacked)",
        *(f" {frame}" for frame in frames),
    ]
    return ("\n".join(lines) + "\n\n").encode()


def newest_first(count: int, first: int = 0, hold: int = 400_000, frames: Iterable[str] = FRAMES) -> list[bytes]:
    """What the file holds after pins `first` to `count` - 1."""
    return [record(number, hold, tuple(frames)) for number in reversed(range(first, count))][:4096]


def why_no_mount(folder: Path) -> str | None:
    """Why this machine cannot mount through FUSE, or None where it can. Found out without pinnerfs."""
    try:
        check_binding()
    except PinnerfsError as error:
        return str(error)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    try:
        if os.geteuid() != 0:
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"trial", os.fsencode(folder), b"fuse", 0, options):
            return f"mount(2) of a fuse: {os.strerror(ctypes.get_errno())}"
        libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH
        return None
    finally:
        os.close(device)


def pinnerfs(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of pinnerfs to its end."""
    return to_its_end([sys.executable, "-m", "pinnerfs", *map(str, arguments)], **options)


def to_its_end(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run any command, and keep what it says."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, "check": False} | options
    done: subprocess.CompletedProcess[str] = subprocess.run(command, env=environment(), **options)
    return done


def environment() -> dict[str, str]:
    """Plain words and this checkout, wherever a process runs."""
    return os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "LANGUAGE": "C"}


def shell(command: list[str], cwd: Path, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command; past the deadline it ends with all that it has started."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment() | (more or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=DEADLINE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def mount_table() -> list[str]:
    """The lines of /proc/mounts; somebody's mount point may have a name that is no text."""
    return Path("/proc/mounts").read_text(errors="surrogateescape").split("\n")


def is_mounted(path: Path) -> bool:
    """Whether a pinnerfs is mounted here, alive or dead."""
    # The kernel writes blanks, tabs, newlines and backslashes in octal.
    shown = re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", str(path))
    return any(f" {shown} fuse.pinnerfs " in line for line in mount_table())


@dataclass
class Mount:
    """A mounted fake device."""

    path: Path
    log: Path
    said: str = ""  # on stderr, by the command that mounted
    expected: list[str] = field(default_factory=list)  # parts of lines that may, and must, stand in the log
    pid: int = 0
    pidfd: int = -1

    @property
    def threshold(self) -> Path:
        return self.path / "page_pinner" / "threshold"

    @property
    def records(self) -> Path:
        return self.path / "page_pinner" / "longterm_pinner"

    def control(self, name: str) -> str:
        """A file of the hidden folder."""
        return (self.path / ".pinnerfs" / name).read_text()

    def advance(self, time: str) -> None:
        """Let the manual clock go on."""
        (self.path / ".pinnerfs" / "advance").write_text(time)

    def stats(self) -> dict[str, int]:
        return {name: int(value) for name, value in map(str.split, self.control("stats").splitlines())}

    def read_all(self, size: int = 4096) -> list[bytes]:
        """Every read of the records until the end."""
        descriptor = os.open(self.records, os.O_RDONLY)
        try:
            return list(iter(lambda: os.read(descriptor, size), b""))
        finally:
            os.close(descriptor)

    @contextmanager
    def opened(self, flags: int = os.O_RDONLY, file: str = "longterm_pinner") -> Iterator[int]:
        """A descriptor of a file of page_pinner/."""
        descriptor = os.open(self.path / "page_pinner" / file, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def shell(self, script: str, interpreter: str = "bash") -> subprocess.CompletedProcess[str]:
        """Run a script inside of page_pinner/."""
        done = shell([interpreter, "-c", script], self.path / "page_pinner")
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def gone(self, seconds: float = DEADLINE) -> bool:
        """Whether the daemon has ended, or does so in time."""
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def check_log(self) -> None:
        """Every line of the log is one that the test expects, and each of those has come."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        for part in self.expected:
            matching = [line for line in lines if part in line]
            assert len(matching) == 1, f"wanted one line with {part!r} in the log: {lines}"
            lines.remove(matching[0])
        assert not lines, f"unexpected lines in the log: {lines}"

    def clean_up(self) -> None:
        """Unmount, lazily if need be, and see the daemon off."""
        if self.pidfd < 0:
            subprocess.run(["fusermount", "-uz", self.path], capture_output=True, timeout=DEADLINE, check=False)
            return
        try:
            for option in ("-u", "-uz"):
                if is_mounted(self.path):
                    subprocess.run(
                        ["fusermount", option, self.path], capture_output=True, timeout=DEADLINE, check=False
                    )
            # Another mount namespace may have a copy of the mount, which would keep the daemon until that one ends.
            if not self.gone(1):
                os.kill(self.pid, signal.SIGTERM)
            if not self.gone():
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail("the daemon outlived its mount")
        finally:
            os.close(self.pidfd)
            self.pidfd = -1


class Mounts:
    """Makes mounts below a folder, and takes all of them down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mounts: list[Mount] = []

    def add(self, name: str) -> Mount:
        """A mount point that is cleaned up, with nothing mounted yet."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        mount = Mount(path, self.folder / f"{name}.log")
        self._mounts.append(mount)
        return mount

    def __call__(
        self, source: str | Path | None = None, *options: str, name: str = "mnt", manual: bool = True
    ) -> Mount:
        """Mount a scenario; unless told otherwise the one with a pin a second, with the manual clock."""
        mount = self.add(name)
        clock = ("--clock", "manual") if manual else ()
        source = scenario(self.folder) if source is None else source
        done = pinnerfs("mount", source, mount.path, "--log", mount.log, *clock, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        mount.said = done.stderr
        self.watch(mount)
        return mount

    @staticmethod
    def watch(mount: Mount) -> None:
        """Take hold of the daemon behind a mount."""
        mount.pid = int(mount.control("pid"))
        mount.pidfd = os.pidfd_open(mount.pid)

    def close(self) -> None:
        """Take everything down; then look into the logs."""
        problems: list[BaseException] = []
        for mount in reversed(self._mounts):
            for step in (mount.clean_up, mount.check_log):
                try:
                    step()
                except (Exception, pytest.fail.Exception) as problem:
                    problems.append(problem)
        if problems:
            raise problems[0]


def as_user(work: Callable[[], Any], uid: int = ORDINARY) -> Any:
    """What `work` returns in a process of an ordinary user; an OSError comes back as its errno's number, negative."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, pickle.dumps(outcome(work)))
        finally:
            os._exit(0)
    os.close(writer)
    return _answer(child, reader)


def _answer(child: int, reader: int) -> Any:
    """Return what a child has written to a pipe; one that does not end in time is killed."""
    process = os.pidfd_open(child)
    said = b""
    try:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            until = time.monotonic() + DEADLINE
            while select.select([pipe], [], [], max(0, until - time.monotonic()))[0] and (part := pipe.read(1 << 16)):
                said += part
        if not select.select([process], [], [], max(1, until - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            pytest.fail("a child did not end in time")
    finally:
        os.close(process)
        os.waitpid(child, 0)
    return pickle.loads(said)


def outcome(work: Callable[[], Any]) -> Any:
    """What `work` returns, or the negative errno of its OSError."""
    try:
        return work()
    except OSError as error:
        return -(error.errno or 0)


def in_namespace(work: Callable[[], Any]) -> Any:
    """What `work` returns in a process with a mount namespace of its own (for root); errors as with `as_user`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            new_namespace, recursive, private = 0x20000, 0x4000, 0x40000
            if libc.unshare(new_namespace) or libc.mount(None, b"/", None, recursive | private, None):
                os.write(writer, pickle.dumps(-ctypes.get_errno()))
            else:
                os.write(writer, pickle.dumps(outcome(work)))
        finally:
            os._exit(0)
    os.close(writer)
    return _answer(child, reader)
