"""Mount through libfuse 2. No other module imports `fuse`, which finds and loads that library."""

from __future__ import annotations

import fuse

from pinnerfs.errors import NO_FUSE, PinnerfsError

__all__ = ["check_version"]

_library = fuse._libfuse


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
