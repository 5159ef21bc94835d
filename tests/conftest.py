"""A timeout for each test, and the same environment, umask and signals for every run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

# Seconds for one test. Far more than needed, even on a busy machine. Tests with --soak are long.
LONGEST, LONGEST_SOAK = 300, 3600

# Variables that change what Python, make and the tools of the tests print or do.
CHANGE_OUTPUT = (
    *("BASH_ENV", "BLOCK_SIZE", "CDPATH", "COLUMNS", "DD_BLOCK_SIZE", "ENV", "FORCE_COLOR", "GREP_OPTIONS", "LESS"),
    *("LESSOPEN", "LINES", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "NO_COLOR", "POSIXLY_CORRECT", "PYTEST_ADDOPTS", "TIME"),
    *("TIME_STYLE", "TZ"),
)
# This process has read these already; its children would too. PYTHONPATH stays: it may be needed to find packages.
PYTHON = ("PYTHONDEVMODE", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONWARNINGS")


def pytest_configure(config: pytest.Config) -> None:
    """Set environment, umask and signals to the same state for every run."""
    # Python 3.12 and later warn at each fork. The threads are idle ones of numpy's BLAS.
    config.addinivalue_line("filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning")
    for name in CHANGE_OUTPUT + PYTHON:
        os.environ.pop(name, None)
    os.environ |= {"LC_ALL": "C.UTF-8", "LANGUAGE": "C"}
    os.umask(0o022)
    # nohup and `&` ignore signals, and children inherit that. A handler that does nothing has the same effect here,
    # but children start with the default action.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGCHLD):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test that takes too long."""
    longest = LONGEST_SOAK if item.config.getoption("--soak", default=False) else LONGEST

    def late(number: int, frame: FrameType | None) -> None:
        signal.alarm(longest)  # for the clean-up
        pytest.fail(f"not finished after {longest} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(longest)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
