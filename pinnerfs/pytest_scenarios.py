"""Scenario files as tests: pytest collects each `[[expect]]` of a file as a test.

The plugin imports this module when its setting names such files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.scenario.checkable import check_checkable
from pinnerfs.scenario.gallery import Source, read_source, scenario_of
from pinnerfs.scenario.positions import line_of

if TYPE_CHECKING:
    from pinnerfs.check import ExpectationResult

__all__ = ["ScenarioFile", "scenario_files"]


def scenario_files(config: pytest.Config, patterns: list[str]) -> frozenset[Path]:
    """Return the files that the patterns match; they are relative to the directory of pytest's configuration.

    Warn of a pattern that matches no file: its tests would be missing without a word.
    """
    root = config.rootpath if config.inipath is None else config.inipath.parent
    found = set[Path]()
    for pattern in patterns:
        try:
            # pytest's paths have no `..`.
            matched = {Path(os.path.normpath(path)) for path in root.glob(pattern) if path.suffix == ".toml"}
        except (NotImplementedError, ValueError) as error:
            raise pytest.UsageError(
                f"page_pinner_scenarios: {pattern!r}: {error}; wanted a pattern relative to {root}"
            ) from None
        if not matched:
            text = f"page_pinner_scenarios: {pattern!r} matches no .toml file in {root}"
            config.issue_config_time_warning(pytest.PytestConfigWarning(text), stacklevel=2)
        found |= matched
    return frozenset(found)


class ScenarioFile(pytest.File):
    """A scenario file. Its tests are played together, when the first of them runs."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each expectation. A file that `pinnerfs check --expect` refuses is a collection error."""
        where = os.path.relpath(self.path, self.config.invocation_params.dir)
        path = where if "/" in where else f"./{where}"
        try:
            source = read_source(path)
            self.scenario = scenario_of(source)
            check_checkable(self.scenario, path, INTRODUCED)
        except PinnerfsError as error:
            raise self.CollectError(str(error)) from None
        self._results: list[ExpectationResult] | None = None
        for number, expectation in enumerate(self.scenario.expect):
            name = f"{number + 1}: {expectation.when()}: wanted {expectation.wanted()}"
            yield ExpectationItem.from_parent(self, name=name, number=number, line=_line(source, number))

    def result(self, number: int) -> ExpectationResult:
        """Return the result of an expectation."""
        if self._results is None:
            from pinnerfs.check import check_expectations

            self._results = check_expectations(self.scenario).results
        return self._results[number]


def _line(source: Source, number: int) -> int:
    return line_of(source.text, source.tables, ("expect", number), None) or 1


class ExpectationItem(pytest.Item):
    """A test of one expectation."""

    def __init__(self, *, number: int, line: int, **others: object) -> None:
        super().__init__(**others)  # type: ignore[arg-type]
        self._number, self._line = number, line

    def runtest(self) -> None:
        """Fail unless the expectation is met."""
        assert isinstance(self.parent, ScenarioFile)
        problem = None
        try:
            result = self.parent.result(self._number)
            if not result.met:
                problem = f"wanted {result.expectation.wanted()}; came {result.came}"
        except PinnerfsError as error:
            problem = str(error)
        # Outside of the handler, so that pytest does not show the exception as well.
        if problem is not None:
            pytest.fail(f"{self.location[0]}:{self._line}: {problem}", pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the expectation is, for reports."""
        return self.path, self._line - 1, self.name
