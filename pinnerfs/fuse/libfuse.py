"""Mount through libfuse 2 for ordinary users. No other module imports `fuse`, which finds and loads that library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["check_libfuse", "libfuse_version", "mount_by_path"]

CAPTURED = 1 << 16  # bytes of stderr; libfuse and fusermount write a line or two


class _Arguments(ctypes.Structure):
    """A `struct fuse_args`."""

    _fields_ = [("argc", ctypes.c_int), ("argv", ctypes.POINTER(ctypes.c_char_p)), ("allocated", ctypes.c_int)]


def check_libfuse() -> Any:
    """Check that fusepy loads libfuse 2, and return fusepy. PinnerfsError names the package to install."""
    try:
        import fuse
    except (OSError, AttributeError) as error:  # no library, or a library that is not libfuse
        raise PinnerfsError(
            f"cannot load libfuse 2: {error} (Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases; "
            "libfuse 3 does not replace it)",
            NO_FUSE,
        ) from None
    major, minor = _version(fuse)
    if major != 2:
        raise PinnerfsError(
            f"found libfuse {major}.{minor}, wanted version 2 "
            "(Debian and Ubuntu: install libfuse2t64, or libfuse2 on older releases)",
            NO_FUSE,
        )
    return fuse


def _version(fuse: Any) -> tuple[int, int]:
    version: int = fuse._libfuse.fuse_version()
    # 29 is 2.9, and 310 is 3.10.
    return divmod(version, 10 if version < 100 else 100)


def libfuse_version() -> str:
    """Return the version of libfuse 2. PinnerfsError as for `check_libfuse`."""
    return ".".join(map(str, _version(check_libfuse())))


def mount_by_path(path: str, options: Mapping[str, bool | str]) -> tuple[int, str]:
    """Mount on a path as an ordinary user, which libfuse does by fusermount.

    Return a descriptor of /dev/fuse, or -1, and what libfuse and fusermount have written to stderr.
    """
    fuse = check_libfuse()
    fuse_mount = fuse._libfuse.fuse_mount
    fuse_mount.restype, fuse_mount.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)
    descriptor_of = fuse._libfuse.fuse_chan_fd
    descriptor_of.restype, descriptor_of.argtypes = ctypes.c_int, (ctypes.c_void_p,)
    free_arguments = fuse._libfuse.fuse_opt_free_args
    free_arguments.restype, free_arguments.argtypes = None, (ctypes.c_void_p,)

    argv = (b"pinnerfs", b"-o", ",".join(fuse.FUSE._normalize_fuse_options(**options)).encode())
    arguments = _Arguments(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv), 0)
    with _captured_stderr() as captured:
        channel = fuse_mount(os.fsencode(path), ctypes.byref(arguments))
    free_arguments(ctypes.byref(arguments))
    written = os.pread(captured, CAPTURED, 0)
    os.close(captured)
    if not channel:
        return -1, written.decode(errors="surrogateescape")
    with suppress(OSError):
        os.write(2, written)
    # The channel is never freed: that would close the descriptor.
    descriptor: int = descriptor_of(channel)
    os.set_inheritable(descriptor, False)
    return descriptor, ""


@contextmanager
def _captured_stderr() -> Iterator[int]:
    """Let descriptor 2 lead to a file of its own, and yield a descriptor of that file."""
    stderr = os.dup(2)
    captured = os.memfd_create("stderr")
    os.dup2(captured, 2)
    try:
        yield captured
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
