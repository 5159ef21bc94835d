"""Page frames: flags, migratetypes, the memory map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.pageflags import PAGE_FLAG_BITS, Migratetype, page_flag_names, page_flags
from pinnerfs.kernel.pages import FrameRange, FrameState, MemoryMap

# Names and bits as include/trace/events/mmflags.h has them.
PRINTED = (
    "locked 0, waiters 7, error 8, referenced 1, uptodate 2, dirty 3, lru 4, active 5, workingset 6, slab 9, "
    "owner_priv_1 10, arch_1 11, reserved 12, private 13, private_2 14, writeback 15, head 16, mappedtodisk 17, "
    "reclaim 18, swapbacked 19, unevictable 20, mlocked 21"
)
MAP = MemoryMap(
    1024,
    8192,
    10,
    [
        FrameRange("low", 2048, 1024, Migratetype.Movable, page_flags(["lru"], zone=1)),
        FrameRange("cma", 3072, 2048, Migratetype.CMA, page_flags(["active"], zone=2)),
        FrameRange("high", 7168, 1024, Migratetype.HighAtomic, page_flags([], zone=3)),
    ],
)


def pfns(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(numbers, dtype=np.int64)


def test_the_flags_and_their_order() -> None:
    """Names, bits and the order of printing are the kernel's."""
    assert ", ".join(f"{name} {bit}" for name, bit in PAGE_FLAG_BITS.items()) == PRINTED


def test_the_migratetypes_and_their_order() -> None:
    """Migratetypes are numbered from Unmovable in the order of Android's kernels."""
    names = ["Unmovable", "Movable", "Reclaimable", "CMA", "HighAtomic", "Isolate"]
    assert [(kind.value, kind.name) for kind in Migratetype] == list(enumerate(names))


@given(st.sets(st.sampled_from(sorted(PAGE_FLAG_BITS))), st.integers(0, 3))
def test_flags_there_and_back(names: set[str], zone: int) -> None:
    """A value made from names prints these names in the kernel's order, and no name for the zone."""
    value = page_flags(sorted(names), zone)
    assert page_flag_names(value) == "|".join(name for name in PAGE_FLAG_BITS if name in names)
    assert value >> 62 == zone


def test_an_unknown_flag() -> None:
    """An unknown flag raises KeyError with its name."""
    with pytest.raises(KeyError, match="shiny"):
        page_flags(["lru", "shiny"])


def test_a_frame_has_its_regions_type() -> None:
    """A region's migratetype is that of all its frames. Outside it is Unmovable."""
    found = MAP.migratetype_of(pfns(1024, 2047, 2048, 3071, 3072, 5119, 5120, 7167, 7168, 8191, 8192, 9215))
    assert found.tolist() == [0, 0, 1, 1, 3, 3, 0, 0, 4, 4, 0, 0]


def test_a_frame_has_its_regions_flags() -> None:
    """A region's flags, with its zone in bits 62 and 63, are those of all its frames. Outside there are none."""
    found = MAP.flags_of(pfns(2047, 2048, 3072, 5120, 7168))
    assert found.tolist() == [0, 1 << 62 | 1 << 4, 2 << 62 | 1 << 5, 0, 3 << 62]


def test_a_map_without_regions() -> None:
    """Without regions every frame is Unmovable and has no flags."""
    bare = MemoryMap(0, 16, 10, [])
    assert bare.migratetype_of(pfns(0, 15)).tolist() == [0, 0]
    assert bare.flags_of(pfns(0, 15)).tolist() == [0, 0]


def test_state_starts_clear() -> None:
    """No frame is pinned at the start, and each array can be written."""
    kept = FrameState(5, counts_pins=True)
    assert kept.pins is not None
    arrays: list[Any] = [kept.references, kept.mapcount, kept.bits, kept.attribution, kept.ts, kept.pins]
    for array in (kept.pinned, kept.handle, *arrays):
        assert array.tolist() == [0] * 5
    for number, array in enumerate(arrays, 1):
        array[4] = number
    assert [array.tolist() for array in arrays] == [[0, 0, 0, 0, number] for number in range(1, 7)]


@pytest.mark.parametrize("counts_pins", [False, True])
def test_values_are_written_to_neighbours_and_read_back(counts_pins: bool) -> None:
    """Values of a width fill as many frames. A frame's values read back, and rows differ in a word if a value does."""
    kept = FrameState(6, counts_pins)
    values = kept.rows(pfns(1, 5)).values()
    names = ["references", "mapcount", "bits", "attribution", "ts", *(["pins"] if counts_pins else [])]
    for number, name in enumerate(names):
        setattr(values, name, pfns(10 + number, 20 + number))
    kept.write(pfns(1, 2, 3, 5), values, pfns(3, 1))
    for number, name in enumerate(names):
        first, second = 10 + number, 20 + number
        assert getattr(kept, name).tolist() == [0, first, first, first, 0, second], name
        assert getattr(kept.rows(pfns(5, 2)).values(), name).tolist() == [second, first]
    assert (kept.pins is None, values.pins is None) == (not counts_pins, not counts_pins)
    for name in names:
        getattr(kept, name)[2] += 1
        assert any(words[0] != words[1] for words in kept.rows(pfns(1, 2)).words()), name
        getattr(kept, name)[2] -= 1
    assert all(words[0] == words[1] for words in kept.rows(pfns(1, 2)).words())
