"""The command line, run inside the test process: quick, and an unexpected exception fails the test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pinnerfs.cli import main


@dataclass(frozen=True)
class Result:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command with arguments."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE)}
    monkeypatch.setattr("pinnerfs.cli.launch._exit", sys.exit)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["pinnerfs", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, captured.out, captured.err)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
