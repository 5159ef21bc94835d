"""The forms in which `pinnerfs check --expect` prints results: text, KTAP and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from pinnerfs.errors import in_a_line
from pinnerfs.jsontext import json_text

if TYPE_CHECKING:
    from pinnerfs.check import ExpectationReport, ExpectationResult

__all__ = ["JsonOutput", "Output", "TapOutput", "TextOutput"]


class Output(Protocol):
    """Prints the results of scenarios, one after the other."""

    def begin(self, total: int) -> None:
        """Start, with the number of all expectations."""

    def add(self, name: str, report: ExpectationReport, took: float) -> None:
        """Print the results of a scenario, which took this many seconds."""

    def end(self) -> None:
        """Finish, after the last scenario."""


class TextOutput:
    """A line for each expectation, and one for each scenario with the time that was played."""

    def begin(self, total: int) -> None:
        """Print nothing."""

    def add(self, name: str, report: ExpectationReport, took: float) -> None:
        """Print the lines of a scenario."""
        name = in_a_line(name)
        for result in report.results:
            click.echo(f"{name}: {'ok' if result.met else 'FAILED'} {_wanted(result)}; came {result.came}")
        click.echo(f"{name}: played {report.played / 10**6:g}s in {took:.2f}s")

    def end(self) -> None:
        """Print nothing."""


class TapOutput:
    """KTAP version 1, as kselftest prints and reads it; a test for each expectation of all scenarios."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self, total: int) -> None:
        """Print the version and the plan."""
        click.echo(f"KTAP version 1\n1..{total}")

    def add(self, name: str, report: ExpectationReport, took: float) -> None:
        """Print the tests of a scenario; before one that failed, what came."""
        for result in report.results:
            self._number += 1
            if not result.met:
                click.echo(f"# came {in_a_line(result.came)}")
            verdict = "ok" if result.met else "not ok"
            # KTAP allows no `#` in a description: it starts a directive, such as SKIP.
            title = f"{in_a_line(name)}: {_wanted(result)}".replace("#", r"\x23")
            click.echo(f"{verdict} {self._number} {title}")

    def end(self) -> None:
        """Print nothing."""


class JsonOutput:
    """One JSON object with the results of all scenarios."""

    def __init__(self) -> None:
        self._scenarios: list[dict[str, object]] = []

    def begin(self, total: int) -> None:
        """Print nothing."""

    def add(self, name: str, report: ExpectationReport, took: float) -> None:
        """Keep the results of a scenario."""
        results = [
            {
                "met": result.met,
                "when": result.expectation.when(),
                "wanted": result.expectation.wanted(),
                "came": result.came,
                "numbers": dict(result.numbers),
                "failing_seeds": list(result.failing_seeds),
                "expect": msgspec.to_builtins(result.expectation),
            }
            for result in report.results
        ]
        self._scenarios.append({"scenario": name, "played_us": report.played, "results": results})

    def end(self) -> None:
        """Print the object."""
        click.echo(json_text({"scenarios": self._scenarios}), nl=False)


def _wanted(result: ExpectationResult) -> str:
    return f"{result.expectation.when()}: wanted {result.expectation.wanted()}"
