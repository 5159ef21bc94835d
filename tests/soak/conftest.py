"""The option --soak, and the table of what was attacked and how often."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.mount.conftest import machine_can_mount, mount, public_mount

__all__ = ["machine_can_mount", "mount", "public_mount"]

LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Whether attacks are long."""
    parser.addoption("--soak", action="store_true", help="attack for long: half an hour in all")


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How much of something an attack takes: `amount(short, long)`."""
    long: bool = request.config.getoption("--soak")
    return lambda short, much: much if long else short


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts what was counted into the table at the end: `tell("500 mounts, 0 processes left")`."""
    lines = request.config.stash.setdefault(LINES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A line an attack."""
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("attacks")
    for line in lines:
        terminalreporter.write_line(line)
