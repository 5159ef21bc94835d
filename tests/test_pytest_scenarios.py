"""Scenario files that pytest collects, in pytest runs of their own."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, ROOT
from tests.workload.stories import source, task

pytest_plugins = "pytester"

# An installed pinnerfs registers its plugin; a checkout does not.
LOAD = [] if "pinnerfs" in entry_points(group="pytest11").names else ["-p", "pinnerfs.pytest_plugin"]
OPTIONS = [*LOAD, "--strict-markers", "--strict-config", "-W", "error", "-p", "no:cacheprovider"]
STORY = source(
    task("t", 'for = "1h", every = "1s", hold = "400ms"'),
    '[[expect]]\nat = "1s"\nrecords = 1\n',
    '[[expect]]\nat = "1s"\nrecords = 7\n',
    '[[expect]]\nat = "2s"\nthreshold = "1s"\nrecords = 0\n',
)


@pytest.fixture(autouse=True)
def directory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration and two scenarios; one has an expectation that fails."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\npage_pinner_scenarios = ["scenarios/*.toml"]\n')
    scenarios = pytester.mkdir("scenarios")
    (scenarios / "story.toml").write_text(STORY)
    shutil.copy(pinnerfs.gallery()["threshold-edges"], scenarios)
    (pytester.path / "other.toml").write_text("a = 1\n")
    return scenarios


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run pytest in the directory, in this process: a process for each run takes long."""
    return pytester.runpytest_inprocess(*OPTIONS, *options)


def run_in_a_process(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run pytest in a process of its own."""
    return pytester.runpytest_subprocess(*OPTIONS, *options, timeout=DEADLINE)


def line_of_the_failure() -> int:
    """Return the line of the expectation that fails."""
    return STORY[: STORY.index("records = 7")].count("\n") - 1


def test_each_expectation_is_a_test(pytester: pytest.Pytester, directory: Path) -> None:
    """A test that fails tells the file, the line, what was wanted and what came, without a traceback."""
    result = run(pytester, "-v")
    expected = len(pinnerfs.load("threshold-edges").expect)
    result.assert_outcomes(passed=expected + 2, failed=1)
    names = ["1: at 1s: wanted 1 record", "2: at 1s: wanted 7 records"]
    result.stdout.fnmatch_lines([f"scenarios/story.toml::{name} *" for name in names])
    result.stdout.fnmatch_lines(["scenarios/story.toml::3: at 2s, threshold 1s since the start: wanted no records *"])
    message = f"scenarios/story.toml:{line_of_the_failure()}: wanted 7 records; came 1 record, ts 400000us"
    assert message in result.outlines
    assert "Traceback" not in str(result.stdout) and ".py:" not in str(result.stdout)


def test_choosing(pytester: pytest.Pytester) -> None:
    """-k and node ids choose among them, from any directory."""
    run(pytester, "-k", "story and threshold").assert_outcomes(passed=1, deselected=4)
    run(pytester, "scenarios/story.toml::1: at 1s: wanted 1 record").assert_outcomes(passed=1)
    run(pytester, "scenarios/threshold-edges.toml").assert_outcomes(passed=2)
    run(pytester, "-k", "other").assert_outcomes(deselected=5)


def test_junit(pytester: pytest.Pytester) -> None:
    """A JUnit file has a case for each expectation."""
    run(pytester, "--junitxml", "junit.xml")
    cases = [*ElementTree.parse(pytester.path / "junit.xml").iter("testcase")]
    assert len(cases) == 5 and len({(case.get("classname"), case.get("name")) for case in cases}) == 5
    (failed,) = [case for case in cases if case.find("failure") is not None]
    assert failed.get("name") == "2: at 1s: wanted 7 records"


def test_xdist(pytester: pytest.Pytester) -> None:
    """Several processes share the tests."""
    run_in_a_process(pytester, "-n", "2").assert_outcomes(passed=4, failed=1)


BROKEN = {
    "a typo": (STORY.replace("every =", "evry ="), ': task "t", phase 1: unknown key '),
    "no TOML": ("format = [", "not TOML: "),
    "nothing to check": (STORY[: STORY.index("[[expect]]")], "nothing to check: wanted an [[expect]] table, but it "),
    "too much work": (STORY.replace('at = "2s"', 'at = "8000h"').replace('"1s", hold', '"1ms", hold'), "takes as much"),
    "what no kernel shows": (
        STORY.replace("records = 7", 'kind = "PUT"'),
        "expect 2: kind = 'PUT': kernel introduced ",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file(pytester: pytest.Pytester, directory: Path, name: str) -> None:
    """A file that check refuses is one collection error, in the one line that check prints."""
    text, message = BROKEN[name]
    (directory / "bad.toml").write_text(text)
    result = run(pytester, "scenarios/bad.toml")
    result.assert_outcomes(errors=1)
    title = next(place for place, line in enumerate(result.outlines) if "ERROR collecting scenarios/bad.toml" in line)
    line, rule = result.outlines[title + 1 : title + 3]
    assert line.startswith("scenarios/bad.toml:") and message in line
    assert "short test summary" in rule
    assert "Traceback" not in str(result.stdout)


def test_without_the_setting(pytester: pytest.Pytester) -> None:
    """Without the setting nothing is collected, and none of it is imported."""
    pytester.makepyprojecttoml("")
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert not {"pinnerfs.pytest_scenarios", "pinnerfs.scenario.gallery"} & set(sys.modules)
        """
    )
    run_in_a_process(pytester).assert_outcomes(passed=1)


def configure(pytester: pytest.Pytester, *patterns: str) -> None:
    """Write another configuration, which is no .toml file itself."""
    (pytester.path / "pyproject.toml").unlink()
    pytester.makeini("[pytest]\npage_pinner_scenarios = " + " ".join(patterns))


def test_a_pattern_that_is_a_path(pytester: pytest.Pytester) -> None:
    """An absolute pattern is one error of the configuration, and nothing is collected."""
    configure(pytester, "/tmp/*.toml")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: page_pinner_scenarios: '/tmp/[*].toml': *; wanted *{pytester.path}"])
    result.stdout.no_fnmatch_line("*ERROR*")


def test_a_pattern_that_leads_upwards(pytester: pytest.Pytester) -> None:
    """A configuration in another directory can name the files by `..`."""
    (pytester.path / "pyproject.toml").unlink()
    tests = pytester.mkdir("tests")
    (tests / "pytest.ini").write_text("[pytest]\npage_pinner_scenarios = ../scenarios/thresh*.toml\n")
    expected = len(pinnerfs.load("threshold-edges").expect)
    run(pytester, "-c", str(tests / "pytest.ini"), "scenarios").assert_outcomes(passed=expected)


def test_a_pattern_that_matches_nothing(pytester: pytest.Pytester) -> None:
    """A pattern without a file is a warning; the tests of the others run."""
    configure(pytester, "scenarios/thresh*.toml", "scenario/*.toml")
    result = run(pytester, "-W", "default")
    expected = len(pinnerfs.load("threshold-edges").expect)
    result.assert_outcomes(passed=expected, warnings=1)
    result.stdout.fnmatch_lines(["*page_pinner_scenarios: 'scenario/[*].toml' matches no .toml file in *"])
