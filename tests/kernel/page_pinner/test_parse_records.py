"""Reading the text of records back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs import Record, Simulation, load
from pinnerfs.kernel.page_pinner.records import parse_records, record_text
from pinnerfs.kernel.pageflags import Migratetype

FRAMES = st.from_regex(r"[a-z_]{1,20}(\+0x[0-9a-f]{1,3}/0x[0-9a-f]{1,3})?( \[[a-z]{1,8}\])?", fullmatch=True)
RECORDS = st.builds(
    Record,
    ts=st.integers(-(1 << 63), (1 << 63) - 1),
    count=st.integers(-(1 << 31), (1 << 31) - 1),
    pfn=st.integers(0, 1 << 52),
    block=st.integers(0, 1 << 42),
    migratetype=st.sampled_from(Migratetype),
    flags=st.integers(0, (1 << 64) - 1),
    stack=st.lists(FRAMES, max_size=16).map(tuple),
)


@given(st.lists(RECORDS, max_size=5))
def test_what_is_printed_is_read_back(records: list[Record]) -> None:
    """Any records come back from their text as they were."""
    assert parse_records("".join(map(record_text, records))) == records


def test_a_whole_file() -> None:
    """A scenario's file gives the simulation's records."""
    simulation = Simulation(load("camera-stall"))
    simulation.advance("60s")
    assert parse_records(simulation.longterm_pinner()) == list(simulation.records())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", "does not end in an empty line: '\\n'"),
        ("Page pinned ts 1 us count 1\n", "does not end in an empty line: 'Page pinned ts 1 us count 1"),
        ("Page pinned ts 1 us count 1\n\n", "wanted a record, but this came: 'Page pinned ts 1 us count 1'"),
        (record_text(Record(1, 1, 1, 1, Migratetype.CMA, 1, ("a",))).replace(" a", "a"), "wanted a record"),
        (record_text(Record(1, 1, 1, 1, Migratetype.CMA, 1, ())).replace(")", ")x"), "wanted a record"),
    ],
)
def test_no_records(text: str, words: str) -> None:
    """A text that is cut, or is something else, is refused with what came."""
    with pytest.raises(ValueError) as refused:
        parse_records(text)
    assert words in str(refused.value)
