"""Dumps that are damaged, cut, mixed and made: read or refused, without a traceback, a hang or growing memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.mount.support import ROOT, environment


def test_mutated_dumps(amount: Callable[[int, int], int], tell: Callable[[str], None], tmp_path: Path) -> None:
    """A million mutated dumps leave the memory where it was; the short form reads some thousands."""
    count, witness = amount(3000, 1_000_000), tmp_path / "witness"
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.report_fuzzer", "1", str(count), str(witness)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=amount(300, 6000),
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr[-3000:]} at {witness.read_bytes()[:5000]!r}"
    came = json.loads(done.stdout)
    outcomes = came["outcomes"]
    growth = (came["peak"] - came["early"]) / 1024
    tell(f"{count} dumps: {outcomes['read']} read, {outcomes['refused']} refused, memory grew by {growth:.0f} MiB")
    assert min(outcomes["read"], outcomes["refused"]) > count // 100
    assert came["longest"] < 60
    assert growth < 32
