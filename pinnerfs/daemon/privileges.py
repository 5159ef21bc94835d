"""What a daemon lays down: root's powers that it has no use for, and what its parent had open."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from pinnerfs.errors import PinnerfsError

__all__ = ["CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_ADMIN", "close_inherited", "keep_capabilities"]

# From <linux/capability.h> and <sys/prctl.h>.
CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN = 2, 5, 21
_CAPABILITY_VERSION_3 = 0x20080522
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        raise PinnerfsError(f"cannot give up privileges: {os.strerror(ctypes.get_errno())}")


def keep_capabilities(*kept: int) -> None:
    """Leave root's thread, and those that it will start, these capabilities of those that it has, and no groups.

    Who is not root has none, and needs a setuid fusermount to unmount: nothing happens.
    """
    if os.geteuid() != 0:
        return
    # Where an ordinary user is root of a user namespace, the groups are the user's own and cannot be set.
    with suppress(PermissionError):
        os.setgroups([])
    # Else whatever program root runs would have all of them again.
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted and inheritable: those below 32, then the others.
    sets = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, sets))
    mask = sum(1 << number for number in kept)
    sets[:] = [sets[0] & mask, sets[1] & mask, 0, 0, 0, 0]
    _check(_libc.capset(header, sets))


def close_inherited() -> None:
    """Close whatever was open when this program began, but stdin, stdout and stderr: a lock, or the end of a pipe.

    What the program itself has opened stays: Python opens it so that no other program would inherit it.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the one that the listing had open is gone
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)
