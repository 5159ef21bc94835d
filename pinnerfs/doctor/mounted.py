"""The check of the mounts of pinnerfs: whether each of them answers."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from pinnerfs.doctor.finding import Finding
from pinnerfs.doctor.privileges import InChild
from pinnerfs.errors import in_a_line
from pinnerfs.mounts.answers import no_answer
from pinnerfs.mounts.table import FSTYPE, Proc
from pinnerfs.mounts.unmount import is_dead
from pinnerfs.threads import start_thread
from pinnerfs.words import count_of

__all__ = ["check_mounts"]

NAME = "mounts"


def check_mounts(in_child: InChild[dict[str, bool]], max_wait: float) -> list[Finding]:
    """Ask all mounts of pinnerfs at once. A finding for each that is dead, or does not answer within `max_wait` s."""
    with Proc() as proc:
        paths = [*dict.fromkeys(mount.path for mount in proc.mounts() if mount.fstype == FSTYPE)]
    dead = in_child(lambda: _ask(paths, max_wait)) if paths else {}
    findings = []
    for path in paths:
        if path not in dead:
            findings.append(Finding(NAME, "warning", in_a_line(str(no_answer("use", path, max_wait)))))
        elif dead[path]:
            remedy = f"pinnerfs umount {in_a_line(shlex.quote(path))}"
            findings.append(Finding(NAME, "warning", f"the daemon of {in_a_line(path)} is gone", remedy))
    return findings or [Finding(NAME, "ok", f"{count_of(len(paths), 'mount')}, none is dead" if paths else "none")]


def _ask(paths: Sequence[str], max_wait: float) -> dict[str, bool]:
    """Return whether each mount is dead. One that does not answer is missing."""
    answers: SimpleQueue[tuple[str, bool]] = SimpleQueue()
    for path in paths:
        start_thread(lambda path=path: answers.put((path, is_dead(path))))
    dead: dict[str, bool] = {}
    until = time.monotonic() + max_wait
    while len(dead) < len(paths):
        try:
            path, answer = answers.get(timeout=max(0, until - time.monotonic()))
        except Empty:
            break
        dead[path] = answer
    return dead
