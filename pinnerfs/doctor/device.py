"""The check of /dev/fuse."""

from __future__ import annotations

import errno
import os
import stat

from pinnerfs.doctor.finding import Finding
from pinnerfs.mounts.claim import NO_FUSE_DEVICE, REPLACE_DEVICE, device_error

__all__ = ["check_device"]

PATH = "/dev/fuse"
FOR_ALL = 0o666


def check_device() -> Finding:
    """Open /dev/fuse, and look at its mode."""
    error = device_error()
    if error is not None:
        return Finding(PATH, "error", *_explained(error))
    mode = stat.S_IMODE(os.stat(PATH).st_mode)
    if mode & FOR_ALL != FOR_ALL:
        return Finding(PATH, "warning", f"opens, but mode {mode:04o} is not for all users", f"chmod 666 {PATH}")
    return Finding(PATH, "ok", "opens for reading and writing")


def _explained(error: OSError) -> tuple[str, str]:
    """Return the reason of an error, and the remedy."""
    container = "start the container with --device /dev/fuse"
    if error.errno == errno.ENOENT:
        return "missing", f"modprobe fuse; in a container: {container}"
    if error.errno == errno.EPERM:
        return "the device rules of this container forbid to open it", container
    if error.errno == errno.EACCES:
        return _not_permitted()
    if error.errno == NO_FUSE_DEVICE:
        return "not the FUSE device, which is 10:229", REPLACE_DEVICE
    return f"does not open: {error.strerror}", "modprobe fuse"


def _not_permitted() -> tuple[str, str]:
    mode = stat.S_IMODE(os.stat(PATH).st_mode)
    if os.geteuid() == 0 or mode & FOR_ALL == FOR_ALL:
        remedy = f'mount -o remount,bind,dev "$(findmnt -fnro TARGET -T {PATH})"'
        return "on a file system that is mounted with nodev", remedy
    return f"mode {mode:04o} does not let uid {os.geteuid()} open it", f"chmod 666 {PATH}"
