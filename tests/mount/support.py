"""Mounts, the records that they must show, and commands and users that access them."""

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
from pinnerfs.fuse.libfuse import check_libfuse

ROOT = Path(__file__).parents[2]
DEADLINE = 120  # seconds for any wait; far more than needed, even on a busy machine
ORDINARY = 65534  # the uid and gid of an ordinary user

# The scenario has 64 MiB of memory. The hash of a task's name gives its first page. After the last page it wraps.
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

# For a mount namespace: an overlay on /sbin. Changes go to a tmpfs on the directory `layer`.
PRIVATE_SBIN = """
mount -t tmpfs none layer
mkdir layer/upper layer/work
sbin=$(readlink -f /sbin)
mount -t overlay overlay -o lowerdir="$sbin",upperdir=layer/upper,workdir=layer/work "$sbin"
"""

# For a mount namespace: an overlay on /etc. Changes go to a tmpfs on the directory `etc`. fusermount needs a name for
# each user, here 1000 and 1001. It also needs /etc/mtab, which a minimal system lacks.
PRIVATE_ETC = r"""
mount -t tmpfs -o mode=755 none etc
mkdir etc/upper etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc/upper,workdir=etc/work /etc
sed -i '/:100[01]:/d' /etc/passwd
printf '%s\n' one:x:1000:1000::/:/bin/sh other:x:1001:1001::/:/bin/sh >> /etc/passwd
test -e /etc/mtab || ln -s ../proc/self/mounts /etc/mtab
"""

# Runs pinnerfs as the user whose uid is the first argument.
AS_USER = (
    sys.executable,
    "-c",
    """
import ctypes, difflib, importlib, os, pkgutil, sys
import fuse, pinnerfs, pinnerfs.cli
# Load everything now: the user may have no access to the directories of Python and of the checkout.
for module in pkgutil.walk_packages(pinnerfs.__path__, "pinnerfs."):
    if module.name.rpartition(".")[2] not in ("__main__", "pytest_plugin"):
        importlib.import_module(module.name)
pinnerfs.Simulation(pinnerfs.load("camera-stall")).advance("1s")
user = int(sys.argv.pop(1))
os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
# PR_SET_DUMPABLE, as after exec. Without it root owns /proc/self.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
pinnerfs.cli.main()
""",
)

# Runs pinnerfs as root, which does what an ordinary user's pinnerfs does.
LIKE_A_USER = (
    sys.executable,
    "-c",
    "import os; os.geteuid = lambda: 1000; import pinnerfs.cli; pinnerfs.cli.main()",
)


def scenario(directory: Path, every: str = "1s", hold: str = "400ms", frames: Iterable[str] = FRAMES) -> Path:
    """Write a scenario that pins the next page after each `every`, and return its path."""
    path = directory / f"every-{every}-{hold}.toml"
    quoted = ", ".join(f'"{frame}"' for frame in frames)
    path.write_text(HEADER.format(name=path.stem, frames=quoted) + TASK.format(every=every, hold=hold))
    return path


def record(number: int, hold: int = 400_000, frames: Iterable[str] = FRAMES) -> bytes:
    """Return the record of that scenario's pin with this number. Numbers start at 0."""
    pfn = BASE_PFN + (FIRST_PAGE + number) % FRAMES_OF_MEMORY
    lines = [
        f"Page pinned ts {hold} us count 1",
        f"PFN {pfn} Block {pfn >> 10} type Movable Flags 0x80014(uptodate|lru|swapbacked)",
        *(f" {frame}" for frame in frames),
    ]
    return ("\n".join(lines) + "\n\n").encode()


def newest_first(count: int, first: int = 0, hold: int = 400_000, frames: Iterable[str] = FRAMES) -> list[bytes]:
    """Return the records of longterm_pinner after the release of the pins `first` to `count` - 1."""
    return [record(number, hold, tuple(frames)) for number in reversed(range(first, count))][:4096]


def why_no_mount(directory: Path) -> str | None:
    """Return why this machine cannot mount through FUSE, or None if it can."""
    try:
        check_libfuse()  # for the tests that act as an ordinary user
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
        if libc.mount(b"trial", os.fsencode(directory), b"fuse", 0, options):
            return f"mount(2) of a fuse: {os.strerror(ctypes.get_errno())}"
        libc.umount2(os.fsencode(directory), 2)  # MNT_DETACH
        return None
    finally:
        os.close(device)


def pinnerfs(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a pinnerfs command and wait for its end."""
    return run_command([sys.executable, "-m", "pinnerfs", *map(str, arguments)], **options)


def run_command(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command, wait for its end and return its status and output."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, "check": False} | options
    done: subprocess.CompletedProcess[str] = subprocess.run(command, env=environment(), **options)
    return done


def environment() -> dict[str, str]:
    """Return an environment with this checkout and with English messages."""
    return os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "LANGUAGE": "C"}


def shell(command: list[str], cwd: Path, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a session of its own. At the deadline, kill the whole session's process group."""
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
    """Return the lines of /proc/mounts. The name of a mount point may be undecodable."""
    return Path("/proc/mounts").read_text(errors="surrogateescape").split("\n")


def is_mounted(path: Path) -> bool:
    """Return whether a pinnerfs is mounted here, even one whose daemon has died."""
    # The kernel prints blanks, tabs, newlines and backslashes in octal.
    shown = re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", str(path))
    return any(f" {shown} fuse.pinnerfs " in line for line in mount_table())


@dataclass
class Mount:
    """A mounted fake device."""

    path: Path
    log: Path
    stderr: str = ""  # the stderr of `pinnerfs mount`
    # Each text must be in exactly one line of the log. No other line is allowed.
    expected: list[str] = field(default_factory=list)
    pid: int = 0
    pidfd: int = -1

    @property
    def threshold(self) -> Path:
        return self.path / "page_pinner" / "threshold"

    @property
    def records(self) -> Path:
        return self.path / "page_pinner" / "longterm_pinner"

    def control(self, name: str) -> str:
        """Read a control file."""
        return (self.path / ".pinnerfs" / name).read_text()

    def advance(self, time: str) -> None:
        """Advance the manual clock."""
        (self.path / ".pinnerfs" / "advance").write_text(time)

    def stats(self) -> dict[str, int]:
        return {name: int(value) for name, value in map(str.split, self.control("stats").splitlines())}

    def read_all(self, size: int = 4096) -> list[bytes]:
        """Return the result of each read of longterm_pinner up to the end of the file."""
        descriptor = os.open(self.records, os.O_RDONLY)
        try:
            return list(iter(lambda: os.read(descriptor, size), b""))
        finally:
            os.close(descriptor)

    @contextmanager
    def opened(self, flags: int = os.O_RDONLY, file: str = "longterm_pinner") -> Iterator[int]:
        """Open a file of page_pinner/ and yield its descriptor."""
        descriptor = os.open(self.path / "page_pinner" / file, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def shell(self, script: str, interpreter: str = "bash") -> subprocess.CompletedProcess[str]:
        """Run a shell script in page_pinner/."""
        done = shell([interpreter, "-c", script], self.path / "page_pinner")
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def gone(self, seconds: float = DEADLINE) -> bool:
        """Return whether the daemon ends within this time."""
        return bool(select.select([self.pidfd], [], [], seconds)[0])

    def check_log(self) -> None:
        """Check that the log has the expected lines and no others."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        for part in self.expected:
            matching = [line for line in lines if part in line]
            assert len(matching) == 1, f"wanted one line with {part!r} in the log: {lines}"
            lines.remove(matching[0])
        assert not lines, f"unexpected lines in the log: {lines}"

    def clean_up(self) -> None:
        """Unmount, lazily if necessary, and wait for the daemon's end."""
        if self.pidfd < 0:
            subprocess.run(["fusermount", "-uz", self.path], capture_output=True, timeout=DEADLINE, check=False)
            return
        try:
            for option in ("-u", "-uz"):
                if is_mounted(self.path):
                    subprocess.run(
                        ["fusermount", option, self.path], capture_output=True, timeout=DEADLINE, check=False
                    )
            # A copy of the mount in another mount namespace keeps the daemon running.
            if not self.gone(1):
                os.kill(self.pid, signal.SIGTERM)
            if not self.gone():
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail("the daemon outlived its mount")
        finally:
            os.close(self.pidfd)
            self.pidfd = -1


class Mounts:
    """The mounts below a directory. A call mounts a scenario."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mounts: list[Mount] = []

    def add(self, name: str) -> Mount:
        """Create a mount point, and clean it up at the end. The caller mounts."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        mount = Mount(path, self.directory / f"{name}.log")
        self._mounts.append(mount)
        return mount

    def __call__(
        self, source: str | Path | None = None, *options: str, name: str = "mnt", manual: bool = True
    ) -> Mount:
        """Mount a scenario. The default is one pin a second, and the manual clock."""
        mount = self.add(name)
        clock = ("--clock", "manual") if manual else ()
        source = scenario(self.directory) if source is None else source
        done = pinnerfs("mount", source, mount.path, "--log", mount.log, *clock, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        mount.stderr = done.stderr
        self.watch(mount)
        return mount

    @staticmethod
    def watch(mount: Mount) -> None:
        """Open a pidfd of a mount's daemon, to wait for its end."""
        mount.pid = int(mount.control("pid"))
        mount.pidfd = os.pidfd_open(mount.pid)

    def close(self) -> None:
        """Unmount everything and check the logs."""
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
    """Call `work` in a process of an ordinary user. Return its result, or the negative errno of its OSError."""
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
    """Return what a child writes to a pipe. At the deadline, kill the child."""
    process = os.pidfd_open(child)
    data = b""
    try:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            until = time.monotonic() + DEADLINE
            while select.select([pipe], [], [], max(0, until - time.monotonic()))[0] and (part := pipe.read(1 << 16)):
                data += part
        if not select.select([process], [], [], max(1, until - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            pytest.fail("a child did not end in time")
    finally:
        os.close(process)
        os.waitpid(child, 0)
    return pickle.loads(data)


def outcome(work: Callable[[], Any]) -> Any:
    """Call `work`. Return its result, or the negative errno of its OSError."""
    try:
        return work()
    except OSError as error:
        return -(error.errno or 0)


def in_namespace(work: Callable[[], Any]) -> Any:
    """Call `work` as root in a process with its own mount namespace. Return its result, or the negative errno."""
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
