"""The bugreport that `make bench` measures reports with."""

from __future__ import annotations

from pathlib import Path

from pinnerfs.report import analyse, read
from tests.bench.report import bugreport
from tests.report.texts import pin


def test_a_bugreport_of_a_size(tmp_path: Path) -> None:
    """The file has about its size, and a report finds every dump in it."""
    path = tmp_path / "bugreport.txt"
    bugreport(path, 3_000_000, 5, pin(400_000, 0x80001) + pin(500_000, 0x80801))
    assert abs(path.stat().st_size - 3_000_000) < 10_000
    capture = read(path)
    assert [(dump.file, dump.records) for dump in capture.dumps] == [("longterm_pinner", 2)] * 5
    assert analyse(capture).sites[0].records == 10
