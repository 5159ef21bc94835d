"""The README tells what differs, and the harness notices what it must."""

from __future__ import annotations

from tests.oracle.cases import RECORDED, for_generation, load
from tests.oracle.caveats import CAVEATS, README, judge, section, table
from tests.oracle.forms import canonical


def test_the_readme_has_the_table_of_caveats() -> None:
    """What stands between the marks is what `python -m tests.oracle.caveats` prints."""
    assert section(README.read_text()) == table()


def test_every_caveat_speaks_of_a_recorded_case() -> None:
    """No caveat outlives its case."""
    names = [case.name for case in load(RECORDED)]
    for caveat in CAVEATS:
        assert any(caveat.covers(name, answer, "k") for name in names for answer in _answers(name)), caveat


def _answers(name: str) -> list[str]:
    case = next(case for case in load(RECORDED) if case.name == name)
    return ["stdout", "stderr", *(op["call"] for op in case.ops), *(f"{op['call']} #2" for op in case.ops)]


def test_a_caveat_that_is_no_longer_true_is_told() -> None:
    """An answer that a caveat excuses must differ."""
    wrong, _ = judge("lt.sizes", "android12-5.10-early", ["read(0)"], {})
    assert wrong and "no longer true" in wrong[0]


def test_a_difference_without_a_caveat_is_told() -> None:
    """Only what a caveat names may differ."""
    wrong, _ = judge("lt.sizes", "android12-5.10-early", ["read(1)"], {"read(1)": "wrong"})
    assert wrong == ["read(1): wrong"]


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
