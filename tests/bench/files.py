"""The files: a client reads and writes those of pinnerfs and of a C program on libfuse 3."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from pinnerfs.mounts.unmount import unmount
from tests.bench.measure import DEADLINE, NotMeasured, build, fuse_flags, python, ratios
from tests.bench.table import Group, Target

__all__ = ["groups", "pinnerfs_mount"]

RECORDS = 4096
SCENARIO = "ring-overflow"  # the ring is full after a minute

# Command of the client, file and repeats: each takes about a tenth of a second.
WAYS = [("read", "longterm_pinner", 1), ("once", "threshold", 1500), ("write", "threshold", 1000)]
TARGETS = [
    Target(f"a full longterm_pinner ({RECORDS} records, {RECORDS + 1} reads), pinnerfs : C libfuse", 1.3, 1.2),
    Target("open + read + close of threshold, pinnerfs : C libfuse", 1.24, 1.15),
    Target("echo N > threshold (open with truncate, write, close), pinnerfs : C libfuse", 1.6, 1.5),
]


def groups() -> list[Group]:
    """Return the group of reads and writes."""
    return [Group(TARGETS, _measure)]


@contextmanager
def pinnerfs_mount(directory: Path, scenario: str | Path, *options: str) -> Iterator[Path]:
    """Mount pinnerfs in this directory and yield the mount point."""
    mountpoint = directory / "pinnerfs"
    mountpoint.mkdir()
    python("-m", "pinnerfs", "mount", str(scenario), str(mountpoint), *options)
    try:
        yield mountpoint
    finally:
        unmount(str(mountpoint))


@contextmanager
def _reference_mount(directory: Path, program: Path, records: bytes) -> Iterator[Path]:
    """Mount the C program, with these records, in this directory and yield the mount point."""
    mountpoint, text = directory / "reference", directory / "records"
    mountpoint.mkdir()
    text.write_bytes(records)
    # Single-threaded, and in a session of its own, as pinnerfs is. With autogroups the kernel schedules the processes
    # of a session together: in the session of its client the C program needs up to 1 us less for each request.
    command = [str(program), str(text), str(mountpoint), "-f", "-s", "-o", "default_permissions,fsname=reference"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            if not select.select([process.stdout], [], [], DEADLINE)[0]:
                raise NotMeasured("the C program does not become ready")
            if not process.stdout.readline():
                raise NotMeasured(f"the C program cannot mount: {process.stderr.read().decode().strip()}")
            yield mountpoint
        finally:
            # SIGTERM unmounts, which ends the program.
            process.terminate()
            process.wait(DEADLINE)


def _reads(mountpoint: Path) -> list[bytes]:
    descriptor = os.open(mountpoint / "page_pinner" / "longterm_pinner", os.O_RDONLY)
    try:
        return list(iter(lambda: os.read(descriptor, 4096), b""))
    finally:
        os.close(descriptor)


def _ask(client: Path, way: str, path: Path, rounds: int) -> float:
    done = subprocess.run(
        [client, way, path, str(rounds)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode:
        raise NotMeasured(f"the client fails: {done.stderr.strip()}")
    took, reads = done.stdout.split()
    wanted = {"read": rounds * (RECORDS + 1), "once": rounds, "write": 0}[way]
    if int(reads) != wanted:
        raise NotMeasured(f"the client needed {reads} reads instead of {wanted}")
    return float(took)


@contextmanager
def _one_processor() -> Iterator[None]:
    """Keep this process and its children on one processor.

    On two processors of a virtual machine each request waits for two interrupts, which hides all other costs.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _measure() -> list[list[float]]:
    with ExitStack() as stack:
        stack.enter_context(_one_processor())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pinnerfs-bench-")))
        program = build("reference_files.c", directory, *fuse_flags())
        client = build("client.c", directory)
        manual = ("--clock", "manual", "--start", "60s")
        ours = stack.enter_context(pinnerfs_mount(directory, SCENARIO, *manual))
        records = _reads(ours)
        theirs = stack.enter_context(_reference_mount(directory, program, b"".join(records)))
        if len(records) != RECORDS or _reads(theirs) != records:
            raise NotMeasured("the C program does not serve the same records")
        # Writes come last because they clear the records.
        return [_ratios(client, ours, theirs, *way) for way in WAYS]


def _ratios(client: Path, ours: Path, theirs: Path, way: str, name: str, rounds: int) -> list[float]:
    def took(mountpoint: Path) -> float:
        return _ask(client, way, mountpoint / "page_pinner" / name, rounds)

    return ratios(partial(took, ours), partial(took, theirs))
