"""What the kernel says about this process."""

from __future__ import annotations

from pathlib import Path

from pinnerfs.daemon.privileges import CAP_SYS_ADMIN
from pinnerfs.doctor.finding import Finding

__all__ = ["check_proc", "has_sys_admin", "status"]


def check_proc() -> Finding:
    """Look for /proc, without which neither a command of pinnerfs nor another check works."""
    if Path("/proc/self/status").exists():
        return Finding("/proc", "ok", "mounted")
    return Finding("/proc", "error", "not mounted, so nothing else was checked", "mount -t proc proc /proc")


def status(field: str) -> str | None:
    """Return a field of /proc/self/status, or None if it is missing."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":\t")
        if name == field:
            return value
    return None


def has_sys_admin() -> bool:
    """Return whether this process has the capability to mount."""
    return bool(int(status("CapEff") or "0", 16) >> CAP_SYS_ADMIN & 1)
