"""The table of caveats is complete and current, and the comparison hides no real difference."""

from __future__ import annotations

import pytest

from tests.oracle.cases import for_introduced, load_all, recorded_case
from tests.oracle.caveats import CAVEATS, PAGE, judge, section, table
from tests.oracle.comparison import Comparison, canonical


def test_the_page_has_the_table_of_caveats() -> None:
    """The text between the marks is the output of `python -m tests.oracle.caveats`."""
    assert section(PAGE.read_text()) == table()


def test_every_caveat_covers_a_recorded_answer() -> None:
    """A caveat without a recorded answer fails the test."""
    answers = []
    for case in load_all(None):
        answers += [(case.name, Comparison(op["call"], repr(op), "", False)) for op in case.ops]
        shown = (("stdout", case.stdout), ("stderr", case.stderr))
        answers += [(case.name, Comparison(what, repr(text), "", False)) for what, text in shown]
    for caveat in CAVEATS:
        assert any(caveat.covers(name, answer) for name, answer in answers), caveat


def _failures_of_read_0(got: str, *, same: bool = False, recorded: str = "ENOMEM") -> list[str]:
    return judge("lt.sizes", [Comparison("read(0)", recorded, got, same)])[0]


def test_a_caveat_covers_only_what_it_names() -> None:
    """A covered answer must differ as the caveat says. An answer without a caveat must not differ."""
    assert _failures_of_read_0("{'ret': 0}") == []
    assert "no longer true" in _failures_of_read_0("{'ret': 0}", same=True)[0]
    assert "got {'ret': -1}" in _failures_of_read_0("{'ret': -1}")[0]
    assert "recorded nothing" in _failures_of_read_0("{'ret': 0}", recorded="nothing")[0]
    assert judge("lt.sizes", [Comparison("read(1)", "x", "y", False)])[0] == ["read(1): recorded x, got y"]


@pytest.mark.parametrize(
    ("kernel", "differences"),
    [
        ("android12-5.10-early", {"count 0": "count 1", "Page pinned ts": "Page pinned for"}),
        (
            "android12-5.10",
            {"count 3 map": "count 2 map", "mapcount 1": "mapcount 0", "0x0 Flags": "0x0123456789abcdef Flags"},
        ),
        ("pixel-5.10", {"At least, pinned": "Page pinned", "PFN 0x": "PFN 0", "mapping 0x0": "mapping 0x1"}),
    ],
)
def test_rules_keep_real_differences(kernel: str, differences: dict[str, str]) -> None:
    """No rule hides another layout, count or mapping, a missing record or another errno."""
    case = recorded_case(kernel, "lt.cat-3")
    lines = canonical(case.stdout, case)
    for recorded, other in differences.items():
        assert recorded in case.stdout
        assert lines != canonical(case.stdout.replace(recorded, other), case)
    assert lines != canonical(case.stdout[: len(case.stdout) * 2 // 3], case)
    assert canonical("cat: x: Invalid argument", case) != canonical("cat: x: Cannot allocate memory", case)
    assert canonical("1230", case) == canonical("1236", case) != canonical("820", case)


@pytest.mark.parametrize(
    ("line", "same", "other"),
    [
        ("Freed at [  190.074880]", "Freed at [    7.000001]", "Freed at [7.000001]"),
        ("Failure detected at [    8.1]", "Failure detected at [    8.1]", "Failure detected at [    8.100000]"),
        (
            "Flags 0x8000e(0x8000e(referenced|uptodate|dirty|swapbacked|zone=0))",
            "Flags 0x0(0x0(zone=1))",
            "Flags 0x0(0x0())",
        ),
        ("Flags 0x0(0x0(zone=0))", "Flags 0x4(0x4(uptodate|zone=0))", "Flags 0x4(0x8(uptodate|zone=0))"),
        ("Flags 0x0(0x0(zone=0))", "Flags 0x0(0x0(zone=0))", "Flags 0x4(0x4(dirty|zone=0))"),
        ("PFN 0x6000 Block 24 c", "PFN 0x5ca9 Block 23 c", "PFN 24576 Block 23 c"),
        ("mapping 0xff110000027d7710 Flags", "mapping 0xffffff8000000000 Flags", "mapping 0x0 Flags"),
    ],
)
def test_rules_for_the_lines_of_a_record(line: str, same: str, other: str) -> None:
    """A time, a PFN, an address and flags of the same form are equal, and none of another form is."""
    case = recorded_case("android14-6.1", "fs.stat")
    assert canonical(line, case) == canonical(same, case) != canonical(other, case)


def test_a_writer_that_ends_before_head_does() -> None:
    """On a busy machine dd copies everything before head closes the pipe. It must fail or say so, nothing else."""
    case = recorded_case("android14-6.1", "cmafs.tool.01.bitmap")
    ended = case.stdout.replace("rc=141", "rc=0")
    summary = "340+1 records in\n340+1 records out\n1021 bytes (1.0 kB, 1021 B) copied, 0.01 s, 99 kB/s\n"
    assert canonical(ended, case) == canonical(case.stdout, case) != canonical(ended.replace("rc=0", "rc=1"), case)
    assert canonical(summary, case) == canonical(case.stderr, case) != canonical("dd: error\n", case)


def test_introduced_prints_the_count() -> None:
    """The count is the only difference in a record to the early android12-5.10."""
    case = recorded_case("android12-5.10-early", "lt.cat-1")
    asked = for_introduced(case)
    assert asked is not None
    assert asked.stdout == case.stdout.replace("count 0", "count 1")
