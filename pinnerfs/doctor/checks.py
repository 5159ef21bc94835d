"""All checks of this machine, and whether `mount` and `run` can work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pinnerfs.doctor.device import check_device
from pinnerfs.doctor.finding import Finding
from pinnerfs.doctor.mounted import check_mounts
from pinnerfs.doctor.privileges import InChild, check_capabilities, check_user_namespaces
from pinnerfs.doctor.process import check_proc
from pinnerfs.doctor.programs import check_fuse_conf, check_fusermount, check_libfuse, check_mount_helper
from pinnerfs.doctor.release import check_numpy

__all__ = ["Diagnosis", "examine"]


@dataclass(frozen=True)
class Diagnosis:
    """What all checks found, and whether `mount` and `run` can work for this user."""

    findings: list[Finding]
    mount: Finding
    run: Finding

    @property
    def can_mount(self) -> bool:
        """Return whether any of the two works."""
        return "ok" in (self.mount.state, self.run.state)


def examine(in_child: InChild[Any], load_numpy: Callable[[], None], max_wait: float) -> Diagnosis:
    """Make all checks.

    `in_child` calls a function in a child process: the function may block forever, or change user and namespaces.
    `load_numpy` imports numpy, and raises PinnerfsError if that fails.
    `max_wait` is the longest wait for mounts, in seconds.
    """
    proc = check_proc()
    if proc.state == "error":
        return Diagnosis([proc], _verdict("mount", [proc]), _verdict("run", [proc]))
    device, libfuse, fusermount = check_device(), check_libfuse(), check_fusermount()
    capabilities, namespaces = check_capabilities(in_child), check_user_namespaces(in_child)
    numpy = check_numpy(in_child, load_numpy)
    findings = [
        proc,
        device,
        capabilities,
        namespaces,
        libfuse,
        fusermount,
        check_fuse_conf(),
        check_mount_helper(),
        numpy,
        *check_mounts(in_child, max_wait),
    ]
    as_root = [device, capabilities, numpy]
    root = os.geteuid() == 0
    mount = _verdict("mount", as_root if root else [device, libfuse, fusermount, numpy])
    run = _verdict("run", as_root if root and capabilities.state == "ok" else [device, namespaces, numpy])
    return Diagnosis(findings, mount, run)


def _verdict(command: str, needed: Sequence[Finding]) -> Finding:
    """Return whether a command can work; it needs all of these."""
    broken = [finding.name for finding in needed if finding.state == "error"]
    name = f"pinnerfs {command}"
    if broken:
        return Finding(name, "error", f"cannot work: see {', '.join(broken)}")
    return Finding(name, "ok", "can work")
