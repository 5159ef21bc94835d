"""The table of caveats is complete and current, and the comparison hides no real difference."""

from __future__ import annotations

from tests.oracle.cases import RECORDED, for_generation, load
from tests.oracle.caveats import CAVEATS, PAGE, judge, section, table
from tests.oracle.comparison import Comparison, canonical


def test_the_page_has_the_table_of_caveats() -> None:
    """The text between the marks is the output of `python -m tests.oracle.caveats`."""
    assert section(PAGE.read_text()) == table()


def test_every_caveat_covers_a_recorded_answer() -> None:
    """A caveat without a recorded answer fails the test."""
    answers = [(case.name, Comparison(op["call"], repr(op), "", False)) for case in load(RECORDED) for op in case.ops]
    for case in load(RECORDED):
        answers += [(case.name, Comparison(what, "", "", False)) for what in ("stdout", "stderr")]
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


def test_rules_keep_real_differences() -> None:
    """No rule hides another count, a missing record or another errno."""
    case = next(case for case in load(RECORDED) if case.name == "lt.cat-3")
    lines = canonical(case.stdout, case)
    assert lines != canonical(case.stdout.replace("count 0", "count 1"), case)
    assert lines != canonical(case.stdout[: len(case.stdout) * 2 // 3], case)
    assert canonical("cat: x: Invalid argument", case) != canonical("cat: x: Cannot allocate memory", case)
    assert canonical("1204", case) == canonical("1210", case) != canonical("804", case)


def test_introduced_prints_the_count() -> None:
    """The count is the only difference in a record between the generations."""
    case = next(case for case in load(RECORDED) if case.name == "lt.cat-1")
    asked = for_generation(case, "introduced")
    assert asked is not None
    assert asked.stdout == case.stdout.replace("count 0", "count 1")
