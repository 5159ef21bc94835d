"""The line that shows how much of a report's input has been read."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from pinnerfs.cli import report_progress
from pinnerfs.report.source import Source


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def found() -> Iterator[Source]:
    """Yield two sources, one with a name that has an escape sequence."""
    yield Source("a", "", iter([bytes(1 << 20), bytes(1 << 20)]), [])
    yield Source("\x1b[31m", "", iter([b"x"]), [])


def read_all() -> None:
    """Read both sources to their ends."""
    for source in report_progress.Progress().watch(found()):
        for _ in source.pieces:
            pass


def test_a_slow_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows the source and how much was read of it. In the end the line is gone."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(report_progress, "_DELAY", -1)
    monkeypatch.setattr(report_progress, "_STEP", -1)
    read_all()
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines == ["", "reading a: 1 MiB", "reading a: 2 MiB", "reading \\x1b[31m: 0 MiB", ""]


def test_a_fast_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that takes less than a second shows nothing."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(report_progress, "_DELAY", 1e9)
    read_all()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stderr", [io.StringIO(), None])
def test_no_terminal(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO | None) -> None:
    """A file gets no such line. stderr may be closed."""
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(report_progress, "_DELAY", -1)
    read_all()
    assert stderr is None or stderr.getvalue() == ""
