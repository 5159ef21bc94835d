"""One story of a failed CMA allocation, on all kernels that record failures: the recorded numbers of records."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from pinnerfs import MountedDevice, mounted
from tests.oracle.scene_simulation import scenario_of

pytestmark = pytest.mark.mount

BASE, PAGES = 88064, 102400
LOWEST = 0x26400
# A process pins 64 pages of a tmpfs file at 1 s, releases them at 3 s, and unmaps them at 4 s.
TASK = f"""[[task]]
name = "direct I/O"
stack = "ioctl"
region = "area"
pfn = {LOWEST}
pages = 64
release = "put_user_page"
unmap = "3s"
start = "1s"
phase = [{{ repeat = 1, every = "8000h", hold = "2s" }}, {{ for = "8000h" }}]
"""

LRU, ISOLATED, MOVED = "0x8001e", "0x8000e", "0x80006"
NAMES = {
    LRU: "referenced|uptodate|dirty|lru|swapbacked",
    ISOLATED: "referenced|uptodate|dirty|swapbacked",
    MOVED: "referenced|uptodate|swapbacked",
    "0x0": "",
}
HIGHEST = LOWEST + 31


def _flags(kernel: str, flags: str) -> str:
    if kernel != "android14-6.1":
        return f"Flags {flags}({NAMES[flags]})"
    names = f"{NAMES[flags]}|" if NAMES[flags] else ""
    return f"Flags {flags}({flags}({names}zone=0))"


def _page(kernel: str, pfn: int, count: int, mapcount: int, mapping: bool, flags: str) -> str:
    address = "ADDRESS" if mapping else "0x0"
    page = f"PFN {pfn:#x} Block {pfn >> 10} count {count} mapcount {mapcount} mapping {address}"
    return f"{page} {_flags(kernel, flags)}"


def _early(pfn: int, type_: str, flags: str) -> str:
    return f"PFN {pfn} Block {pfn >> 10} type {type_} Flags {flags}({NAMES[flags]})"


# For each kernel: the first line of a failure, and of a put at the allocation, at put_user_page, at munmap and at the
# second allocation; then that of a free.
FIRST_LINES = {
    "android12-5.10-early": ["Page pinned ts {0}000000 us count 0"] * 6,
    "android12-5.10": ["Page pinned ts [    {0}.000000]"] * 6,
    "pixel-5.10": [
        "Failure detected at [    2.000000]",
        "At least, pinned for 1000000 us",
        "At least, pinned for 3000000 us",
        "At least, pinned for 4000000 us",
        "At least, pinned for 5000000 us",
        "Freed at [    5.000000]",
    ],
    "android14-6.1": [
        "Failure detected at [    2.000000]",
        "At least, pinned for 0 us",
        "At least, pinned for 1000000 us",
        "At least, pinned for 2000000 us",
        "At least, pinned for 3000000 us",
        "Freed at [    5.000000]",
    ],
}
TOTALS = {
    "android12-5.10-early": [63, 95, 127, 161],
    "android12-5.10": [95, 127, 159, 225],
    "pixel-5.10": [94, 126, 158, 224],
    "android14-6.1": [94, 126, 158, 224],
}


def _expected(kernel: str) -> tuple[list[str], list[list[str]]]:
    """Return the oldest record, and the newest one of each moment: two lines and the first frame."""
    lines = [line.format(second) for line, second in zip(FIRST_LINES[kernel], (2, 2, 3, 4, 5, 5), strict=True)]
    if kernel == "android12-5.10-early":
        oldest = [lines[1], _early(HIGHEST, "Isolate", ISOLATED), "folio_putback_lru"]
        return oldest, [
            [lines[1], _early(LOWEST, "Isolate", ISOLATED), "test_pages_isolated"],
            [lines[2], _early(HIGHEST, "CMA", LRU), ""],
            [lines[3], _early(HIGHEST, "CMA", LRU), "release_pages"],
            [lines[4], _early(LOWEST, "Isolate", MOVED), "migrate_folio_done"],
        ]
    isolated, found = _page(kernel, LOWEST, 4, 1, True, ISOLATED), _page(kernel, HIGHEST, 4, 1, True, ISOLATED)
    released, unmapped = _page(kernel, HIGHEST, 2, 1, True, LRU), _page(kernel, HIGHEST, 1, 0, True, LRU)
    free = _page(kernel, LOWEST, 0, 0, False, "0x0")
    later = [[lines[2], released, ""], [lines[3], unmapped, "release_pages"]]
    if kernel == "android12-5.10":
        mark = "__page_pinner_mark_migration_failed_pages"
        newest = [[lines[1], isolated, "test_pages_isolated"], *later, [lines[5], free, "__reset_page_pinner"]]
        return [lines[0], found, mark], newest
    newest = [[lines[1], isolated, "folio_putback_lru"], *later, [lines[5], free, "free_pcp_prepare"]]
    return [lines[0], found, "__alloc_contig_migrate_range"], newest


def _parts(text: str) -> list[str]:
    """Return the first two lines, and the symbol of the first frame."""
    first, second, *frames = text.split("\n")
    frame = frames[0].strip().partition("+")[0] if frames else ""
    return [first, re.sub("(?<=mapping )0xffffff[0-9a-f]{10}", "ADDRESS", second), frame]


def _allocate(device: MountedDevice) -> int:
    """Write the size of the whole area to `alloc`, and return the errno."""
    descriptor = os.open(device.root / "cma" / "reserved" / "alloc", os.O_WRONLY)
    try:
        os.write(descriptor, b"%d\n" % PAGES)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(descriptor)
    return 0


@pytest.mark.parametrize("kernel", TOTALS)
def test_the_numbers_of_records_are_those_of_real_kernels(kernel: str, tmp_path: Path) -> None:
    """The failed allocation, the release, munmap and the second allocation leave as many records as recorded."""
    path = tmp_path / "story.toml"
    path.write_text(scenario_of(file=True, base=BASE, pages=PAGES, tail=TASK))
    oldest, newest = _expected(kernel)
    file = "buffer" if kernel == "android14-6.1" else "alloc_contig_failed"
    with mounted(path, kernel=kernel, mm="6.1.192") as device:
        device.advance("2s")
        errnos = [_allocate(device)]
        totals: list[int] = []
        for expected in newest:
            if totals:
                device.advance("1s")
            if len(totals) == len(newest) - 1:
                errnos.append(_allocate(device))
            texts = device.text(file).split("\n\n")[:-1]
            totals.append(len(texts))
            assert _parts(texts[-1]) == oldest
            shown = _parts(texts[0])
            assert shown == [*expected[:2], expected[2] or shown[2]]  # the release has the driver's own frames
    assert errnos == [errno.ENOMEM, 0]
    assert totals == TOTALS[kernel]
