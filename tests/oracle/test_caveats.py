"""The page tells what differs, and the harness notices what it must."""

from __future__ import annotations

from tests.oracle.cases import RECORDED, for_generation, load
from tests.oracle.caveats import CAVEATS, PAGE, judge, section, table
from tests.oracle.forms import Answered, canonical


def test_the_page_has_the_table_of_caveats() -> None:
    """What stands between the marks is what `python -m tests.oracle.caveats` prints."""
    assert section(PAGE.read_text()) == table()


def test_every_caveat_speaks_of_a_recorded_answer() -> None:
    """No caveat outlives its case."""
    answers = [(case.name, Answered(op["call"], repr(op), "", False)) for case in load(RECORDED) for op in case.ops]
    for case in load(RECORDED):
        answers += [(case.name, Answered(what, "", "", False)) for what in ("stdout", "stderr")]
    for caveat in CAVEATS:
        assert any(caveat.covers(name, answer) for name, answer in answers), caveat


def _of_read_0(got: str, *, same: bool = False, recorded: str = "ENOMEM") -> list[str]:
    return judge("lt.sizes", [Answered("read(0)", recorded, got, same)])[0]


def test_a_caveat_excuses_what_it_names_and_that_alone() -> None:
    """An answer that a caveat excuses must differ, in the way that it says; others must not."""
    assert _of_read_0("{'ret': 0}") == []
    assert "no longer true" in _of_read_0("{'ret': 0}", same=True)[0]
    assert "got {'ret': -1}" in _of_read_0("{'ret': -1}")[0]
    assert "recorded nothing" in _of_read_0("{'ret': 0}", recorded="nothing")[0]
    assert judge("lt.sizes", [Answered("read(1)", "x", "y", False)])[0] == ["read(1): recorded x, got y"]


def test_forms_keep_what_a_fake_must_share() -> None:
    """Another count, a missing record or another errno is not hidden by a rule."""
    case = next(case for case in load(RECORDED) if case.name == "lt.cat-3")
    forms = canonical(case.stdout, case)
    assert forms != canonical(case.stdout.replace("count 0", "count 1"), case)
    assert forms != canonical(case.stdout[: len(case.stdout) * 2 // 3], case)
    assert canonical("cat: x: Invalid argument", case) != canonical("cat: x: Cannot allocate memory", case)
    assert canonical("1204", case) == canonical("1210", case) != canonical("804", case)


def test_introduced_prints_the_count() -> None:
    """The one difference in a record between the generations."""
    case = next(case for case in load(RECORDED) if case.name == "lt.cat-1")
    asked = for_generation(case, "introduced")
    assert asked is not None
    assert asked.stdout == case.stdout.replace("count 0", "count 1")
