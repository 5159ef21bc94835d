"""The command line, run inside of the test process: quick, and an unexpected exception is the test's own failure."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pinnerfs.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left with."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command with arguments."""
    before = signal.getsignal(signal.SIGPIPE)
    monkeypatch.setattr("pinnerfs.cli._leave", lambda: None)  # pytest shall go on

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["pinnerfs", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as left:
            status = left.code or 0
        captured = capsys.readouterr()
        assert isinstance(status, int)
        return Result(status, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGPIPE, before)
