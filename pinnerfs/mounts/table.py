"""The kernel's mount table, and which mount a descriptor is on.

A path may name another mount a moment later: a directory above is renamed, or another mount covers this one. So mounts
are found by descriptors opened with O_PATH, and told apart by the kernel's mount ids.
"""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from pinnerfs.errors import PinnerfsError

__all__ = ["FSTYPE", "Mount", "Proc", "open_directory", "parse_mount_table", "read_text", "resolve"]

FSTYPE = "fuse.pinnerfs"
ATTEMPTS = 100  # to read two facts of a mount while directories are renamed


class Mount(NamedTuple):
    """A line of the mount table."""

    id: int
    parent: int  # the id of the mount that this one is mounted on
    device: bytes  # of the file system, which bind copies share
    path: str
    fstype: str
    user: int = 0  # the uid that mounted a FUSE file system


def parse_mount_table(text: bytes) -> Iterator[Mount]:
    """Yield the mounts of a /proc/PID/mountinfo."""
    # Bytes, and no splitlines(): a name may hold what some encoding takes for a line end.
    for line in text.removesuffix(b"\n").split(b"\n"):
        left, _, right = line.partition(b" - ")
        number, parent, device, _, path = left.split(b" ")[:5]
        # The kernel writes blanks, newlines and backslashes in octal.
        if b"\\" in path:
            path = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), path)
        fstype, _, options = right.split(b" ", 2)
        user = re.search(rb"\buser_id=(\d+)", options) if fstype.startswith(b"fuse") else None
        yield Mount(int(number), int(parent), device, os.fsdecode(path), fstype.decode(), int(user[1]) if user else 0)


class Proc:
    """The directory of this process in /proc. It stays usable after a mount has covered /proc.

    PinnerfsError if /proc is not mounted.
    """

    def __init__(self) -> None:
        try:
            self._directory = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            wanted = "wanted /proc to be mounted (as root: mount -t proc proc /proc)"
            raise PinnerfsError(f"cannot open /proc/self: {error.strerror}; {wanted}") from None

        self._prefix = "/proc/self"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._directory)

    def _read(self, name: str) -> bytes:
        with open(os.open(name, os.O_RDONLY, dir_fd=self._directory), "rb") as file:
            return file.read()

    def open_mount_table(self) -> int:
        """Return a descriptor of the mount table. The kernel reports POLLPRI there when the table has changed."""
        return os.open("mountinfo", os.O_RDONLY, dir_fd=self._directory)

    def mounts(self) -> list[Mount]:
        """Return the mount table, as far as it is below this process's root directory."""
        return list(parse_mount_table(self._read("mountinfo")))

    def mount_id(self, descriptor: int) -> int:
        """Return the id of the mount that a descriptor is on."""
        found = re.search(rb"^mnt_id:\s*(\d+)$", self._read(f"fdinfo/{descriptor}"), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def enter(self) -> None:
        """Make it the working directory: then `link` works even below a mount that covers /proc."""
        os.fchdir(self._directory)
        self._prefix = "."

    def link(self, descriptor: int) -> str:
        """Return a path for system calls that leads to a descriptor's file, wherever it is renamed."""
        return f"{self._prefix}/fd/{descriptor}"

    def path(self, descriptor: int) -> str:
        """Return the path of a descriptor at this moment."""
        return os.readlink(f"fd/{descriptor}", dir_fd=self._directory)

    def mount_at(self, descriptor: int) -> Mount | None:
        """Return the mount whose root directory a descriptor is, or None. Does not access it: it may be dead."""
        number = self.mount_id(descriptor)
        for _ in range(ATTEMPTS):
            path = self.path(descriptor)
            mount = next((mount for mount in self.mounts() if mount.id == number), None)
            if mount is None or mount.path == path:
                return mount
            if path.startswith(f"{mount.path.rstrip('/')}/"):
                break
            # A directory was renamed between the two reads.
        return None

    def mount_on(self, descriptor: int) -> Mount | None:
        """Return the mount on a directory that was opened before the mount, or None."""
        number, path = self.mount_id(descriptor), self.path(descriptor)
        return next((mount for mount in self.mounts() if mount.parent == number and mount.path == path), None)


def read_text(path: str) -> str:
    """Return the text of a small file."""
    # Importing pathlib takes longer than most commands have to do.
    with open(path, errors="replace") as file:
        return file.read()


def resolve(name: str, action: str) -> str:
    """Return the absolute path of a file, without symbolic links.

    PinnerfsError if it is empty, or relative to a deleted directory; `action`, such as "log to", starts the message.
    """
    _check_name(name, action)
    return os.path.realpath(name)


def open_directory(name: str, action: str, wanted: str = "") -> int:
    """Return an O_PATH descriptor of a directory, which may be a dead mount.

    PinnerfsError if it cannot be opened; `action`, such as "unmount", starts the message, and `wanted` ends it.
    """
    _check_name(name, action)
    try:
        return os.open(name, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise PinnerfsError(f"cannot {action} {name}: {error.strerror}{wanted}") from None


def _check_name(name: str, action: str) -> None:
    if not name:
        # An unset variable of a script must not mean the working directory.
        raise PinnerfsError(f"cannot {action} '': the path is empty")
    try:
        os.path.isabs(name) or os.getcwd()
    except FileNotFoundError:
        raise PinnerfsError(f"cannot {action} {name}: the working directory was deleted") from None
