"""`pinnerfs check --expect --tap`: KTAP version 1, read by a parser of its rules and by prove."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.mount.support import DEADLINE, environment
from tests.workload.stories import source, task

STORY = task("t", 'for = "1h", every = "1s", hold = "400ms"')


def write(path: Path, *expectations: str) -> Path:
    """Write a scenario with these expectations, each given as its keys."""
    path.write_text(source(STORY, *(f"[[expect]]\n{keys}\n" for keys in expectations), stack='frames = ["who"]'))
    return path


def parse(text: str) -> list[tuple[bool, str, list[str]]]:
    """Return the verdict, the description and the diagnostic lines of each test. Checks the version and the plan."""
    version, plan, *lines = text.removesuffix("\n").split("\n")
    assert version == "KTAP version 1"
    assert (planned := re.fullmatch(r"1\.\.([0-9]+)", plan)) is not None
    tests: list[tuple[bool, str, list[str]]] = []
    diagnostics: list[str] = []
    for line in lines:
        if line.startswith("# "):
            diagnostics.append(line[2:])
            continue
        match = re.fullmatch(r"(ok|not ok) ([0-9]+) ([^#\n]+)", line)
        assert match is not None, line
        assert int(match[2]) == len(tests) + 1
        tests.append((match[1] == "ok", match[3], diagnostics))
        diagnostics = []
    assert not diagnostics and len(tests) == int(planned[1])
    return tests


def test_results(run: Run, tmp_path: Path) -> None:
    """Each expectation of all scenarios is a test. A failed one says what came; the exit status is the usual one."""
    a = write(tmp_path / "a.toml", 'at = "5s"\nrecords = 5', 'at = "9s"\nrecords = 5')
    b = write(tmp_path / "b.toml", 'at = "5s"')
    result = run("check", "--expect", "--tap", a, b)
    assert (result.status, result.err) == (1, "Error: 1 of 3 expectations failed\n")
    assert parse(result.out) == [
        (True, f"{a}: at 5s: wanted 5 records", []),
        (False, f"{a}: at 9s: wanted 5 records", ["came 9 records, ts 400000us"]),
        (True, f"{b}: at 5s: wanted at least 1 record", []),
    ]
    assert run("check", "--expect", "--tap", b).status == 0


def test_names_that_would_break_lines(run: Run, tmp_path: Path) -> None:
    """A newline or a `#` in a file's name becomes an escape: it starts neither a line nor a directive."""
    path = write(tmp_path / "a\nok 2 # SKIP.toml", 'at = "9s"\nrecords = 5')
    ((verdict, title, _),) = parse(run("check", "--expect", "--tap", path).out)
    assert not verdict and r"a\nok 2 \x23 SKIP.toml: at 9s" in title


def test_options(run: Run) -> None:
    """--tap needs --expect, and excludes --json. An invalid scenario is an error without a plan."""
    for options, reason in (
        (["--tap"], "--tap goes with --expect: without it nothing is tested"),
        (["--tap", "--expect", "--json"], "only one format can be printed; wanted one of --tap and --json"),
    ):
        result = run("check", "quiet-device", *options)
        assert (result.status, result.out) == (2, "")
        assert result.err == f"Error: {reason} (see 'pinnerfs check --help')\n"
    assert run("check", "nosuch", "--expect", "--tap").out == ""


@pytest.mark.skipif(shutil.which("prove") is None, reason="this machine has no prove")
def test_prove(tmp_path: Path) -> None:
    """Perl's prove runs scenarios as test files, and tells which expectation failed."""
    write(tmp_path / "good.toml", 'at = "5s"', 'at = "9s"')
    write(tmp_path / "bad.toml", 'at = "5s"', 'at = "9s"\nrecords = 5')
    command = f"{sys.executable} -m pinnerfs check --expect --tap"

    def prove(*scenarios: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["prove", "-e", command, *scenarios],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    good = prove("./good.toml")
    assert good.returncode == 0 and "Files=1, Tests=2," in good.stdout and "Result: PASS" in good.stdout
    both = prove("./good.toml", "./bad.toml")
    assert both.returncode == 1 and "Files=2, Tests=4," in both.stdout and "Result: FAIL" in both.stdout
    assert re.search(r"^\./bad\.toml +\(Wstat: 256.* Tests: 2 Failed: 1\)\n +Failed test: +2\n", both.stdout, re.M)
