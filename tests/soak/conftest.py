"""The option --soak, and the summary of the attacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.mount.conftest import machine_can_mount, mount, public_mount

__all__ = ["machine_can_mount", "mount", "public_mount"]

ATTACK = "attack"  # the name of a property, which also comes from the processes of pytest-xdist


def pytest_addoption(parser: pytest.Parser) -> None:
    """Return whether attacks are long."""
    parser.addoption("--soak", action="store_true", help="attack for long: half an hour in all")


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose an amount by the length of the attack: `amount(short, long)`."""
    long: bool = request.config.getoption("--soak")
    return lambda short, much: much if long else short


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to the summary: `tell("500 mounts, 0 processes left")`."""
    properties = request.node.user_properties
    return lambda line: properties.append((ATTACK, f"{request.node.name}: {line}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each attack."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    ended = [report for report in reports if getattr(report, "when", None) == "teardown"]
    lines = [value for report in ended for name, value in report.user_properties if name == ATTACK]
    if lines:
        terminalreporter.section("attacks")
    for line in lines:
        terminalreporter.write_line(line)
