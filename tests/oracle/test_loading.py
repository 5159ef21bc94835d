"""Files of recorded cases: their names say the kernel, and a case that cannot be replayed says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pinnerfs import Simulation, parse
from tests.oracle import cma
from tests.oracle.cases import Case, for_introduced, load, load_all, recorded_case
from tests.oracle.partial_records import partial_records
from tests.oracle.scenarios import freed_of, pins_of
from tests.oracle.setups import why_not_replayable

FEW = {"case": "fs.x", "kind": "shell", "shell": "bash", "script": "true", "exit": 0, "stdout": "", "stderr": ""}


def write(path: Path, *cases: dict[str, object]) -> Path:
    """Write a file of cases."""
    path.write_text("".join(f"{json.dumps(case)}\n" for case in cases))
    return path


def the_case(path: Path) -> Case:
    """Return the only case of a file."""
    (case,) = load(path)
    return case


@pytest.mark.parametrize(
    "stem", ["android12-5.10", "android12-5.10-early", "pixel-5.10", "android14-6.1", "introduced"]
)
def test_the_name_of_a_file_says_the_kernel(tmp_path: Path, stem: str) -> None:
    """The stem, or its first part, names the kernel of all cases."""
    assert the_case(write(tmp_path / f"{stem}.jsonl", FEW)).generation == stem
    assert the_case(write(tmp_path / f"{stem}.more.jsonl", FEW)).generation == stem


@pytest.mark.parametrize("stem", ["android99-9.9", "cases", "pixel-5.100", "xpixel-5.10"])
def test_an_unknown_kernel_is_an_error_in_one_line(tmp_path: Path, stem: str) -> None:
    """The error has the path and the names that are known."""
    path = write(tmp_path / f"{stem}.jsonl", FEW)
    with pytest.raises(ValueError, match=r"the name must be KERNEL\.jsonl, with one of introduced, ") as caught:
        load_all(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    """Its name is not blamed."""
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/cases\.jsonl'$"):
        load_all(tmp_path / "cases.jsonl")


@pytest.mark.parametrize(
    ("kernel", "generation"),
    [
        ("linux 6.1.192 (Debian source), UP, pageblock_order 10", "android14-6.1"),
        ("linux 6.1.192 with page_pinner of android12-5.10 (V3)", "android12-5.10"),
    ],
)
def test_cases_of_cma_say_their_kernel(tmp_path: Path, kernel: str, generation: str) -> None:
    """Each case of cma-6.1*.jsonl has its own kernel."""
    raw = FEW | {"case": "cmapin.anon.get.1", "kernel": kernel, "boot": "cma=64M", "auto": True}
    for name in ("cma-6.1.jsonl", "cma-6.1-more.jsonl"):
        case = the_case(write(tmp_path / name, raw))
        assert (case.generation, why_not_replayable(case)) == (generation, None)


@pytest.mark.parametrize(
    ("kernel", "boot", "mm", "areas"),
    [
        ("linux 6.1.192 (Debian source), UP, pageblock_order 10", "cma=64M", "6.1.192", ["reserved"]),
        (
            "linux 6.1.192 with mm/cma.c of android14-6.1 (5 retries 100 ms apart)",
            "cma=64M",
            "android14-6.1",
            ["reserved"],
        ),
        ("linux 6.1.192 (Debian source), UP", "cma=64M cma2=16M,2", "6.1.192", ["reserved", "camera"]),
        ("linux 6.1.192 (Debian source), UP", "", "6.1.192", []),
    ],
)
def test_the_machine_of_a_case_of_cma(tmp_path: Path, kernel: str, boot: str, mm: str, areas: list[str]) -> None:
    """Its kernel and its boot parameters say the memory management and the areas."""
    case = the_case(write(tmp_path / "cma-6.1.jsonl", FEW | {"case": "cmafs.x", "kernel": kernel, "boot": boot}))
    simulation = Simulation(parse(cma.scenario(case)), mm=cma.mm_of(case))
    assert (simulation.mm.name, list(simulation.areas)) == (mm, areas)
    assert cma.is_cma(case) and why_not_replayable(case) is None


def test_states_of_an_area_are_compared_without_what_differs_from_run_to_run(tmp_path: Path) -> None:
    """Other counters of vmstat and the levels of log lines are left out; the two counters of CMA are always there."""
    state = {"used": 1, "maxchunk": 2, "bitmap_set_bits": [], "count": 3, "vmstat_delta": {"nr_free_cma": -4}}
    ops = [{"call": "state", "ret": state | {"CmaFree": "4 kB", "dmesg": ["<3>cma: cma_alloc: reserved: failed"]}}]
    raw = {"case": "cmaseq.x", "kind": "sys", "kernel": "linux", "boot": "cma=64M", "auto": True, "ops": ops}
    (op,) = the_case(write(tmp_path / "cma-6.1.jsonl", raw)).ops
    counted = {"cma_alloc_success": 0, "cma_alloc_fail": 0}
    assert op["ret"] == state | {"vmstat_delta": counted, "dmesg": ["cma: cma_alloc: reserved: failed"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shell": "fish", "auto": True, "setup": {"threshold": "1"}}, "unsupported shell 'fish'"),
        ({"case": "fs.unheard-of"}, "no setup step in tests/oracle/setups.py"),
        ({"exit": None}, "invalid line, `exit` is missing, or neither a number nor a string"),
        ({"auto": True}, "invalid line, `setup` has no `threshold` that is a number or a string"),
    ],
)
def test_a_case_that_cannot_be_replayed_says_why(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    """The reason is for the report of the skipped test."""
    assert why_not_replayable(the_case(write(tmp_path / "pixel-5.10.jsonl", FEW | change))) == reason


def test_a_kernel_without_a_threshold_needs_none_in_the_setup(tmp_path: Path) -> None:
    """Its cases can be replayed without that key."""
    assert why_not_replayable(the_case(write(tmp_path / "android14-6.1.jsonl", FEW | {"auto": True}))) is None


def test_the_pages_of_a_record_become_pages_of_the_scenario() -> None:
    """A mapping is the page cache, and references beyond those that the record explains are those of others."""
    anonymous, mapped = (
        pins_of(recorded_case("pixel-5.10", "lt.unmapped")),
        pins_of(recorded_case("pixel-5.10", "lt.filemap")),
    )
    assert {(pin.kind, pin.mapped) for pin in anonymous} == {("anon", False)}
    assert [(pin.kind, pin.mapped, pin.others) for pin in mapped].count(("file", True, 0)) == 2
    busy = pins_of(recorded_case("pixel-5.10", "perm.uid1000.0666"))
    assert sum(pin.others for pin in busy) == 2


def test_freed_pages_of_an_earlier_case() -> None:
    """A case that shows one freed page gets both that the recorder left, oldest first."""
    shown = freed_of(recorded_case("pixel-5.10", "ft.write.01"))
    assert [page.at for page in shown] == [190_074_800, 190_074_880]
    assert freed_of(recorded_case("pixel-5.10", "lt.cat-3")) == ()


@pytest.mark.parametrize(
    ("script", "stdout", "pfns"),
    [
        ("grep -o '0x[0-9a-f]*' L | head -1", "0x2fea2\nrc=0 0 0\n", [0x2FEA2]),
        ("awk '/^PFN/{print $2}' L", "0x2fea2\n0x17a1\n0x2fc38\nrc=0\n", [0x2FEA2, 0x17A1, 0x2FC38]),
        ("awk '/^PFN/{print $2}' L", "192743\n6049\n192091\nrc=0\n", [192743, 6049, 192091]),
        ("awk '/^PFN/{print $4}' L", "191\n5\n191\nrc=0\n", [191 << 10, (5 << 10) + 1, (191 << 10) + 2]),
        ("grep -o '0x[0-9a-f]*' L | head -3", "0x2fea2\n0x0\n0xa0016\nrc=0 0 0\n", [0x2FEA2]),
        ("wc -c < L", "1254\nrc=0\n", []),
        ("grep -c PFN L", "3\nrc=0\n", []),
    ],
)
def test_pages_shown_without_their_records(script: str, stdout: str, pfns: list[int]) -> None:
    """The pages of a setup have the PFNs or blocks that an answer shows alone, and a count of bytes is none."""
    case = replace(recorded_case("pixel-5.10", "lt.tool.33"), script=script, stdout=stdout)
    assert [record.pfn for record in partial_records(case)] == pfns


def test_a_dump_whose_line_ends_with_a_space() -> None:
    """The last column of a line of od -c may be empty, too."""
    script = "od -c L | head -2"
    stdout = (
        "0000000   P   a   g   e       p   i   n   n   e   d       f   o   r    \n"
        "0000020   5   2   8   6       u   s  \\n   P   F   N       0   x   1   9\nrc=0 0 0\n"
    )
    case = replace(recorded_case("android12-5.10", "lt.tool.33"), script=script, stdout=stdout)
    assert [record.hold for record in partial_records(case)] == [5286]


def test_listings_of_introduced() -> None:
    """A listing loses the lines of the files that `introduced` does not have, wherever the name is in the line."""
    case = replace(
        recorded_case("android12-5.10-early", "fs.stat"),
        stdout="/d/threshold 644 0\n/d/failure_tracking 644 0\n-r--r--r-- 1 alloc_contig_failed\n/d/longterm_pinner\n",
    )
    asked = for_introduced(case)
    assert asked is not None and asked.stdout == "/d/threshold 644 0\n/d/longterm_pinner\n"
