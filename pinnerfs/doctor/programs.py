"""The checks of what an ordinary user's mount needs, and of the helper of mount(8)."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from pathlib import Path
from typing import Literal

from pinnerfs.doctor.finding import Finding
from pinnerfs.doctor.process import status
from pinnerfs.errors import PinnerfsError
from pinnerfs.fuse.libfuse import libfuse_version

__all__ = ["check_fuse_conf", "check_fusermount", "check_libfuse", "check_mount_helper"]

ROOT_DOES_NOT = "; root mounts without it"
HELPER = "mount.fuse.pinnerfs"


def _state() -> Literal["warning", "error"]:
    """Return the state of a problem that only ordinary users have."""
    return "warning" if os.geteuid() == 0 else "error"


def _needed() -> str:
    return ROOT_DOES_NOT if os.geteuid() == 0 else ""


def check_libfuse() -> Finding:
    """Load libfuse 2."""
    name = "libfuse 2"
    try:
        return Finding(name, "ok", f"version {libfuse_version()}")
    except PinnerfsError as error:
        reason = str(error).partition(" (")[0]
        # The name since Debian 13 and Ubuntu 24.04, and the one before.
        return Finding(name, _state(), f"{reason}{_needed()}", "apt install libfuse2t64 || apt install libfuse2")


def check_fusermount() -> Finding:
    """Look for fusermount, and whether it can become root."""
    name = "fusermount"
    program = shutil.which("fusermount")
    if program is None:
        other = shutil.which("fusermount3")
        remedy = "apt install fuse3" if other is None else f"ln -s {shlex.quote(other)} /usr/local/bin/fusermount"
        return Finding(name, _state(), f"not found in PATH{_needed()}", remedy)
    found = os.stat(program)
    if found.st_uid != 0 or not found.st_mode & stat.S_ISUID:
        text = f"{program} is not setuid root{_needed()}"
        return Finding(name, _state(), text, f"chown root {shlex.quote(program)}; chmod u+s {shlex.quote(program)}")
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        text = f"{program} is on a file system that is mounted with nosuid{_needed()}"
        return Finding(name, _state(), text, "mount that file system without nosuid")
    if status("NoNewPrivs") == "1":
        text = f"no_new_privs is set for this process, so {program} cannot become root{_needed()}"
        return Finding(name, _state(), text, "start the container without no-new-privileges")
    return Finding(name, "ok", f"{program} is setuid root")


def check_fuse_conf() -> Finding:
    """Look for user_allow_other, which --allow-other of an ordinary user needs."""
    name, path = "user_allow_other", Path("/etc/fuse.conf")
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        reason = f"{path}: {error.strerror}"
    else:
        if "user_allow_other" in map(str.strip, lines):
            return Finding(name, "ok", f"set in {path}")
        reason = f"not set in {path}"
    text = f"{reason}: ordinary users cannot mount with --allow-other"
    return Finding(name, "warning", text, f"echo user_allow_other >> {path}")


def check_mount_helper() -> Finding:
    """Look for the program that mount(8) runs for -t fuse.pinnerfs."""
    name, path = "mount helper", Path("/sbin", HELPER)
    if os.access(path, os.X_OK):
        return Finding(name, "ok", f"{path}: mount -t fuse.pinnerfs works")
    beside = str(Path(sys.executable).with_name(HELPER))
    program = shutil.which(HELPER) or (beside if os.path.exists(beside) else f"/PATH/OF/{HELPER}")
    remedy = f"ln -sf {shlex.quote(program)} /sbin/"
    if os.access("/sbin/mount.fuse", os.X_OK):
        return Finding(name, "warning", f"no {path}: mount -t fuse.pinnerfs works, but no remount", remedy)
    return Finding(name, "warning", f"no {path}: mount -t fuse.pinnerfs and fstab do not work", remedy)
