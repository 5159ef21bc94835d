"""Records as text: printed to the byte, and parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs import Simulation, load
from pinnerfs.kernel.page_pinner.records import Record, parse_records, record_text
from pinnerfs.kernel.pageflags import Migratetype

SAMPLE = """\
Page pinned ts 76953865787 us count 1
PFN 9856945 Block 9625 type Movable Flags 0x8000000000080014(uptodate|lru|swapbacked)
 __set_page_pinner+0x34/0xcc
 try_grab_page+0x19c/0x1a0
 follow_page_pte+0x1c0/0x33c
 follow_page_mask+0xc0/0xc8
 __get_user_pages+0x178/0x414
 __gup_longterm_locked+0x80/0x148
 internal_get_user_pages_fast+0x140/0x174
 pin_user_pages_fast+0x24/0x40
 CCC
 BBB
 AAA
 __arm64_sys_ioctl+0x94/0xd0
 el0_svc_common+0xa4/0x180
 do_el0_svc+0x28/0x88
 el0_svc+0x14/0x24

"""
STACK = (
    "__set_page_pinner+0x34/0xcc",
    "try_grab_page+0x19c/0x1a0",
    "follow_page_pte+0x1c0/0x33c",
    "follow_page_mask+0xc0/0xc8",
    "__get_user_pages+0x178/0x414",
    "__gup_longterm_locked+0x80/0x148",
    "internal_get_user_pages_fast+0x140/0x174",
    "pin_user_pages_fast+0x24/0x40",
    "CCC",
    "BBB",
    "AAA",
    "__arm64_sys_ioctl+0x94/0xd0",
    "el0_svc_common+0xa4/0x180",
    "do_el0_svc+0x28/0x88",
    "el0_svc+0x14/0x24",
)


def record(flags: int = 0, migratetype: Migratetype = Migratetype.Movable, stack: tuple[str, ...] = ()) -> Record:
    return Record(ts=300001, count=1, pfn=1025, block=1, migratetype=migratetype, flags=flags, stack=stack)


def test_the_sample_record() -> None:
    """A record of a device is printed byte for byte, and parsed."""
    sample = Record(
        ts=76953865787,
        count=1,
        pfn=9856945,
        block=9856945 >> 10,
        migratetype=Migratetype.Movable,
        flags=0x8000000000080014,
        stack=STACK,
    )
    assert record_text(sample) == SAMPLE
    assert parse_records(SAMPLE) == [sample]


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (0x80014, "0x80014(uptodate|lru|swapbacked)"),
        (0x80026, "0x80026(referenced|uptodate|active|swapbacked)"),
        (0x10014, "0x10014(uptodate|lru|head)"),
        (0x182, "0x182(waiters|error|referenced)"),
        (1 << 63, "0x8000000000000000()"),
        (3 << 62, "0xc000000000000000()"),
    ],
)
def test_flags(flags: int, shown: str) -> None:
    """Flags are in hex, with names in the kernel's order. The zone has no name."""
    assert record_text(record(flags)).splitlines()[1] == f"PFN 1025 Block 1 type Movable Flags {shown}"


def test_no_flags() -> None:
    """Without a named flag the brackets are empty. Unlike C's, the kernel's %#lx of 0 has 0x."""
    assert record_text(record()).splitlines()[1] == "PFN 1025 Block 1 type Movable Flags 0x0()"


@pytest.mark.parametrize("migratetype", Migratetype)
def test_migratetypes(migratetype: Migratetype) -> None:
    """Each migratetype has its name."""
    assert f" type {migratetype.name} Flags " in record_text(record(migratetype=migratetype))


def test_a_frame_of_a_module() -> None:
    """A frame has one leading space, and its module in brackets after the symbol."""
    text = record_text(record(stack=("kbase_ioctl+0x10/0x80 [mali_kbase]",)))
    assert text.endswith("()\n kbase_ioctl+0x10/0x80 [mali_kbase]\n\n")


def test_a_record_without_a_stack() -> None:
    """A record without frames ends with the empty line, too."""
    assert record_text(record()).endswith("()\n\n")


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
def test_round_trip(records: list[Record]) -> None:
    """Any records are parsed from their text as they were."""
    assert parse_records("".join(map(record_text, records))) == records


def test_a_whole_file() -> None:
    """The text of a scenario's longterm_pinner gives the simulation's records."""
    simulation = Simulation(load("camera-stall"))
    simulation.advance("60s")
    records = parse_records(simulation.cat())
    assert records and records == list(simulation.records())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "does not end with an empty line: '\\n'"),
        ("Page pinned ts 1 us count 1\n", "does not end with an empty line: 'Page pinned ts 1 us count 1"),
        ("Page pinned ts 1 us count 1\n\n", "not a record: 'Page pinned ts 1 us count 1'"),
        (record_text(record(stack=("a",))).replace(" a", "a"), "not a record"),
        (record_text(record()).replace(")", ")x"), "not a record"),
    ],
)
def test_other_text(text: str, message: str) -> None:
    """A text that is cut, or is something else, is refused with that text."""
    with pytest.raises(ValueError) as refused:
        parse_records(text)
    assert message in str(refused.value)
