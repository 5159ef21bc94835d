"""Check a mount point before a mount, and hold it by a descriptor."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

import errno
import os
import stat
from typing import NamedTuple

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.table import FSTYPE, Mount, Proc, open_directory
from pinnerfs.mounts.unmount import fusermount, is_dead, unmount_lazily

__all__ = [
    "NO_FUSE_DEVICE",
    "REPLACE_DEVICE",
    "Place",
    "check_covered",
    "check_empty",
    "claim",
    "device_error",
    "open_covered",
    "prepare_to_cover",
]

FUSE = 10, 229  # the device numbers of /dev/fuse
NO_FUSE_DEVICE = errno.ENOTTY  # the errno of device_error() for another file in its place
REPLACE_DEVICE = "rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229"


def device_error() -> OSError | None:
    """Open /dev/fuse, as its mode does not tell whether that works: a container may forbid it. Return the error."""
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return error
    status = os.fstat(descriptor)
    os.close(descriptor)
    is_device = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(*FUSE)
    return None if is_device else OSError(NO_FUSE_DEVICE, "Not the FUSE device")


def _check_device() -> None:
    error = device_error()
    if error is not None:
        remedies = {NO_FUSE_DEVICE: REPLACE_DEVICE, errno.EACCES: "chmod 666 /dev/fuse"}
        raise PinnerfsError(
            f"cannot open /dev/fuse: {error.strerror}; wanted a device to read and write "
            f"(as root: {remedies.get(error.errno or 0, 'modprobe fuse')}; for a container: --device /dev/fuse)",
            NO_FUSE,
        )


class Place(NamedTuple):
    """A directory that passed the checks for a mount, held by an O_PATH descriptor: it stays the same if renamed."""

    name: str  # as the user gave it
    path: str  # absolute, when it was opened
    descriptor: int
    notice: str | None = None  # for the user: the dead mount that was replaced


def claim(mountpoint: str) -> Place:
    """Check that pinnerfs can mount here, and hold the directory. Unmounts a dead mount of an earlier daemon.

    PinnerfsError if this is a mount point already, is missing, is not a directory or is not empty, or if this machine
    cannot mount through FUSE.
    """
    with Proc() as proc:
        descriptor, notice = _open_without_dead_mounts(proc, mountpoint)
        place = Place(mountpoint, proc.path(descriptor), descriptor, notice)
        check_empty(proc, place)
    _check_device()
    if os.geteuid() != 0:
        fusermount()
    return place


def _open_without_dead_mounts(proc: Proc, mountpoint: str) -> tuple[int, str | None]:
    """Open the directory, and unmount dead mounts there first. Return a notice about them."""
    notice, last = None, None
    while True:
        descriptor = open_directory(mountpoint, "mount on")
        if not is_dead(descriptor):
            return descriptor, notice
        try:
            dead = _dead_mount(proc, descriptor, mountpoint)
        finally:
            os.close(descriptor)
        if dead.id == last:
            raise PinnerfsError(
                f"cannot mount on {mountpoint}: the dead mount there cannot be unmounted (as root: umount -l "
                f"{dead.path})"
            )
        # By its id: another process may have replaced the dead mount meanwhile.
        unmount_lazily(proc, dead)
        notice, last = f"{mountpoint}: replaced a dead mount that an earlier daemon left", dead.id


def _dead_mount(proc: Proc, descriptor: int, mountpoint: str) -> Mount:
    mount = proc.mount_at(descriptor)
    if mount is not None and mount.fstype == FSTYPE:
        return mount
    fstype = "none" if mount is None else mount.fstype
    raise PinnerfsError(f"cannot mount on {mountpoint}: a dead mount of another type ({fstype}) is there")


def check_empty(proc: Proc, place: Place) -> None:
    """Check that a directory is no mount point and is empty. PinnerfsError if not."""
    refused = f"cannot mount on {place.name}"
    mount = proc.mount_at(place.descriptor) or proc.mount_on(place.descriptor)
    if mount is not None:
        raise PinnerfsError(f"{refused}: it is already a mount point ({mount.fstype}); wanted an empty directory")
    try:
        entries = os.listdir(proc.link(place.descriptor))
    except OSError as error:
        raise PinnerfsError(f"{refused}: {error.strerror}") from None
    if entries:
        raise PinnerfsError(f"{refused}: the directory is not empty ({entries[0]!r} is in it)")


def open_covered(mountpoint: str) -> Place:
    """Check that pinnerfs can mount over this directory, and hold it. PinnerfsError as for `claim`.

    For a private mount namespace: the directory may have contents, even a mount. Nothing is unmounted.
    """
    with Proc() as proc:
        descriptor = open_directory(mountpoint, "mount over", "; wanted a directory")
        place = Place(mountpoint, proc.path(descriptor), descriptor)
    if place.path == "/":
        raise PinnerfsError(f"cannot mount over {mountpoint}: the mount would be hidden; wanted a directory below /")
    return place


def check_covered(proc: Proc, place: Place) -> None:
    """Check that this process sees a pinnerfs mount on the directory. PinnerfsError if not."""
    descriptor = open_directory(place.path, "look at")
    try:
        mount = proc.mount_at(descriptor)
        if mount is None or mount.fstype != FSTYPE or mount.parent != proc.mount_id(place.descriptor):
            raise PinnerfsError(f"the mount on {place.name} is not visible to the command: not running the command")
    finally:
        os.close(descriptor)


def prepare_to_cover(mountpoint: str) -> str:
    """Check that this machine can mount and that the directory can be covered. Return the directory's path."""
    place = open_covered(mountpoint)
    os.close(place.descriptor)
    _check_device()
    return place.path
