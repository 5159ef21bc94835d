"""pinnerfs report: its inputs, options, exit statuses and files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.report.columns import SORT_KEYS
from tests.cli.conftest import Result, Run
from tests.cli.test_imports import heavy_imports
from tests.mount.support import DEADLINE, why_no_mount
from tests.report.texts import hex_pin

PACKAGE = Path(pinnerfs.__file__).parent
# A file `buffer`, newest record first: an allocation fails, a driver lets go 1.5 s later, and the page is freed.
PAGE = "PFN 0xf8400 Block 993 count 1 mapcount 0 mapping 0x0 Flags 0x8000000000080014(uptodate|lru|swapbacked)"
BUFFER = f"""\
Freed at [   13.500000]
{PAGE}
 free_unref_page_prepare+0x19c/0x3a0
 free_unref_page+0x3c/0x1b8

At least, pinned for 1500000 us
{PAGE}
 __page_pinner_put_page+0x12c/0x2a0
 kbase_mem_free+0x120/0x1f0

Failure detected at [   12.000000]
{PAGE}
 __alloc_contig_migrate_range+0x2b0/0x354
 cma_alloc+0x158/0x310
 cma_heap_allocate+0x100/0x5d0

"""


def dump_of(name: str, at: str = "60s", **options: object) -> str:
    """Return the records of a scenario of the gallery."""
    simulation = pinnerfs.Simulation(pinnerfs.load(name), **options)  # type: ignore[arg-type]
    simulation.advance(at)
    return simulation.cat()


@pytest.fixture(scope="session")
def dumps() -> dict[str, str]:
    """The records of some scenarios, by file name."""
    return {
        "camera.txt": dump_of("camera-stall"),
        "short.txt": dump_of("camera-stall", "20s"),
        "gpu.txt": dump_of("gpu-put-page"),
        "buffer.txt": BUFFER,
    }


@pytest.fixture
def directory(dumps: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with these dumps."""
    for name, text in dumps.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(run: Run, *arguments: object, status: int = 0) -> Result:
    """Run `pinnerfs report`, and check the exit status."""
    result = run("report", *arguments)
    assert result.status == status, result.err
    return result


def test_the_first_line_names_the_culprit(run: Run, directory: Path) -> None:
    """The culprit is in the first line, and its row is the first of the table."""
    lines = report(run, "camera.txt").out.splitlines()
    assert "vb2_dma_sg_get_userptr" in lines[0]
    assert lines[1].startswith("camera.txt: kernel introduced, 720 records = 45 holds, ring not full, threshold ")
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:4] == ["key", "owner", "site", "holds"]
    assert "vb2_dma_sg_get_userptr" in table[1] and " 45 " in table[1] and "100%" in table[1]


def test_all_parts(run: Run, directory: Path) -> None:
    """The text has the map and the bars, and is within the width of the table."""
    text = report(run, "camera.txt").out
    assert "\nWhere the pages are\n" in text and "\nHow long\n" in text


def test_inputs(run: Run, directory: Path, dumps: dict[str, str]) -> None:
    """A compressed file, an archive and a directory give the same table as the file."""
    wanted = table(report(run, "camera.txt").out)
    (directory / "camera.gz").write_bytes(gzip.compress(dumps["camera.txt"].encode()))
    with zipfile.ZipFile(directory / "bugreport.zip", "w") as archive:
        section = f"------ Page Pinner (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n{dumps['camera.txt']}"
        archive.writestr("bugreport-x.txt", section)
    (directory / "d").mkdir()
    (directory / "d" / "longterm_pinner").write_text(dumps["camera.txt"])
    for source in ("camera.gz", "bugreport.zip", "d"):
        assert table(report(run, source).out) == wanted, source


def table(text: str) -> list[str]:
    """Return the table of a report."""
    return text.partition("\n\n")[2].partition("\n\n")[0].splitlines()


def test_stdin(run: Run, directory: Path) -> None:
    """`-` reads standard input."""
    with open("camera.txt") as file:
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            lines = report(run, "-").out.splitlines()
        finally:
            os.dup2(before, 0)
            os.close(before)
    assert lines[1].startswith("stdin: kernel introduced, 720 records = 45 holds")


def test_nothing_on_stdin(run: Run, directory: Path) -> None:
    """Standard input without a byte is an error, as of a command before the pipe that failed. An empty file is none."""
    with open(os.devnull) as file:
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            result = report(run, "-", status=2)
        finally:
            os.dup2(before, 0)
            os.close(before)
    assert result.out == "" and re.fullmatch(r"Error: cannot read stdin: it is empty; .*\n", result.err)
    (directory / "empty.txt").write_text("")
    assert report(run, "empty.txt").out.startswith("no record\n")


def test_several_inputs(run: Run, directory: Path) -> None:
    """Several files are one report."""
    assert "camera.txt, gpu.txt: " in report(run, "camera.txt", "gpu.txt").out.splitlines()[1]


def test_an_input_without_records(run: Run, directory: Path) -> None:
    """An input of several that has nothing for a report is named on stderr. One with only a CMA area is not."""
    (directory / "notes.txt").write_text("hello\n")
    (directory / "d").mkdir()
    (directory / "log.txt").write_text("cma: Reserved 64 MiB at 0x00000000f8000000\n")
    result = report(run, "camera.txt", "notes.txt", "d", "log.txt")
    reason = "it was skipped: it has no record, and nothing else that a report uses"
    assert result.err == f"notes.txt: {reason}\nd: {reason}\n"
    assert result.out.startswith(report(run, "camera.txt").out.splitlines()[0])


@pytest.mark.mount
def test_a_mount(run: Run, tmp_path: Path) -> None:
    """A mount is read record by record, and its threshold is known."""
    if (reason := why_no_mount(tmp_path)) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    with pinnerfs.mounted("camera-stall", threshold="1s") as device:
        device.advance("60s")
        lines = report(run, device.root).out.splitlines()
    assert lines[1].endswith("288 records = 18 holds, ring not full, threshold 1.00 s")


def test_an_empty_file(run: Run, directory: Path) -> None:
    """An empty record file is a success: there is no long-term pin, and the text says what that proves."""
    (directory / "longterm_pinner").write_text("")
    result = report(run, "longterm_pinner")
    lines = result.out.splitlines()
    assert "no long-term pin recorded" in lines[0]
    assert lines[2:] != []
    assert json.loads(report(run, "longterm_pinner", "--json").out)["sites"] == []
    report(run, "longterm_pinner", "--fail-if", "records > 0")


def test_no_records_at_all(run: Run, directory: Path) -> None:
    """Input with neither a section nor a record is refused in one line."""
    (directory / "notes.txt").write_text("hello\nworld\n")
    result = report(run, "notes.txt", status=2)
    assert result.out == "" and re.fullmatch(r"Error: .*'notes.txt'.*\n", result.err)


def test_what_was_skipped(run: Run, directory: Path, dumps: dict[str, str]) -> None:
    """A cut end is told on stderr in a line, and the rest is read."""
    (directory / "cut.txt").write_text(dumps["camera.txt"][:-200])
    result = report(run, "cut.txt")
    assert result.err.startswith("cut.txt") and result.err.count("\n") == 1
    assert "vb2_dma_sg_get_userptr" in result.out


@pytest.mark.parametrize("key", SORT_KEYS)
def test_sort(run: Run, directory: Path, key: str) -> None:
    """Each sort key is accepted."""
    assert report(run, "camera.txt", "gpu.txt", "--sort", key).out


def test_top_and_site(run: Run, directory: Path) -> None:
    """--top and --site choose sites."""
    both = rows(report(run, "camera.txt", "gpu.txt", "--csv"))
    assert len(both) > 1
    assert rows(report(run, "camera.txt", "gpu.txt", "--csv", "--top", 1)) == both[:1]
    last = both[-1]
    assert rows(report(run, "camera.txt", "gpu.txt", "--csv", "--site", last["key"])) == [last]


def test_a_site_that_does_not_match(run: Run, directory: Path) -> None:
    """The first line says that --site matches nothing, or not the culprit, and the second counts what is shown."""
    lines = report(run, "camera.txt", "--site", "nothing").out.splitlines()
    assert lines[0] == "none of 1 site has the chosen key, owner or name"
    assert "0 records = 0 holds" in lines[1] and len(lines) == 2
    assert json.loads(report(run, "camera.txt", "--site", "nothing", "--json").out)["culprit"] is None
    lines = report(run, "camera.txt", "gpu.txt", "--site", "mali").out.splitlines()
    assert lines[0].startswith("not among the chosen sites: vb2_dma_sg_get_userptr (v4l2) held ")
    assert "120 records = " in lines[1]


def rows(result: Result) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    return [*csv.DictReader(io.StringIO(result.out))]


def test_pfn_and_kind(run: Run, directory: Path, dumps: dict[str, str]) -> None:
    """--pfn and --kind choose records."""
    pfns = sorted({int(pfn) for pfn in re.findall(r"^PFN (\d+) ", dumps["camera.txt"], re.MULTILINE)})
    middle = pfns[len(pfns) // 2]
    below = rows(report(run, "camera.txt", "--csv", "--pfn", f"00-{middle - 1}"))
    above = rows(report(run, "camera.txt", "--csv", "--pfn", f"{middle:#x}-0xffffffffffffffff"))
    assert sum(int(row["records"]) for row in below + above) == 720
    assert rows(report(run, "camera.txt", "--csv", "--kind", "put")) == []
    text = report(run, "camera.txt", "--kind", "put").out
    assert text.startswith("none of 720 records is of the chosen kind and page frames\n") and text.count("\n") == 2
    assert len(rows(report(run, "camera.txt", "--csv", "--kind", "pin"))) == 1


def test_cma(run: Run, directory: Path) -> None:
    """--cma tells where CMA is, also against the types of pageblocks that the records show."""
    (row,) = rows(report(run, "camera.txt", "--csv", "--cma", "0x1+1"))
    assert (row["holds"], row["cma_pages"]) == ("45", "0")
    assert report(run, "camera.txt", "--cma", "0x1+1").out.splitlines()[0].endswith("; none of it in CMA")
    assert "CMA area cma: blocks 992-1023," in report(run, "camera.txt", "--cma", f"{992 << 10}+{32 << 10}").out


def test_stacks(run: Run, directory: Path) -> None:
    """--stacks prints raw frames, with offsets."""
    assert re.search(r"^ vb2_dma_sg_get_userptr\+0x", report(run, "camera.txt", "--stacks").out, re.MULTILINE)


def test_formats(run: Run, directory: Path) -> None:
    """Each format of standard output has the culprit."""
    for option in ("--json", "--csv", "--md", "--folded", "--speedscope"):
        out = report(run, "camera.txt", option).out
        assert "userptr" in out, option
    value = json.loads(report(run, "camera.txt", "--json").out)
    assert value["totals"]["records"] == 720 and value["culprit"] == value["sites"][0]["key"]


def test_files(run: Run, directory: Path) -> None:
    """--html and --svg write a file beside the text, and do not overwrite one without --force."""
    text = report(run, "camera.txt").out
    assert report(run, "camera.txt", "--html", "a.html", "--svg", "a.svg").out == text
    assert (directory / "a.html").read_text().startswith("<!doctype html>")
    assert (directory / "a.svg").read_text().startswith("<svg ")
    (directory / "a.html").write_text("mine")
    result = report(run, "camera.txt", "--html", "a.html", status=1)
    assert (result.out, result.err) == ("", "Error: --html: a.html exists; overwrite it with --force\n")
    assert (directory / "a.html").read_text() == "mine"
    report(run, "camera.txt", "--html", "a.html", "--force")
    assert (directory / "a.html").read_text() != "mine"
    result = report(run, "camera.txt", "--html", ".", status=1)
    assert (result.out, result.err) == ("", "Error: --html: . is a directory; name a file\n")
    result = report(run, "camera.txt", "--svg", "no/a.svg", status=1)
    assert (result.out, result.err) == ("", "Error: --svg: cannot write no/a.svg: No such file or directory\n")


def test_a_file_that_cannot_be_written_to_its_end(directory: Path) -> None:
    """A file that the disk has no room for is removed, so that the next call can write it."""
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (1000, 1000)); from pinnerfs.cli import main; main()"
    done = subprocess.run(
        # -B: Python 3.11 would cache the modules that it imports first as files that are cut at the limit.
        [sys.executable, "-B", "-c", limited, "report", "camera.txt", "--html", "a.html"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: --html: cannot write a.html: File too large\n"
    assert not (directory / "a.html").exists()


def test_diff(run: Run, directory: Path) -> None:
    """--diff compares BEFORE and AFTER; a longer capture of the same workload is worse."""
    result = report(run, "--diff", "short.txt", "camera.txt")
    assert result.out.splitlines()[0].startswith("worst: ")
    assert "BEFORE: short.txt: " in result.out and "AFTER: camera.txt: " in result.out
    for option in ("--json", "--csv", "--md", "--folded"):
        assert "userptr" in report(run, "--diff", "short.txt", "camera.txt", option).out
    assert report(run, "--diff", "camera.txt", "camera.txt").out.startswith("nothing is new or worse: ")


def test_a_diff_of_counts_that_cannot_be_compared(run: Run, directory: Path, dumps: dict[str, str]) -> None:
    """Every format says that counts cannot be compared; one without a place for it does so on stderr."""
    (directory / "full.txt").write_text(dump_of("ring-overflow"))
    reason = "the ring of BEFORE was full"
    for option in ((), ("--json",), ("--md",)):
        result = report(run, "--diff", "full.txt", "camera.txt", *option)
        assert reason in " ".join(result.out.split()) and not result.err, option
    for option in (("--csv",), ("--folded",)):
        result = report(run, "--diff", "full.txt", "camera.txt", *option)
        assert result.err == f"the counts cannot be compared: {reason}\n", option


def test_fail_on_new(run: Run, directory: Path) -> None:
    """--fail-on-new exits with status 1 if a site is new, and still prints the diff."""
    report(run, "--diff", "--fail-on-new", "short.txt", "camera.txt")
    result = report(run, "--diff", "--fail-on-new", "gpu.txt", "camera.txt", status=1)
    assert re.fullmatch(r"Budget exceeded: 1 new: [0-9a-f]{8}\n", result.err)
    assert result.out


def test_budgets(run: Run, directory: Path) -> None:
    """--fail-if exits with status 1 and a line for each broken budget; the report is printed anyway."""
    text = report(run, "camera.txt", "--fail-if", "max > 2s").out
    result = report(run, "camera.txt", "--fail-if", "max > 1s", "--fail-if", "holds >= 45", status=1)
    assert result.out == text
    assert re.fullmatch(
        r"Budget exceeded: max is 1\.50 s, and the budget fails if it is > 1\.00 s\n"
        r"Budget exceeded: holds is 45, and the budget fails if it is >= 45\n",
        result.err,
    )
    # With --diff, the budget is for AFTER. --top does not change it.
    report(run, "--diff", "camera.txt", "short.txt", "--fail-if", "holds >= 45")
    report(run, "--diff", "short.txt", "camera.txt", "--fail-if", "holds >= 45", status=1)


ERRORS = {
    "no input": ([], "Missing argument 'INPUT...'"),
    "no such file": (["no.txt"], "cannot read 'no.txt': No such file or directory"),
    "diff of one": (["--diff", "camera.txt"], "--diff compares two inputs, BEFORE and AFTER; 1 came"),
    "fail on new without diff": (["camera.txt", "--fail-on-new"], "--fail-on-new needs --diff"),
    "a diff as a page": (["--diff", "camera.txt", "gpu.txt", "--html", "x"], "--html is for one report; it cannot be"),
    "a diff for speedscope": (["--diff", "camera.txt", "gpu.txt", "--speedscope"], "--speedscope is for one report"),
    "a diff with stacks": (["--diff", "camera.txt", "gpu.txt", "--stacks"], "--stacks is for one report; it cannot be"),
    "a diff that is sorted": (["--diff", "camera.txt", "gpu.txt", "--sort", "max"], "--sort is for one report"),
    "two formats": (["camera.txt", "--csv", "--json"], "only one format can be printed; wanted one of"),
    "a file twice": (["camera.txt", "--html", "x", "--svg", "./x"], "--svg: ./x is also the file of --html; name "),
    "an input": (["camera.txt", "--html", "camera.txt", "-f"], "--html: camera.txt is also an input; name another"),
    "inside an input": (["d", "--html", "d/x"], "--html: d/x is in a directory that is read; name another place"),
    "inside all": (["/", "--svg", "x"], "--svg: x is in a directory that is read; name another place"),
    "the sites": (["camera.txt", "--sites", "s.toml", "--svg", "s.toml"], "--svg: s.toml is also the file of --sites"),
    "a wait without a unit": (["camera.txt", "--max-wait", "1"], "--max-wait = '1' must be a number and a unit"),
    "no wait": (["camera.txt", "--max-wait", "0s"], "--max-wait = '0s' must be more than 0, such as '10s'"),
    "an empty name": (["camera.txt", "--html", ""], "--html: the path is empty; name a file"),
    "a page on stdout": (["camera.txt", "--html", "-"], "--html: standard output (-) has the report; name a file"),
    "an empty site": (["camera.txt", "--site", ""], "'': wanted a key, an owner or part of a name"),
    "stdin twice": (["-", "-"], "standard input (-) can be read only once"),
    "a wrong range": (["camera.txt", "--pfn", "9-8"], "'9-8': the range is reversed; wanted 8-9"),
    "no range": (["camera.txt", "--pfn", "\x1b[31m"], r"'\x1b[31m': wanted A-B"),
    "a wrong area": (["camera.txt", "--cma", "1+0"], "'1+0': wanted BASE+PAGES, such as 0xf8000+16384"),
    "a wrong budget": (["camera.txt", "--fail-if", "mox > 1s"], "'mox > 1s': wanted FIELD OP VALUE, such as "),
    "a budget without a unit": (["camera.txt", "--fail-if", "max > 1"], "max = '1' must be a number and a unit"),
    "top 0": (["camera.txt", "--top", "0"], "0 is not in the range"),
    "a wrong sort key": (["camera.txt", "--sort", "x"], "'x' is not one of"),
    "no file of names": (["camera.txt", "--sites", "no.toml"], "no.toml"),
    "a trace without times": (["camera.txt", "--perfetto", "x"], "--perfetto: no record of this input has a time; "),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(run: Run, directory: Path, name: str) -> None:
    """Wrong input is one line on stderr with status 2, and nothing on stdout."""
    arguments, message = ERRORS[name]
    (directory / "d").mkdir()
    (directory / "s.toml").write_text("")
    result = report(run, *arguments, status=2)
    assert result.out == "" and result.err.count("\n") == 1 and message in result.err
    assert not (directory / "x").exists() and not (directory / "-").exists()


def test_a_removed_working_directory(run: Run, directory: Path) -> None:
    """Where the working directory is gone, an absolute path can be read, and an error names the relative one."""
    gone = directory / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    camera = str(directory / "camera.txt")
    assert report(run, camera).out
    assert report(run, "a.txt", status=2).err == "Error: cannot read 'a.txt': No such file or directory\n"
    result = report(run, camera, "--html", "a.html", status=2)
    assert "cannot write a.html: the working directory was removed" in result.err and not result.out


# What a budget is for, and why that cannot be chosen; None if it can.
CHOICES = {
    "an owner of the lists": (["camera.txt", "--site", "rdma"], None),
    "a function of the lists": (["camera.txt", "--site", "kbase_mem_alloc"], None),
    "part of a pattern": (["camera.txt", "--site", "fuse_"], None),
    "a key of another dump": (["camera.txt", "--site", "0123abcd"], None),
    "a function of a file of names": (["camera.txt", "--sites", "mine.toml", "--site", "mycam"], None),
    "a misspelt owner": (
        ["camera.txt", "--site", "v4l3"],
        "--site v4l3: no record and no list of names has this owner or function; correct it, or add the functions of "
        "the driver with --sites FILE",
    ),
    "one of two": (["camera.txt", "--site", "v4l2", "--site", "mycam"], "--site mycam: no record and no list of names"),
    "a kind that the kernel does not record": (
        ["buffer.txt", "--kind", "event"],
        "--kind event: the kernel pixel-5.10 or android13-5.10-buffer has no such records; wanted one of pin, put",
    ),
    "a kind that shows no holder": (
        ["buffer.txt", "--kind", "detect"],
        "--kind detect: a budget for records counts sites that held pages, and such a record shows none; wanted one "
        "of pin, put",
    ),
    "a kind that it records": (["pins.txt", "--kind", "event"], None),
    "no page of this area": (["camera.txt", "--pfn", "0x1000-0x1fff"], None),
    "pages far behind those of the dump": (["camera.txt", "--pfn", "0xf00000-0xf0ffff"], None),
    "an address": (
        ["camera.txt", "--pfn", "0xf8400000-0xf85fffff"],
        "--pfn 0xf8400000-0xf85fffff: the last pageblock in the input ends at 0xfd7ff; wanted numbers of page frames, "
        "which are addresses divided by the page size",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_budget_for_what_is_not_there(run: Run, directory: Path, name: str) -> None:
    """A budget is met if nothing is chosen; but if that can never be, a misspelt name would pass forever."""
    (directory / "mine.toml").write_text("[owner]\nmine = ['mycam_*']\n")
    (directory / "pins.txt").write_text(hex_pin(400_000, 0x80001))
    arguments, message = CHOICES[name]
    result = report(run, *arguments, "--fail-if", "records > 0", status=0 if message is None else 2)
    if message is None:
        assert re.match("none of .* (has the chosen|is of the chosen)", result.out)
        # A key is a hash, so it may be misspelt, or of a driver that behaves.
        warning = "--site 0123abcd: no record has this key, owner or name\n"
        assert result.err == (warning if "0123abcd" in arguments else "")
        return
    assert result.err.count("\n") == 1 and message in result.err and not result.out
    # Without a budget, the report says that nothing was chosen.
    assert report(run, *arguments).out.startswith("none of ") or len(arguments) > 3 or "detect" in arguments


def test_a_site_that_no_record_has(run: Run, directory: Path) -> None:
    """A line on stderr tells each value of --site that may be misspelt, also if another one is there."""
    wanted = (
        "--site v4l3: no record has this key, owner or name\n--site 306567b9: no record has this key, owner or name\n"
    )
    (key,) = (row["key"] for row in rows(report(run, "camera.txt", "--csv")))
    arguments = "--site", "v4l3", "--site", "306567b9", "--site", "v4l3", "--site", key, "--site", "rdma"
    result = report(run, "camera.txt", *arguments)
    assert result.err == wanted and result.out.startswith("vb2_dma_sg_get_userptr")
    # With --diff, a site of one input is enough.
    assert not report(run, "--diff", "camera.txt", "gpu.txt", "--site", key).err


def test_a_budget_for_refused_allocations(run: Run, directory: Path) -> None:
    """`refused` counts the records of allocations that were refused because of any site."""
    fails = "--fail-if", "refused > 0"
    result = report(run, "buffer.txt", *fails, status=1)
    assert result.err == "Budget exceeded: refused is 1, and the budget fails if it is > 0\n"
    assert json.loads(report(run, "buffer.txt", "--json").out)["totals"]["refused"] == 1
    report(run, "buffer.txt", *fails, "--kind", "detect", status=1)
    report(run, "buffer.txt", *fails, "--pfn", "0xf8401-0xf8fff")
    (directory / "buffer").write_text("")
    report(run, "buffer", *fails)


# Why no record can break a budget for refused allocations.
NEVER_REFUSED = {
    "only pins": (
        ["camera.txt"],
        "Error: camera.txt has only long-term pins, so a budget for refused cannot be checked; wanted "
        "alloc_contig_failed or buffer of the device\n",
    ),
    "an empty file of pins": (["longterm_pinner"], "Error: longterm_pinner has only long-term pins, so a budget"),
    "another kind": (
        ["buffer.txt", "--kind", "put"],
        "Error: --kind put: a budget for refused counts allocations that were refused, and such a record shows none; "
        "wanted one of detect\n",
    ),
    "a site": (["buffer.txt", "--site", "mali"], "Error: --site: a budget for refused counts the allocations of all "),
}


@pytest.mark.parametrize("name", NEVER_REFUSED)
def test_a_budget_for_refused_allocations_that_is_always_met(run: Run, directory: Path, name: str) -> None:
    """Where no record can show a refused allocation, the budget is an error."""
    (directory / "longterm_pinner").write_text("")
    arguments, message = NEVER_REFUSED[name]
    result = report(run, *arguments, "--fail-if", "refused > 0", status=2)
    assert result.err.startswith(message) and result.err.count("\n") == 1 and not result.out
    # Together with pins, a file of failed migrations is enough.
    report(run, "camera.txt", "buffer.txt", "--fail-if", "refused > 0", status=1)


def test_a_budget_for_what_cannot_be_read(run: Run, directory: Path) -> None:
    """A record file that its reader could not read meets no budget. An empty one does."""
    title = "------ a (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    error = "Unable to read /sys/kernel/debug/page_pinner/longterm_pinner: Permission denied\n"
    (directory / "closed.txt").write_text(title + error)
    (directory / "empty.txt").write_text(title)
    report(run, "empty.txt", "--fail-if", "records > 0")
    message = "Error: no record of closed.txt could be read, so a budget cannot be checked\n"
    for arguments in ("closed.txt", "--fail-if", "records > 0"), ("--diff", "empty.txt", "closed.txt", "--fail-on-new"):
        result = report(run, *arguments, status=2)
        assert result.err.endswith(message) and not result.out
    report(run, "closed.txt")


def test_a_diff_of_what_is_not_there(run: Run, directory: Path) -> None:
    """With --diff a site may be in one of both, and --fail-on-new refuses a misspelt one as well."""
    for order in ("camera.txt", "gpu.txt"), ("gpu.txt", "camera.txt"):
        report(run, "--diff", *order, "--site", "vb2_dma", "--fail-if", "max > 9s")
    result = report(run, "--diff", "camera.txt", "gpu.txt", "--site", "vb3_dma", "--fail-on-new", status=2)
    assert result.err.startswith("Error: --site vb3_dma: no record and no list of names") and not result.out


def test_a_diff_and_a_kind_of_the_earlier_kernel(run: Run, directory: Path) -> None:
    """A budget is for AFTER: a kind that only the kernel of BEFORE records would meet it forever."""
    (directory / "later.txt").write_text(
        "------ a (/sys/kernel/debug/page_pinner/buffer_size) ------\n4096\n\n" + BUFFER
    )
    arguments = "--kind", "pin", "--fail-if", "records > 0"
    result = report(run, "--diff", "camera.txt", "later.txt", *arguments, status=2)
    assert result.err.startswith("Error: --kind pin: the kernel android13-5.10-buffer has no such") and not result.out
    report(run, "--diff", "later.txt", "camera.txt", *arguments, status=1)
    result = report(run, "--diff", "camera.txt", "later.txt", "--kind", "detect", "--fail-on-new", status=2)
    assert result.err.startswith("Error: --kind detect: --fail-on-new counts sites that held pages, and such")


def test_a_budget_for_a_time_that_is_not_recorded(run: Run, directory: Path) -> None:
    """Records without durations meet no budget of times, and still have pages to count."""
    text = BUFFER.replace("Failure detected at [", "Page pinned ts [").replace("__alloc_contig_migrate_range", "x")
    (directory / "events.txt").write_text(text[text.index("Page pinned") :].replace("cma_alloc", "kbase_mem_free"))
    result = report(run, "events.txt", "--fail-if", "max > 1s", status=2)
    assert result.err == "Error: no record that counts has a duration, so a budget for max cannot be checked\n"
    assert not result.out
    report(run, "events.txt", "--fail-if", "pages > 0", status=1)


def test_perfetto(run: Run, directory: Path) -> None:
    """--perfetto writes the holds of records with times, and the perfetto package reads them back."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    report(run, "buffer.txt", "--perfetto", "x")
    trace = Trace()
    trace.ParseFromString((directory / "x").read_bytes())
    slices = [packet for packet in trace.packet if packet.track_event.name == "kbase_mem_free"]
    assert [packet.timestamp for packet in slices] == [12_000_000_000]


def test_perfetto_of_the_first_sites(run: Run, directory: Path) -> None:
    """With --top, the trace has the sites that the table has."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    other = BUFFER.replace("kbase_mem_free", "kgsl_mem_free").replace("0xf8400", "0xf8401")
    (directory / "two.txt").write_text(BUFFER + other.replace("1500000 us", "1100000 us"))
    for options, names in ((), {"kbase_mem_free", "kgsl_mem_free"}), (("--top", "1"), {"kbase_mem_free"}):
        report(run, "two.txt", "--perfetto", "x", "--force", *options)
        trace = Trace()
        trace.ParseFromString((directory / "x").read_bytes())
        found = {packet.track_event.name for packet in trace.packet}
        assert {name for name in found if name.endswith("_mem_free")} == names


def test_perfetto_is_not_installed(run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package perfetto, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder", None)
    monkeypatch.delitem(sys.modules, "perfetto.trace_builder.proto_builder", raising=False)
    result = report(run, "buffer.txt", "--perfetto", "x", status=1)
    assert result.err == "Error: --perfetto needs the Python package perfetto: pip install 'pinnerfs[perfetto]'\n"


def test_light_imports(directory: Path) -> None:
    """A report imports neither numpy nor fusepy."""
    assert heavy_imports(["report", str(directory / "camera.txt")]) == set()
    assert heavy_imports(["report", "--help"]) == set()


def imported(*arguments: str) -> set[str]:
    """Return the modules that Python imports with these arguments."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_no_module_is_imported_in_vain(directory: Path) -> None:
    """A report that is only printed starts without the modules of archives, exports and files to write."""
    unused = {"csv", "html", "lzma", "pathlib", "rich", "tempfile", "urllib.parse", "zipfile", "pinnerfs.record.output"}
    found = imported("-m", "pinnerfs", "report", "camera.txt")
    assert "pinnerfs.report.analysis" in found
    assert found & unused <= imported("-c", "import click, msgspec")


def test_the_picture_of_the_pages(run: Run, directory: Path) -> None:
    """The command on the report's page makes the picture that the pages show, byte for byte."""
    report(run, "camera.txt", "--svg", "report.svg")
    assert (directory / "report.svg").read_bytes() == (PACKAGE / "report" / "report.svg").read_bytes()


@pytest.mark.parametrize(
    "options", [["--fail-if", "records > 9999"], ["--diff", "short.txt"]], ids=["a budget", "two inputs"]
)
def test_a_pipe_of_names(run: Run, tmp_path: Path, dumps: dict[str, str], options: list[str]) -> None:
    """The file of --sites is read once, so it may be a pipe."""
    for name, text in dumps.items():
        (tmp_path / name).write_text(text)
    reader, writer = os.pipe()
    os.write(writer, b'[owner]\nmycam = ["vb2_*"]\n')
    os.close(writer)
    inputs = [tmp_path / "camera.txt", *(tmp_path / word if word in dumps else word for word in options)]
    done = run("report", *inputs, "--sites", f"/dev/fd/{reader}")
    os.close(reader)
    assert (done.status, done.err) == (0, "")
    assert re.search(r" mycam +vb2_", done.out)
