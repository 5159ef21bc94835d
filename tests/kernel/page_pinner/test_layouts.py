"""The printed records of every kernel, to the byte, and parsed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.page_pinner.layouts import Layout, RecordKind
from pinnerfs.kernel.page_pinner.records import Record, parse_records, record_text
from pinnerfs.kernel.pageflags import Migratetype

STACK = ("put_user_page+0x71/0x80", "kbase_ioctl+0x8/0x10 [mali_kbase]")
STACK_TEXT = " put_user_page+0x71/0x80\n kbase_ioctl+0x8/0x10 [mali_kbase]\n\n"

CLASSIC = "PFN 100352 Block 98 type CMA Flags 0x800000000008000e(referenced|uptodate|dirty|swapbacked)\n"
HEX = "PFN 0x18800 Block 98 count 4 mapcount 1 mapping 0xffffff8012345678 Flags 0x800000000008000e"
NAMED = "referenced|uptodate|dirty|swapbacked"
PUT, FREE, DETECT = RecordKind.PUT, RecordKind.FREE, RecordKind.DETECT

EARLY, LATER, PIXEL = "android12-5.10-early", "android12-5.10", "pixel-5.10"
LONG, FAILED, BUFFER = "longterm_pinner", "alloc_contig_failed", "buffer"

SAMPLES = [
    ("introduced", LONG, None, f"Page pinned ts 305000 us count 4\n{CLASSIC}"),
    (EARLY, LONG, None, f"Page pinned ts 305000 us count 0\n{CLASSIC}"),
    (EARLY, FAILED, None, f"Page pinned ts 7503050 us count 0\n{CLASSIC}"),
    (LATER, LONG, None, f"Page pinned for 305000 us\n{HEX}({NAMED})\n"),
    (LATER, FAILED, None, f"Page pinned ts [    7.503050]\n{HEX}({NAMED})\n"),
    (PIXEL, LONG, PUT, f"At least, pinned for 305000 us\n{HEX}({NAMED})\n"),
    (PIXEL, FAILED, PUT, f"At least, pinned for 305000 us\n{HEX}({NAMED})\n"),
    (PIXEL, FAILED, FREE, f"Freed at [    7.503050]\n{HEX}({NAMED})\n"),
    (PIXEL, FAILED, DETECT, f"Failure detected at [    7.503050]\n{HEX}({NAMED})\n"),
    ("android13-5.10-buffer", BUFFER, PUT, f"At least, pinned for 305000 us\n{HEX}({NAMED})\n"),
    ("android14-5.15", BUFFER, FREE, f"Freed at [    7.503050]\n{HEX}({NAMED}|zone=2|kasantag=0x0)\n"),
    ("android14-6.1", BUFFER, PUT, f"At least, pinned for 305000 us\n{HEX}(0x800000000008000e({NAMED}|zone=2))\n"),
    (
        "android14-6.1",
        BUFFER,
        DETECT,
        f"Failure detected at [    7.503050]\n{HEX}(0x800000000008000e({NAMED}|zone=2))\n",
    ),
    ("android15-6.6", BUFFER, FREE, f"Freed at [    7.503050]\n{HEX}(0x800000000008000e({NAMED}|zone=2))\n"),
]

layouts = pytest.mark.parametrize(
    ("kernel", "file"), [(name, file) for name, generation in GENERATIONS.items() for file in generation.record_files]
)


def as_printed(layout: Layout, kernel: str, record: Record) -> Record:
    """Return what a kernel prints of a record that has all fields."""
    duration = layout.shows_duration(record.kind)
    types = layout.page == "type"
    return replace(
        record,
        ts=record.ts if duration else None,
        moment=None if duration else record.moment,
        count=0 if GENERATIONS[kernel].counts == "0" else record.count,
        mapcount=None if types else record.mapcount,
        mapping=None if types else record.mapping,
        migratetype=record.migratetype if types else None,
    )


@pytest.mark.parametrize(("kernel", "file", "kind", "text"), SAMPLES)
def test_samples(kernel: str, file: str, kind: RecordKind | None, text: str) -> None:
    """A record of each kernel, file and kind is printed byte for byte, and parsed."""
    layout = GENERATIONS[kernel].layouts[file]
    whole = Record(
        ts=305000,
        moment=7503050,
        kind=kind,
        count=4,
        mapcount=1,
        mapping=0xFFFFFF8012345678,
        pfn=0x18800,
        block=98,
        migratetype=Migratetype.CMA,
        flags=0x800000000008000E,
        stack=STACK,
    )
    record = as_printed(layout, kernel, whole)
    assert record_text(record, layout) == text + STACK_TEXT
    assert parse_records(text + STACK_TEXT, file) == [record]


@pytest.mark.parametrize(
    ("flags", "form", "shown"),
    [
        (0, "names", "0x0()"),
        (1 << 63, "names", "0x8000000000000000()"),
        (0, "fields", "0x0(zone=0|kasantag=0x0)"),
        (0, "doubled", "0x0(0x0(zone=0))"),
        (1 << 63, "doubled", "0x8000000000000000(0x8000000000000000(zone=2))"),
        (0x10014, "doubled", "0x10014(0x10014(uptodate|lru|head|zone=0))"),
    ],
)
def test_flags_without_names_and_with_fields(flags: int, form: str, shown: str) -> None:
    """5.15 adds the zone and the KASAN tag behind the names. 6.1 adds the zone, and prints the flags twice."""
    layout = GENERATIONS["android14-6.1"].layouts[BUFFER]._replace(flags=form)  # type: ignore[arg-type]
    record = Record(ts=1, count=0, mapcount=0, mapping=0, pfn=1, block=0, flags=flags, stack=(), kind=RecordKind.PUT)
    text = record_text(record, layout)
    assert text == f"At least, pinned for 1 us\nPFN 0x1 Block 0 count 0 mapcount 0 mapping 0x0 Flags {shown}\n\n"
    assert parse_records(text, BUFFER) == [record]


@pytest.mark.parametrize(
    ("moment", "shown"),
    [(0, "    0.000000"), (190_074_880, "  190.074880"), (99_999_999_999, "99999.999999"), (10**11, "100000.000000")],
)
def test_boot_times(moment: int, shown: str) -> None:
    """Whole seconds are right-aligned in five places, and wider from 100000 s on."""
    layout = GENERATIONS[PIXEL].layouts[FAILED]
    record = Record(
        ts=None, moment=moment, count=0, mapcount=0, mapping=0, pfn=1, block=0, flags=0, stack=(), kind=FREE
    )
    assert record_text(record, layout).startswith(f"Freed at [{shown}]\n")
    assert parse_records(record_text(record, layout), FAILED) == [record]


FRAMES = st.from_regex(r"[a-z_]{1,20}(\+0x[0-9a-f]{1,3}/0x[0-9a-f]{1,3})?( \[[a-z]{1,8}\])?", fullmatch=True)
RECORDS = st.builds(
    Record,
    ts=st.integers(-(1 << 63), (1 << 63) - 1),
    moment=st.integers(0, (1 << 63) - 1),
    count=st.integers(-(1 << 31), (1 << 31) - 1),
    mapcount=st.integers(-(1 << 31), (1 << 31) - 1),
    mapping=st.just(0) | st.integers(0xFFFFFF8000000000, (1 << 64) - 1),
    pfn=st.integers(0, 1 << 52),
    block=st.integers(0, 1 << 42),
    migratetype=st.sampled_from(Migratetype),
    flags=st.integers(0, (1 << 64) - 1),
    stack=st.lists(FRAMES, max_size=16).map(tuple),
)


@layouts
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_printing_and_parsing(kernel: str, file: str, data: st.DataObject) -> None:
    """Any records of any kernel are parsed from their text as they were, and print the same text again."""
    layout = GENERATIONS[kernel].layouts[file]
    drawn = data.draw(st.lists(st.tuples(RECORDS, st.sampled_from(list(layout.lines))), max_size=4))
    records = [as_printed(layout, kernel, replace(record, kind=kind)) for record, kind in drawn]
    text = "".join(record_text(record, layout) for record in records)
    parsed = parse_records(text, file)
    assert parsed == records
    assert "".join(record_text(record, layout) for record in parsed) == text
