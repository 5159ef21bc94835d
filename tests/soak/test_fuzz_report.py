"""Dumps that are damaged, cut, mixed and made: read or refused, without a traceback, a hang or growing memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mount.support import ROOT, environment
from tests.soak.report_memory import Memory

FUZZ = "from tests.soak import report_fuzzer"
# Keeps a small part of each report, as a table that is never emptied would.
LEAK = """
kept, real = [], report_fuzzer.analyse
def analyse(capture, **options):
    report = real(capture, **options)
    kept.append((report.headline, report.generation + "."))
    return report
report_fuzzer.analyse = analyse
"""


def run(count: int, witness: Path, timeout: float, patch: str = "") -> dict[str, Any]:
    """Run the fuzzer, and return what it printed."""
    code = f"from pathlib import Path\n{FUZZ}\n{patch}\nreport_fuzzer.main(1, {count}, Path({str(witness)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr[-3000:]} at {witness.read_bytes()[:5000]!r}"
    return dict(json.loads(done.stdout))


def growth(came: dict[str, Any]) -> Memory:
    """Return by how much memory grew after the first quarter."""
    samples = [Memory(*sample[1:]) for sample in came["samples"]]
    early, late = samples[len(samples) // 4], samples[-1]
    return Memory(*(after - before for before, after in zip(early, late, strict=True)))


def leaks(grown: Memory) -> bool:
    """Tell whether so much growth is a leak. Without one, a million dumps leave some 300 objects and 50 KB."""
    return grown.objects > 1000 or grown.bytes > 1 << 20 or grown.unlimited > 0 or grown.resident > 16 << 20


def test_mutated_dumps(amount: Callable[[int, int], int], tell: Callable[[str], None], tmp_path: Path) -> None:
    """A million mutated dumps leave the memory where it was; the short form reads some thousands."""
    count = amount(3000, 1_000_000)
    came = run(count, tmp_path / "witness", amount(300, 6000))
    outcomes, grown = came["outcomes"], growth(came)
    tell(
        f"{count} dumps: {outcomes['read']} read, {outcomes['refused']} refused, memory grew by {grown.objects} "
        f"objects and {grown.bytes >> 10} KiB, resident by {grown.resident >> 10} KiB"
    )
    assert min(outcomes["read"], outcomes["refused"]) > count // 100
    assert came["longest"] < 60
    assert not leaks(grown), came["samples"]


def test_a_leak_is_seen(tmp_path: Path) -> None:
    """Two small objects for each report that is read are a leak, also among few dumps."""
    came = run(2000, tmp_path / "witness", 300, LEAK)
    assert leaks(growth(came)), came["samples"]
