"""Check the limits of this process before a mount, which would fail halfway with a misleading error."""

from __future__ import annotations

import os

from pinnerfs.errors import PinnerfsError

__all__ = ["check_room"]

# Descriptors that starting a daemon needs, with a reserve. Mounting and `run` need 10 at once.
DESCRIPTORS = 24


def check_room() -> None:
    """Check that this process can open enough files. PinnerfsError names the limit."""
    opened: list[int] = []
    try:
        while len(opened) < DESCRIPTORS:
            opened.append(os.open("/", os.O_PATH))
    except OSError as error:
        raise PinnerfsError(
            f"cannot open {DESCRIPTORS} more files, only {len(opened)}: {error.strerror}; "
            "wanted room for more open files (ulimit -n)"
        ) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
