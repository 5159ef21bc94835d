"""Mount through libfuse 2. No other module imports `fuse`, which finds and loads that library."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import fuse

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["Channel", "check_version"]

_library = fuse._libfuse


class _Arguments(ctypes.Structure):
    """A `struct fuse_args`."""

    _fields_ = [("argc", ctypes.c_int), ("argv", ctypes.POINTER(ctypes.c_char_p)), ("allocated", ctypes.c_int)]


def check_version() -> None:
    """Check that the library that fusepy loaded is libfuse 2. PinnerfsError names the package to install."""
    version = _library.fuse_version()
    # 29 is 2.9, and 310 is 3.10.
    major, minor = divmod(version, 10 if version < 100 else 100)
    if major != 2:
        raise PinnerfsError(
            f"found libfuse {major}.{minor}, wanted version 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases)",
            NO_FUSE,
        )


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


class Channel:
    """A new mount, with the descriptor of its requests. Creating it mounts; RuntimeError if libfuse cannot mount.

    libfuse writes the reason to stderr.
    """

    def __init__(self, mountpoint: str, options: dict[str, bool | str]) -> None:
        mount = _declare("fuse_mount", ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        descriptor_of = _declare("fuse_chan_fd", ctypes.c_int, ctypes.c_void_p)
        free_arguments = _declare("fuse_opt_free_args", None, ctypes.c_void_p)
        given = ",".join(fuse.FUSE._normalize_fuse_options(**options)).encode()
        argv = (b"pinnerfs", b"-o", given)
        arguments = _Arguments(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv), 0)
        self._place = os.fsencode(os.path.realpath(mountpoint))
        try:
            self._channel = mount(self._place, ctypes.byref(arguments))
        finally:
            free_arguments(ctypes.byref(arguments))
        if not self._channel:
            raise RuntimeError("fuse_mount() failed")
        self.descriptor: int = descriptor_of(self._channel)

    def close(self) -> None:
        """Close the descriptor. Unmount if the file system is still mounted."""
        _declare("fuse_unmount", None, ctypes.c_char_p, ctypes.c_void_p)(self._place, self._channel)
