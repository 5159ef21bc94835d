"""The expectations of scenarios, as `pinnerfs check --expect` reports them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pinnerfs
from tests.cli.conftest import Run
from tests.workload.stories import source, task

# Every second a pin of 400 ms.
PLAIN = task("t", 'for = "1h", every = "1s", hold = "400ms"')


def write(path: Path, *expectations: str) -> Path:
    """Write a scenario with these expectations, each given as its keys."""
    tables = [f"[[expect]]\n{keys}\n" for keys in expectations]
    path.write_text(source(PLAIN, *tables, stack='frames = ["who", "common"]'))
    return path


def without_seconds(out: str) -> str:
    """Return a report without the seconds that it took."""
    return re.sub(r" in \d+\.\d\ds$", "", out, flags=re.MULTILINE)


def test_all_are_met(run: Run, tmp_path: Path) -> None:
    """Each expectation has a line with what was wanted and what came; each scenario has one with the time played."""
    path = write(tmp_path / "a.toml", 'at = "1min"\nrecords = 60', 'at = "5s"\nthreshold = "1s"\nrecords = 0')
    result = run("check", "--expect", path)
    assert (result.status, result.err) == (0, "")
    assert re.search(r"^.*: played 65s in \d+\.\d\ds$", result.out.splitlines()[-1])
    assert without_seconds(result.out) == (
        f"{path}: ok at 1min: wanted 60 records; came 60 records, ts 400000us\n"
        f"{path}: ok at 5s, threshold 1s since the start: wanted no records; came no records\n"
        f"{path}: played 65s\n"
    )


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ("records = 61", "wanted 61 records; came 60 records, ts 400000us"),
        ("records = { max = 20 }", "wanted 0 to 20 records; came 60 records, ts 400000us"),
        ('call_site = "who"\nrecords = 0', "wanted no records of who; came 60 of 60 records, ts 400000us"),
        ('ts = { min = "1s" }', "wanted at least 1 record, each ts 1s to 100h; came 60 records, ts 400000us"),
        (
            'threshold = "350ms"\nsince = "30s"\nrecords = 60',
            ", threshold 350ms since 30s: wanted 60 records; came 30 records, ts 400000us",
        ),
        (
            'threshold = "1s"\ncall_site = "common"',
            ", threshold 1s since the start: wanted at least 1 record of common; came no records",
        ),
    ],
)
def test_one_fails(run: Run, tmp_path: Path, keys: str, end: str) -> None:
    """An expectation that is not met is reported beside the others, and the exit status is 1."""
    path = write(tmp_path / "a.toml", 'at = "5s"', f'at = "1min"\n{keys}', 'at = "9s"')
    result = run("check", path, "--expect")
    assert (result.status, result.err) == (1, "Error: 1 of 3 expectations failed\n")
    verdicts = [line.removeprefix(f"{path}: ").split()[0] for line in result.out.splitlines()]
    assert verdicts == ["ok", "FAILED", "ok", "played"]
    failed = result.out.splitlines()[1]
    assert failed.startswith(f"{path}: FAILED at 1min") and failed.endswith(end)


def test_on_another_kernel(run: Run, tmp_path: Path) -> None:
    """--kernel is for the expectations that name none. A kernel without a threshold refuses one, before any play."""
    path = write(tmp_path / "a.toml", 'at = "5s"\nrecords = 5', 'at = "5s"\nkernel = "android14-6.1"\nrecords = 0')
    result = run("check", "--expect", path, "--kernel", "pixel-5.10")
    assert (result.status, result.err) == (0, "")
    assert f"{path}: ok at 5s on android14-6.1: wanted no records; came no records\n" in result.out
    other = write(tmp_path / "b.toml", 'at = "5s"\nthreshold = "1s"\nrecords = 0')
    result = run("check", "--expect", path, other, "--kernel", "android15-6.6")
    assert (result.status, result.out) == (2, "")
    assert (
        result.err.splitlines()[0]
        == f"Error: {other}: expect 1: threshold = '1s': kernel android15-6.6 has no threshold"
    )


def test_several_scenarios(run: Run, tmp_path: Path) -> None:
    """A failure does not stop the next scenario from being played; failures are counted over all scenarios."""
    bad = write(tmp_path / "bad.toml", 'at = "5s"\nrecords = 9', 'at = "9s"\nrecords = 5')
    good = write(tmp_path / "good.toml", 'at = "5s"')
    result = run("check", "--expect", bad, good)
    assert (result.status, result.err) == (1, "Error: 2 of 3 expectations failed\n")
    assert result.out.splitlines()[-2].startswith(f"{good}: ok at 5s: wanted at least 1 record; came 5 records")


def test_a_scenario_without_expectations(run: Run, tmp_path: Path) -> None:
    """A scenario without expectations is an error, and nothing is played."""
    bare, good = write(tmp_path / "bare.toml"), write(tmp_path / "good.toml", 'at = "5s"')
    assert run("check", bare).status == 0
    result = run("check", "--expect", good, bare)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        f"Error: {bare}: nothing to check: wanted an [[expect]] table, but it has none\n"
        "Error: 1 of 2 scenarios cannot be checked\n"
    )


def test_an_invalid_scenario(run: Run, tmp_path: Path) -> None:
    """An invalid file has the same error as without --expect, and nothing is played."""
    wrong, good = write(tmp_path / "wrong.toml", "at = 5"), write(tmp_path / "good.toml", 'at = "5s"')
    refused = [run("check", *options, good, wrong) for options in ((), ("--expect",))]
    assert [(result.status, result.out) for result in refused] == [(2, ""), (2, "")]
    first, second = (result.err.splitlines() for result in refused)
    assert first[0] == second[0] and "at = 5 has no unit" in first[0] and ": expect 1: " in first[0]


def test_the_plain_check_does_not_play(run: Run, tmp_path: Path) -> None:
    """Without --expect nothing is played, so an expectation cannot fail."""
    path = write(tmp_path / "a.toml", 'at = "5s"\nrecords = 9')
    result = run("check", path)
    assert (result.status, result.out, result.err) == (0, f"{path}: ok\n", "")


def test_the_whole_gallery(run: Run) -> None:
    """All expectations of the gallery are met, and two reports differ in the seconds taken alone."""
    names = sorted(pinnerfs.gallery())
    first, second = (run("check", "--expect", *names) for _ in range(2))
    assert (first.status, first.err) == (0, "")
    assert without_seconds(first.out) == without_seconds(second.out)
    lines = first.out.splitlines()
    assert [line.split(":")[0] for line in lines if " played " in line] == names
    expected = sum(len(pinnerfs.load(name).expect) for name in names)
    assert len([line for line in lines if ": ok at " in line]) == expected == len(lines) - len(names)


def test_show(run: Run, tmp_path: Path) -> None:
    """The output of show has the expectations in the words of the check."""
    path = write(tmp_path / "a.toml", 'at = "9s"\nthreshold = "5ms"\nsince = "5s"\nrecords = 4\ncall_site = "who"')
    result = run("show", path)
    assert result.out.splitlines()[-1] == "expects at 9s, threshold 5ms since 5s: 4 records of who"
    assert "by get_page, releases them by put_page" in run("show", "blind-spot").out


def test_seeds(run: Run, tmp_path: Path) -> None:
    """--seeds plays each seed, and tells which fail, in each output."""
    hold = '{ dist = "uniform", min = "0ms", max = "600ms" }'
    path = tmp_path / "story.toml"
    path.write_text(source(PLAIN.replace('"400ms"', hold), '[[expect]]\nat = "1s"\nrecords = 1\n'))
    alone = [seed for seed in range(9) if run("check", "--expect", path, "--seeds", seed).status]
    assert 0 < len(alone) < 9
    result = run("check", "--expect", path, "--seeds", "0..8")
    assert result.status == 1
    assert f"; {len(alone)} of 9 seeds fail" in result.out
    assert f"seed {alone[0]}; " in run("check", "--expect", path, "--seeds", "0..8", "--tap").out
    (story,) = json.loads(run("check", "--expect", path, "--seeds", "0..8", "--json").out)["scenarios"]
    assert story["results"][0]["failing_seeds"] == alone
    good = ",".join(str(seed) for seed in range(9) if seed not in alone)
    assert "came that with " in run("check", "--expect", path, "--seeds", good).out
