"""What the commands print with --json: the data behind their text. pinnerfs/cli/json.md describes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pinnerfs
from pinnerfs.cli.kernel import kernel_table
from pinnerfs.jsontext import json_text
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.cli.conftest import Run
from tests.workload.stories import source, task

STORY = task("t", 'for = "1h", every = "1s", hold = "400ms"')


def data(run: Run, *arguments: object, status: int = 0) -> dict[str, Any]:
    """Return the data of a command, which prints one JSON object of this format."""
    result = run(*arguments, "--json")
    assert result.status == status, result.err
    assert result.out.isascii() and result.out.endswith("\n}\n")
    read: dict[str, Any] = json.loads(result.out)
    assert next(iter(read)) == "format" and read["format"] == 1
    return read


def test_list(run: Run) -> None:
    """`list` has the name, the description and the file of each scenario."""
    read = data(run, "list")
    assert {entry["name"]: Path(entry["path"]) for entry in read["scenarios"]} == pinnerfs.gallery()
    for entry in read["scenarios"]:
        assert entry["description"] == pinnerfs.load(entry["path"]).description


def test_list_kernels(run: Run) -> None:
    """`list --kernels` has what the table of kernels has."""
    read, table = data(run, "list", "--kernels")["kernels"], "\n".join(kernel_table())
    assert [entry["name"] for entry in read] == [*GENERATIONS]
    for entry in read:
        assert {*entry["lines"]} == {*GENERATIONS[entry["name"]].record_files} <= {*entry["files"]}
        assert entry["main_file"] in entry["lines"]
        assert entry["has_threshold"] == ("threshold" in entry["files"])
        lines = [line for file in entry["lines"].values() for line in file]
        for text in [entry["about"], entry["tracks"], entry["mm"]["directory"], *lines]:
            assert text in table


@pytest.mark.parametrize("name", sorted(pinnerfs.gallery()))
def test_show(run: Run, name: str) -> None:
    """`show` has the whole scenario: written as TOML would be, it reads as the same one."""
    read = data(run, "show", name)["scenario"]
    assert msgspec.convert(_given(read), pinnerfs.Scenario) == pinnerfs.load(name)


def _given(value: Any) -> Any:
    """Return data without the keys that are null: the scenario file does not have them."""
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    return [_given(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("kernel", "file"), [("introduced", "longterm_pinner"), ("pixel-5.10", "alloc_contig_failed")])
def test_dump(run: Run, kernel: str, file: str) -> None:
    """`dump` has the records as data, newest first, with null for what the kernel does not print."""
    simulation = pinnerfs.Simulation(pinnerfs.load("every-kernel"), kernel=kernel)
    simulation.advance("10s")
    read = data(run, "dump", "every-kernel", "--at", "10s", "--kernel", kernel, "--file", file)
    records = [*simulation.records(file)]
    assert (read["scenario"], read["kernel"], read["file"]) == ("every-kernel", kernel, file)
    assert (read["at_us"], read["threshold_us"]) == (10_000_000, 300_000)
    assert len(read["records"]) == len(records) > 0
    for entry, record in zip(read["records"], records, strict=True):
        names = ("kind", "ts", "moment", "count", "mapcount", "mapping", "pfn", "block", "flags")
        assert {name: entry[name] for name in names} == {name: getattr(record, name) for name in names}
        assert entry["migratetype"] == (record.migratetype and record.migratetype.name)
        assert tuple(entry["stack"]) == record.stack
    assert {"uptodate", "lru", "swapbacked"} <= {*read["records"][-1]["flag_names"]} or kernel == "pixel-5.10"


def test_dump_explained(run: Run) -> None:
    """`dump --explain` adds the counters. A kernel without a threshold has null for it."""
    simulation = pinnerfs.Simulation(pinnerfs.load("faceunlock-fails"), kernel="android14-6.1")
    simulation.advance("30s")
    read = data(run, "dump", "faceunlock-fails", "--at", "30s", "--kernel", "android14-6.1", "--explain")
    assert read["threshold_us"] is None
    assert read["tasks"] == simulation.explain() != {}
    assert read["allocs"] == simulation.explain_allocs() != {}
    assert read["stats"] == simulation.stats()


def write(path: Path, *expectations: str) -> Path:
    """Write a scenario with these expectations, each given as its keys."""
    path.write_text(source(STORY, *(f"[[expect]]\n{keys}\n" for keys in expectations), stack='frames = ["who"]'))
    return path


def test_check(run: Run, tmp_path: Path) -> None:
    """`check --expect` has each result in words and in numbers, also if one is not met; two runs are equal."""
    path = write(tmp_path / "a.toml", 'at = "5s"\nts = "400ms"', 'at = "9s"\nrecords = 3\ncall_site = "who"')
    first, second = (run("check", "--expect", "--json", path) for _ in range(2))
    assert first == second
    assert (first.status, first.err) == (1, "Error: 1 of 2 expectations failed\n")
    read = data(run, "check", "--expect", path, status=1)
    (entry,) = read["scenarios"]
    assert (entry["scenario"], entry["played_us"]) == (str(path), 9_000_000)
    met, missed = entry["results"]
    assert (met["met"], met["when"], met["wanted"]) == (True, "at 5s", "at least 1 record, each ts 400ms")
    assert met["numbers"] == {"records": 5, "matching": 5, "ts_min": 400_000, "ts_max": 400_000}
    assert met["expect"]["ts"] == "400ms"
    assert (missed["met"], missed["came"]) == (False, "9 of 9 records, ts 400000us")
    assert (missed["numbers"]["records"], missed["numbers"]["matching"]) == (9, 9)


def test_dump_of_a_capture(run: Run, tmp_path: Path) -> None:
    """The text of a capture's records is what a replay is for: their data is that of `report --json`."""
    capture = tmp_path / "capture.txt"
    capture.write_text(run("dump", "camera-stall", "--at", "60s").out)
    result = run("dump", capture, "--json")
    assert (result.status, result.out) == (2, "")
    assert "--json is for scenarios" in result.err and result.err.count("\n") == 1
    assert len(data(run, "report", capture)["sites"]) == 1


def test_check_of_allocations(run: Run) -> None:
    """The numbers of an expectation about allocations are their outcomes."""
    results = data(run, "check", "--expect", "faceunlock-fails")["scenarios"][0]["results"]
    counted = [result["numbers"] for result in results if result["expect"]["allocs"]]
    assert counted and all({*numbers} == {"got", "failed", "waiting"} for numbers in counted)


def test_check_without_a_play(run: Run, tmp_path: Path) -> None:
    """Without --expect the data names the valid scenarios. With an invalid one stdout is empty, as without --json."""
    path = write(tmp_path / "a.toml")
    assert data(run, "check", path)["scenarios"] == [{"scenario": str(path)}]
    wrong = run("check", path, "nosuch", "--json")
    assert (wrong.status, wrong.out) == (2, "") and wrong == run("check", path, "nosuch")


@pytest.mark.parametrize(
    "command",
    [
        ["show", "nosuch"],
        ["dump", "camera-stall", "--at", "1"],
        ["dump", "camera-stall", "--at", "1s", "--file", "buffer"],
        ["ctl", ".", "stats"],
    ],
    ids=" ".join,
)
def test_errors(run: Run, command: list[str]) -> None:
    """An error is the same line on stderr as without --json, and stdout stays empty."""
    plain, result = run(*command), run(*command, "--json")
    assert result == plain
    assert result.status != 0 and result.out == "" and result.err.count("\n") == 1


def test_every_command_with_data_has_the_option(run: Run) -> None:
    """The help of each of these commands names --json."""
    for command in (["list"], ["show"], ["check"], ["dump"], ["report"], ["doctor"], ["ctl", ".", "stats"]):
        assert re.search(r"^  --json +Print ", run(*command, "--help").out, re.MULTILINE), command


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return {*value}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def test_every_field_is_on_the_page(run: Run) -> None:
    """json.md names each field, and each field that it names is there: scripts may rely on it.

    Keys of scenarios, names of kernels' files and counters are on other pages.
    """
    page = (Path(pinnerfs.__file__).parent / "cli/json.md").read_text()
    explained = data(run, "dump", "faceunlock-fails", "--at", "30s", "--explain")
    records = data(run, "dump", "every-kernel", "--at", "10s")["records"]
    checked = data(run, "check", "--expect", "camera-stall", "faceunlock-fails")
    for scenario in checked["scenarios"]:
        for result in scenario["results"]:
            result["expect"] = None
    kernels = data(run, "list", "--kernels")
    for kernel in kernels["kernels"]:
        kernel["lines"] = None
    swept = data(run, "sweep", "threshold-edges", "--at", "1s", "--set", "cpus=4")
    assert swept["points"][0]["settings"] == {"cpus": 4}
    swept["points"][0]["settings"] = None
    found = _keys([data(run, "list"), kernels, checked, records, run_doctor(run), swept]) | {*explained}
    assert {key for key in found if f"`{key}`" not in page} == set()
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.MULTILINE)
    named = {*re.findall(r"\w+", " ".join(cells))}
    in_text = "name description path retries directory state text remedy played_us results"
    numbers = "records matching ts_min ts_max count_min count_max got failed waiting"
    assert (named | {*in_text.split(), *numbers.split()}) - found == set() and len(named) > 40


def run_doctor(run: Run) -> dict[str, Any]:
    """Return the data of a doctor, which exits with 69 on a machine that cannot mount."""
    read: dict[str, Any] = json.loads(run("doctor", "--json").out)
    return read


def test_untrusted_text() -> None:
    """Control characters and undecodable bytes of names become escapes, and are read back."""
    name = "\x1b[31m \x7f \x9b \u202e \udcff \U0001f4f7"
    text = json_text({"name": name})
    assert text.isascii() and "\x7f" not in text and "\x1b" not in text
    assert json.loads(text) == {"format": 1, "name": name}
