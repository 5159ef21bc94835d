"""Choosing, sorting and adding up call sites; budgets."""

from __future__ import annotations

import pytest

from pinnerfs.report import read_text
from pinnerfs.report.budget import parse_budget
from pinnerfs.report.columns import SORT_KEYS
from pinnerfs.report.model import Capture, DumpRecord
from pinnerfs.report.selection import Totals, only_records, only_sites, sorted_by, top, totals
from tests.report.made import report, site
from tests.report.texts import pin

SITES = (
    site("aaaaaaaa", 2, owner="mali", site="kbase_pin"),
    site("bbbbbbbb", 5, blocks=(994, 1002, 1003)),
    site("cccccccc", 1, owner="rdma", site="ib_umem_get"),
    site("wwwwwwww", 1, role="victim"),
)


def keys(sites: object) -> str:
    """Return the first letters of the keys."""
    return "".join(one.key[0] for one in sites)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [((), "abcw"), (("mali",), "a"), (("umem",), "c"), (("bbbbbbbb", "mali"), "ab"), (("mal",), ""), (("xyz",), "")],
)
def test_choosing_sites(wanted: tuple[str, ...], found: str) -> None:
    """--site takes a whole key, a whole owner, or a part of a name; holds of other sites go as well."""
    chosen = only_sites(report(*SITES), wanted)
    assert keys(chosen.sites) == found
    assert {hold.key[0] for hold in chosen.holds} == {*found}


@pytest.mark.parametrize(("key", "order"), [(None, "abcw"), ("holds", "bacw"), ("max", "bacw"), ("owner", "acbw")])
def test_sorting(key: str | None, order: str) -> None:
    """Numbers are sorted from large to small, names from A to Z, and equal ones stay in their order."""
    assert keys(sorted_by(report(*SITES), key).sites) == order


def test_sorting_by_what_is_shown() -> None:
    """The column CMA shows a share, and is sorted by it."""
    half, all_of_few = site("aaaaaaaa", 4, cma_pages=32), site("bbbbbbbb", 1)
    assert keys(sorted_by(report(half, all_of_few), "cma").sites) == "ba"


def test_every_sort_key_has_a_column() -> None:
    """Each value of --sort sorts, also where a value is unknown."""
    one = report(site(max_us=None, p50_us=None, p99_us=None, cma_pages=None), site("bbbbbbbb"))
    assert {keys(sorted_by(one, key).sites) for key in SORT_KEYS} == {"5b", "b5"}


def test_top() -> None:
    """--top counts the sites that held pages, and keeps the victims."""
    assert keys(top(report(*SITES), 2).sites) == "abw"
    assert keys(top(report(*SITES), None).sites) == "abcw"
    # It is still the report of the whole input.
    shown, whole = top(report(*SITES), 1), report(*SITES)
    assert (shown.records, len(shown.holds)) == (whole.records, len(whole.holds))
    # A budget counts the same, so the totals of --json do.
    assert totals(shown) == totals(whole)


def test_totals() -> None:
    """Totals add up the sites that held pages, and count a page and a block of two sites once."""
    assert totals(report(*SITES)) == Totals(128, 8, 64, 4, 900_000, 900_000, refused=16)
    assert totals(report()) == Totals(0, 0, 0, 0, None, None, 0)
    # Without names of functions, nothing tells a refused allocation from a release.
    assert totals(report(site("eeeeeeee", 1, role="event"))).refused is None


def record(pfn: int, kind: str) -> DumpRecord:
    """Return a record of a page frame."""
    return DumpRecord("buffer", 0, kind, 1, None, pfn, 0, None, 1, 0, 0, 0, (), (), "")  # type: ignore[arg-type]


def test_choosing_records() -> None:
    """--kind and --pfn keep records; the range includes both its ends."""
    records = (record(9, "PIN"), record(10, "PIN"), record(20, "PUT"), record(21, "PUT"))
    capture = Capture((), records, (), {}, (), "unknown")
    assert only_records(capture, (), 10, 20).records == records[1:3]
    assert only_records(capture, ("PUT",), None, None).records == records[2:]
    assert only_records(capture, (), None, None) == capture


def test_choosing_a_page_of_a_huge_page() -> None:
    """The records of a huge page have the PFN of its head, and are chosen by each of its page frames."""
    huge, small = pin(400_000, 0x80200, names="lru|head") * 512, pin(500_000, 0x80401)
    capture = read_text(small + huge)
    for first, last, records in (
        (0x80345, 0x80345, 512),
        (0x803FF, 0x80401, 513),
        (0x80000, 0x80200, 512),
        (0x80400, 0x80400, 0),
        (0x80000, 0x801FF, 0),
    ):
        assert len(only_records(capture, (), first, last).records) == records, hex(first)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("max > 1s", "max is 1.50 s, and the budget fails if it is > 1.00 s"),
        ("max>1500ms", None),
        ("max >= 1500ms", "max is 1.50 s, and the budget fails if it is >= 1.50 s"),
        ("p99 < 20us", "p99 is 10 us, and the budget fails if it is < 20 us"),
        ("blocks > 0", "blocks is 4, and the budget fails if it is > 0"),
        (" records == 720 ", "records is 720, and the budget fails if it is == 720"),
        ("holds != 45", None),
        ("pages<=719", None),
        ("refused > 0", "refused is 3, and the budget fails if it is > 0"),
    ],
)
def test_budgets(text: str, broken: str | None) -> None:
    """A budget is broken if its condition is true."""
    assert parse_budget(text).broken(Totals(720, 45, 720, 4, 1_500_000, 10, 3)) == broken


def test_a_budget_without_a_value() -> None:
    """Where no record has a duration, a budget of durations is not broken."""
    budget, none = parse_budget("max != 1s"), Totals(0, 0, 0, 0, None, None, 0)
    assert budget.broken(none) is None and budget.why_unknown(none) is None
    # A driver that held pages for an unknown time meets no budget.
    unknown = Totals(1, 1, 1, 1, None, None, None)
    assert budget.why_unknown(unknown) == "no record that counts has a duration, so a budget for max cannot be checked"
    assert parse_budget("pages > 1").why_unknown(unknown) is None
    reason = "no record that counts names functions, so a budget for refused cannot be checked"
    assert parse_budget("refused > 0").why_unknown(unknown) == reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "'': wanted FIELD OP VALUE, such as 'max > 1s'; FIELD is one of records, holds, pages, blocks, max, p99, "
            "refused; ",
        ),
        ("p50 > 1s", "OP is one of <, <=, ==, !=, >=, >"),
        ("max => 1s", "wanted FIELD OP VALUE"),
        ("max > 1", "max = '1' must be a number and a unit"),
        ("pages > 1s", "wanted a whole number for pages, such as 'pages > 0'"),
        ("pages > -1", "wanted a whole number"),
        ("pages > \u0661", "wanted a whole number"),
        ("count > 1", "wanted FIELD OP VALUE"),
    ],
)
def test_wrong_budgets(text: str, message: str) -> None:
    """A text that is no budget is refused with what was wanted."""
    with pytest.raises(ValueError) as error:
        parse_budget(text)
    assert message in str(error.value)
