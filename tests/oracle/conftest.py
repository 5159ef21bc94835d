"""The option --oracle, and the mounts that the cases share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.cases import load_all
from tests.oracle.replay import Worlds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Further cases to replay."""
    parser.addoption("--oracle", metavar="PATH", type=Path, help="replay the cases of this file or folder, too")


def pytest_configure(config: pytest.Config) -> None:
    """Say at once where there is nothing to replay."""
    try:
        load_all(config.getoption("--oracle", default=None))
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--oracle: {error}") from None


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Mounts at /sys/kernel/debug, each in a namespace of its own, taken down at the end."""
    worlds = Worlds(tmp_path_factory.mktemp("oracle"))
    try:
        yield worlds
    finally:
        worlds.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cases of which kernel came to which state."""
    states: dict[str, Counter[str]] = {}
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if getattr(report, "when", "") == "call" and (kernel := dict(report.user_properties).get("kernel")):
                state = {"xfailed": "a caveat"}.get(category, category)
                if category == "skipped":
                    # "Skipped: waiting for CMA: cma.ls.anon"
                    state = str(report.longrepr[2]).split(": ")[1]
                states.setdefault(str(kernel), Counter())[state] += 1
    if states:
        terminalreporter.section("recorded cases")
    for kernel, counted in sorted(states.items()):
        words = ", ".join(f"{count} {state}" for state, count in counted.most_common())
        terminalreporter.write_line(f"{kernel}: {counted.total()} cases: {words}")
