"""Drop root's unneeded privileges, and close inherited descriptors."""

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
        raise PinnerfsError(f"cannot drop privileges: {os.strerror(ctypes.get_errno())}")


def keep_capabilities(*kept: int) -> None:
    """Drop all other capabilities and all groups of root's thread, and of those that it starts later.

    Does nothing for other users: they have no capabilities, and need a setuid fusermount to unmount.
    """
    if os.geteuid() != 0:
        return
    # In a user namespace root cannot set groups: they are those of the ordinary user.
    with suppress(PermissionError):
        os.setgroups([])
    # Else any program that root executes would get all capabilities back.
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable: the low 32 bits of each, then the high ones.
    sets = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(header, sets))
    mask = sum(1 << number for number in kept)
    sets[:] = [sets[0] & mask, sets[1] & mask, 0, 0, 0, 0]
    _check(_libc.capset(header, sets))


def close_inherited() -> None:
    """Close the descriptors that this process inherited, except 0, 1 and 2: a lock, for example, or a pipe.

    Keeps what the program has opened itself: Python opens files as not inheritable.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # listdir's own descriptor is closed by now
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)
