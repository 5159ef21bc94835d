"""The checks of whether this process may mount: by capabilities, or in a user namespace."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from pinnerfs.doctor.finding import Finding
from pinnerfs.doctor.process import has_sys_admin
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.claim import device_error
from pinnerfs.mounts.detached import new_mount
from pinnerfs.mounts.namespace import PR_SET_DUMPABLE, isolate

__all__ = ["InChild", "check_capabilities", "check_user_namespaces"]

_Result = TypeVar("_Result")
InChild = Callable[[Callable[[], _Result]], _Result]

NOT_TRIED = "not tried"
NOBODY = 65534
CONTAINER = "start the container with --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined"

# The sysctls that forbid user namespaces: the value that does, and one that does not.
SYSCTLS = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),  # Ubuntu 23.10 and later
    "kernel.unprivileged_userns_clone": ("0", "1"),  # Debian and Arch Linux
    "user.max_user_namespaces": ("0", "15000"),
}


def check_capabilities(in_child: InChild[int]) -> Finding:
    """Try to make a mount as root; it is attached nowhere. An ordinary user needs no capability."""
    name = "capabilities"
    if os.geteuid() != 0:
        return Finding(name, "ok", "an ordinary user needs none")
    if not has_sys_admin():
        return Finding(name, "error", "uid 0 without CAP_SYS_ADMIN, as in a container, cannot mount", CONTAINER)
    if device_error() is not None:
        return Finding(name, "ok", "CAP_SYS_ADMIN; a mount was not tried, because /dev/fuse does not open")
    number = in_child(_try_mount)
    if number == errno.ENOSYS:
        return Finding(name, "error", "this kernel has no fsmount(2)", "boot Linux 5.2 or later")
    if number:
        text = f"mounting fails in spite of CAP_SYS_ADMIN: {os.strerror(number)}; seccomp or AppArmor may forbid it"
        return Finding(name, "error", text, CONTAINER)
    return Finding(name, "ok", "CAP_SYS_ADMIN; a mount for a trial works")


def _try_mount() -> int:
    """Make a FUSE mount that is attached nowhere, and drop it. Return an errno, or 0."""
    try:
        connection = os.open("/dev/fuse", os.O_RDWR)
        values = {"fd": str(connection), "rootmode": "40000", "user_id": "0", "group_id": "0"}
        os.close(new_mount("fuse", values, ()))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def check_user_namespaces(in_child: InChild[str]) -> Finding:
    """Try to make a user namespace with a mount in it, as `run` does without root."""
    name = "user namespaces"
    reason = in_child(_try_namespace)
    others = os.geteuid() == 0 and has_sys_admin()
    whom = "ordinary users" if others else "this user"
    if not reason:
        return Finding(name, "ok", f"{whom} can make one and mount in it")
    if reason == NOT_TRIED:
        return Finding(
            name, "ok", f"{whom} can make one; a mount in it was not tried, because {whom} cannot open /dev/fuse"
        )
    state: Literal["warning", "error"] = "warning" if others else "error"
    text = f"{whom} cannot mount in one ({reason}), so `pinnerfs run` fails"
    blocking = {sysctl: good for sysctl, (bad, good) in SYSCTLS.items() if _value(sysctl) == bad}
    if blocking:
        text += "; " + " and ".join(f"{sysctl} is {_value(sysctl)}" for sysctl in blocking)
        remedy = "sysctl -w " + " ".join(f"{sysctl}={good}" for sysctl, good in blocking.items())
        return Finding(name, state, text, remedy)
    text += "; a chroot, or the seccomp rules of a container, may forbid it"
    return Finding(name, state, text, "start the container with --security-opt seccomp=unconfined")


def _value(sysctl: str) -> str | None:
    try:
        return Path("/proc/sys", *sysctl.split(".")).read_text().strip()
    except OSError:
        return None


def _try_namespace() -> str:
    """Return the reason of the failure, "" if it works, or NOT_TRIED without a usable /dev/fuse.

    As root with all rights, try it as an ordinary user.
    """
    if os.geteuid() == 0 and has_sys_admin():
        _become_nobody()
    try:
        isolate()
    except PinnerfsError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    # An AppArmor of Ubuntu lets a user make the namespace, and then forbids the mount.
    if device_error() is not None:
        return NOT_TRIED
    number = _try_mount()
    return f"mount: {os.strerror(number)}" if number else ""


def _become_nobody() -> None:
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return  # a user namespace without this user
    # As after exec: else root owns /proc/self, and the mapping of the new namespace cannot be written.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
