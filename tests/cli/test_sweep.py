"""pinnerfs sweep: its outputs, its file of results, and Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_errors import PLAIN
from tests.mount.support import DEADLINE, ROOT

SWEEP = ("sweep", "camera-stall", "--at", "10s", "--seeds", "1..3", "--thresholds", "300ms,1s")


def test_the_outputs(run: Run) -> None:
    """Table, CSV and JSON have the same rows, one for each point."""
    as_csv, as_json, table = run(*SWEEP, "--csv"), run(*SWEEP, "--json"), run(*SWEEP)
    assert {(result.status, result.err) for result in (as_csv, as_json, table)} == {(0, "")}
    rows = [*csv.DictReader(as_csv.out.splitlines())]
    found = json.loads(as_json.out)
    points = found.pop("points")
    assert found == {
        "format": 1,
        "scenario": "camera-stall",
        "kernel": "introduced",
        "at_us": 10_000_000,
        "culprit": "camera",
    }
    assert [{key: str(value) for key, value in point.items() if key != "settings"} for point in points] == rows
    assert [(row["seed"], row["threshold_us"]) for row in rows] == [
        (seed, threshold) for seed in "123" for threshold in ("300000", "1000000")
    ]
    lines = [line.split() for line in table.out.splitlines()]
    assert lines[0] == ["seed", "threshold", "records", "overwritten", "rank", "max"]
    shown = {"300000": "300ms", "1000000": "1s"}
    for line, row in zip(lines[1:7], rows, strict=True):
        assert line[:5] == [row["seed"], shown[row["threshold_us"]], row["records"], row["overwritten"], row["rank"]]


def test_a_row_is_a_dump(run: Run) -> None:
    """A row counts the records of a dump with its seed and its threshold."""
    (row,) = csv.DictReader(run(*SWEEP[:4], "--seeds", "7", "--thresholds", "400ms", "--csv").out.splitlines())
    dump = run("dump", "camera-stall", "--at", "10s", "--seed", "7", "--threshold", "400ms").out
    assert int(row["records"]) == dump.count("Page pinned ts") > 0
    assert int(row["max_us"]) == max(int(line.split()[3]) for line in dump.splitlines() if "pinned ts" in line)


def test_the_sums_over_the_seeds(run: Run) -> None:
    """Below the table of several seeds, a second one tells how many show the culprit, and how many fill the ring."""
    out = run(
        *("sweep", "ring-overflow", "--at", "60s", "--seeds", "1..4", "--thresholds", "100ms,9s", "--set", "cpus=2,4")
    ).out
    rows, sums = ([line.split() for line in part.splitlines()] for part in out.split("\n\n"))
    assert len(rows) == 17
    assert sums == [
        ["cpus", "threshold", "seeds", "culprit", "first", "ring", "overflows"],
        *([cpus, threshold, "4", *full] for cpus in "24" for threshold, full in (("100ms", "44"), ("9s", "00"))),
    ]
    assert "\n\n" not in run("sweep", "ring-overflow", "--at", "60s", "--seeds", "1").out


def test_values_in_the_outputs(run: Run) -> None:
    """A value has its column, named by its path, and its type in JSON."""
    sweep = ("sweep", "camera-stall", "--at", "10s", "--set", "task.camera.phase.1.gap=33ms,66ms", "--set", "race=0")
    (_, *rows) = csv.reader(run(*sweep, "--csv").out.splitlines())
    assert [row[:3] for row in rows] == [["33ms", "0", "1"], ["66ms", "0", "1"]]
    points = json.loads(run(*sweep, "--json").out)["points"]
    assert [point["settings"] for point in points] == [
        {"task.camera.phase.1.gap": gap, "race": 0} for gap in ("33ms", "66ms")
    ]
    assert run(*sweep).out.split()[:2] == ["task.camera.phase.1.gap", "race"]


def test_a_kernel_without_a_threshold(run: Run) -> None:
    """It has no threshold in its row."""
    sweep = ("sweep", "faceunlock-fails", "--at", "10s", "--kernel", "android14-6.1")
    assert run(*sweep).out.splitlines()[1].split()[1] == "-"
    (row,) = csv.DictReader(run(*sweep, "--csv").out.splitlines())
    assert (row["threshold_us"], int(row["records"]) > 0) == ("", True)


def test_the_file(run: Run, tmp_path: Path) -> None:
    """A sweep goes on with the results of its file, and its output and its file are those of a whole one."""
    file = tmp_path / "results"
    whole = run(*SWEEP, "-o", file)
    assert whole == run(*SWEEP)
    before = file.read_bytes()
    assert before.count(b"\n") == 4
    assert run(*SWEEP, "-o", file) == whole  # nothing is left to play
    for length in (len(before) - 5, before.index(b"\n") + 1, 3, 0):
        file.write_bytes(before[:length])
        assert run(*SWEEP, "-o", file) == whole
        assert file.read_bytes() == before


def test_another_sweep(run: Run, tmp_path: Path) -> None:
    """A file of a sweep with other arguments, or of an edited scenario, is refused."""
    file, story = tmp_path / "results", tmp_path / "story.toml"
    story.write_text(PLAIN)
    sweep = ("sweep", story, "--at", "1s", "-o", file)
    assert run(*sweep).status == 0
    before = file.read_bytes()
    for options, key in (
        (("--seeds", "5"), "seeds"),
        (("--thresholds", "1s"), "thresholds"),
        (("--set", "cpus=2"), "set"),
        (("--at", "2s"), "at_us"),
        (("--kernel", "pixel-5.10"), "kernel"),
        (("--quiet-migration",), "quiet_migration"),
    ):
        refused = run(*sweep, *options)
        assert (refused.status, refused.out) == (2, "")
        assert refused.err.startswith(f"Error: -o {file}: it has a sweep with other arguments: {key} = ")
    story.write_text(PLAIN + "# edited\n")
    assert "other arguments: scenario = " in run(*sweep).err
    assert file.read_bytes() == before


def test_a_dash_is_no_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output cannot keep results, so `-o -` is refused, and no file of this name appears."""
    monkeypatch.chdir(tmp_path)
    refused = run(*SWEEP, "-o", "-")
    message = "Error: -o: standard output (-) has the rows, and keeps no results; name a file"
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith(message)
    assert "Error: -o: the path is empty; name a file" in run(*SWEEP, "-o", "").err
    assert not [*tmp_path.iterdir()]


def _blocking_sigint(session: int) -> int:
    """Return how many processes of a session block SIGINT."""
    blocking = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError, FileNotFoundError):
            if os.getsid(int(process.name)) == session:
                (mask,) = re.findall(r"^SigBlk:\s(.*)", (process / "status").read_text(), re.MULTILINE)
                blocking += int(mask, 16) >> (signal.SIGINT - 1) & 1
    return blocking


@contextmanager
def sweeping(file: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start an endless sweep in a session of its own, and wait for its first results in a file."""
    command = [sys.executable, "-m", "pinnerfs", *SWEEP[:4], "--seeds", "0..99999", "--csv", "-o", str(file)]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not file.exists() or file.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c(tmp_path: Path, jobs: int) -> None:
    """Ctrl-C prints the rows that are done, keeps them, and says how to go on; the status is 130."""
    file = tmp_path / "results"
    with sweeping(file, "--jobs", str(jobs)) as process:
        assert _blocking_sigint(process.pid) == (jobs if jobs > 1 else 0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    done = file.read_bytes().count(b"\n") - 1
    assert out.count("\n") - 1 in (done, done - 1)  # the signal may come right behind a line
    assert err.startswith("Interrupted: ") and err.count("\n") == 1
    assert err.endswith(f"of 100000 plays done and kept in {file}; run it again with the same arguments to go on\n")


def test_the_processes_end_with_a_killed_sweep(tmp_path: Path) -> None:
    """A sweep that is killed leaves no process behind that keeps its pipes open: who reads them sees their end."""
    with sweeping(tmp_path / "results", "--jobs", "2") as process:
        process.kill()
        assert process.communicate(timeout=DEADLINE) == ("", "")


def test_no_more_processes_than_plays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single play needs no further process, however many --jobs allows."""
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert run("sweep", "camera-stall", "--at", "1s", "--jobs", "999").status == 0
