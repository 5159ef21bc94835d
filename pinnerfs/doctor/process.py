"""What the kernel says about this process."""

from __future__ import annotations

from pathlib import Path

__all__ = ["has_sys_admin", "status"]

CAP_SYS_ADMIN = 21


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
