"""fusepy, as pinnerfs uses it: the one module that imports `fuse`.

A record read costs a C program some 8 µs, of which most is the kernel's way there and back: what happens often goes
from fusepy's callback to the open file without a detour. Importing this module loads libfuse.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from typing import Any

import fuse

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["Binding", "check_version"]

# How names become strings, and back: bytes as characters, one for one, as they need not be UTF-8.
ENCODING = "latin-1"

# ctypes's own memmove and string_at cost more than it does to copy a record: these keep the interpreter's lock.
_copy = ctypes.PyDLL(None).memmove
_copy.restype = None
_bytes_at = ctypes.pythonapi.PyBytes_FromStringAndSize
_bytes_at.restype = ctypes.py_object

log = logging.getLogger(__name__)


def check_version() -> None:
    """See to it that libfuse 2 is what has been loaded. PinnerfsError says what to install."""
    version = fuse._libfuse.fuse_version()
    if version // 10 != 2:
        raise PinnerfsError(
            f"the libfuse that was found has version {version // 10}.{version % 10}: wanted 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older ones)",
            NO_FUSE,
        )


class Binding(fuse.FUSE):  # type: ignore[misc]
    """Mounts `operations` and answers until the unmount. RuntimeError where libfuse cannot mount.

    An operation that they lack answers ENOSYS, which the kernel remembers. All are called as fusepy has it, with the
    `fuse_file_info` of open files; but `read`, `write` and `getattr`, which come most often, by a shorter way.
    """

    def __init__(self, operations: Any, mountpoint: str, **options: Any) -> None:
        super().__init__(
            operations, os.fsencode(mountpoint).decode(ENCODING), raw_fi=True, encoding=ENCODING, **options
        )

    @staticmethod
    def _wrapper(operation: Callable[..., Any], *arguments: Any) -> Any:
        """Run an operation. Anything but an errno is a bug of ours: the log tells it, the caller gets EIO."""
        try:
            return operation(*arguments) or 0
        except OSError as error:
            if error.errno:
                return -error.errno
            log.exception("%s%r failed", operation.__name__, arguments[:1])
        except BaseException:  # libfuse can pass nothing on
            log.exception("%s%r failed", operation.__name__, arguments[:1])
        return -errno.EIO

    def getattr(self, path: bytes, buffer: Any) -> None:
        """Call `getattr` with the `struct stat` to be filled, which libfuse has zeroed."""
        self.operations.getattr(path.decode(ENCODING), buffer.contents)

    def fgetattr(self, path: bytes, buffer: Any, information: Any) -> None:
        """The same of an open file."""
        self.operations.getattr(path.decode(ENCODING), buffer.contents)

    def read(self, path: bytes, buffer: Any, size: int, offset: int, information: Any) -> int:
        """Call `read` with the open file and the size alone."""
        data = self.operations.read(information.contents, size)
        length = len(data)
        assert length <= size
        _copy(buffer, data, length)
        return length

    def write(self, path: bytes, buffer: Any, size: int, offset: int, information: Any) -> int:
        """Call `write` with the open file, the offset and the data; it takes all of them, or none."""
        self.operations.write(information.contents, offset, _bytes_at(buffer, size))
        return size
