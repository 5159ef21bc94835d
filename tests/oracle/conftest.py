"""The option --oracle, the sandboxes that the cases share, and the table of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.cases import load_all
from tests.oracle.replay import SandboxPool


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --oracle."""
    parser.addoption("--oracle", metavar="PATH", type=Path, help="also replay the cases of this file or directory")


def pytest_configure(config: pytest.Config) -> None:
    """Fail early if there are no cases to replay."""
    try:
        load_all(config.getoption("--oracle", default=None))
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--oracle: {error}") from None


@pytest.fixture(scope="session")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxPool]:
    """Return the sandboxes that cases share. They are closed at the end of the session."""
    sandboxes = SandboxPool(tmp_path_factory.mktemp("oracle"))
    try:
        yield sandboxes
    finally:
        sandboxes.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases of each kernel have which result."""
    results: dict[str, Counter[str]] = {}
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if getattr(report, "when", "") == "call" and (kernel := dict(report.user_properties).get("kernel")):
                result = {"xfailed": "with a caveat"}.get(category, category)
                if category == "skipped":
                    # For example "Skipped: waiting for CMA: cma.ls.anon"
                    result = str(report.longrepr[2]).split(": ")[1]
                results.setdefault(str(kernel), Counter())[result] += 1
    if results:
        terminalreporter.section("recorded cases")
    for kernel, counted in sorted(results.items()):
        words = ", ".join(f"{count} {result}" for result, count in counted.most_common())
        terminalreporter.write_line(f"{kernel}: {counted.total()} cases: {words}")
