"""The text of a record, to the byte."""

from __future__ import annotations

import pytest

from pinnerfs.kernel.page_pinner.records import Record, record_text
from pinnerfs.kernel.pageflags import Migratetype

# The record of the spec.
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
    """The record of the spec comes out byte for byte."""
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
    """Flags are printed in hex with their names in the kernel's order, the zone without one."""
    assert record_text(record(flags)).splitlines()[1] == f"PFN 1025 Block 1 type Movable Flags {shown}"


def test_no_flags() -> None:
    """No named flag prints an empty pair of brackets; unlike C's, the kernel's %#lx of 0 has its 0x."""
    assert record_text(record()).splitlines()[1] == "PFN 1025 Block 1 type Movable Flags 0x0()"


@pytest.mark.parametrize("migratetype", Migratetype)
def test_migratetypes(migratetype: Migratetype) -> None:
    """Each migratetype is printed by its own name."""
    assert f" type {migratetype.name} Flags " in record_text(record(migratetype=migratetype))


def test_a_frame_of_a_module() -> None:
    """A module stands in brackets behind its symbol, after exactly one leading space on the line."""
    text = record_text(record(stack=("kbase_ioctl+0x10/0x80 [mali_kbase]",)))
    assert text.endswith("()\n kbase_ioctl+0x10/0x80 [mali_kbase]\n\n")


def test_a_record_without_a_stack() -> None:
    """The empty line ends a record that has no frames, too."""
    assert record_text(record()).endswith("()\n\n")
