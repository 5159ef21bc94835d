"""What differs between the kernels, a test for each difference."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pinnerfs.kernel.calls import TRUNCATE
from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.pageflags import page_flags
from tests.kernel.page_pinner.model import Row
from tests.kernel.page_pinner.pinners import (
    FREE,
    GET,
    MAP,
    PIN,
    PLAIN_GET,
    PLAIN_PUT,
    PUT,
    REGIONS,
    UNMAP,
    UNPIN,
    fail,
    memory_map,
    new_pinner,
    page,
    ring,
    state,
)

INTRODUCED, EARLY, LATER, PIXEL = "introduced", "android12-5.10-early", "android12-5.10", "pixel-5.10"
BUFFER_5_10, BUFFER_5_15 = "android13-5.10-buffer", "android14-5.15"
BUFFER_6_1, BUFFER_6_6 = "android14-6.1", "android15-6.6"
LONGTERM = (INTRODUCED, EARLY, LATER, PIXEL)
BUFFERS = (BUFFER_5_10, BUFFER_5_15, BUFFER_6_1, BUFFER_6_6)
FAILING = (EARLY, LATER, PIXEL, *BUFFERS)

# Pages of the map: on the LRU; in CMA and not on the LRU; of a file and not on the LRU.
ANON, CMA, FILE = 100, 112, 136
KINDS = ("PUT", "FREE", "DETECT")

every_kernel = pytest.mark.parametrize("kernel", GENERATIONS)
failing = pytest.mark.parametrize("kernel", FAILING)


def played(kernel: str, *rows: Row, threshold: int = -1) -> Pinner:
    """Return a pinner after these events, one batch for each."""
    pinner = new_pinner(threshold, GENERATIONS[kernel])
    return play(pinner, *rows)


def play(pinner: Pinner, *rows: Row) -> Pinner:
    """Let these events happen, one batch for each."""
    for row in rows:
        pinner.apply(EventBatch.of([row]))
    return pinner


def longterm(pinner: Pinner) -> list[tuple[int, int, int]]:
    """Return duration, count and mapcount of the long-term records, oldest first."""
    return [(row[0], row[4], row[6]) for row in reversed(ring(pinner))]


def failures(pinner: Pinner) -> list[tuple[str, int, int, int]]:
    """Return kind, time, count and mapcount of the failure records, oldest first."""
    file = pinner.generation.failure_file
    assert file is not None
    return [(KINDS[row[7]], row[0], row[4], row[6]) for row in reversed(ring(pinner, file))]


def failed(kernel: str, *rows: Row, pfn: int = ANON, now: int = 100) -> Pinner:
    """Return a pinner after these events, with a page whose migration then failed at `now`."""
    pinner = played(kernel, *rows)
    fail(pinner, pfn, now)
    return pinner


@pytest.mark.parametrize(
    ("kernel", "files"),
    [
        (INTRODUCED, "longterm_pinner threshold"),
        *((kernel, "longterm_pinner threshold alloc_contig_failed failure_tracking") for kernel in LONGTERM[1:]),
        *((kernel, "buffer failure_tracking buffer_size") for kernel in BUFFERS),
    ],
)
def test_files(kernel: str, files: str) -> None:
    """Each kernel has its files, in the order in which it creates them."""
    generation = GENERATIONS[kernel]
    assert " ".join(generation.files) == files
    assert generation.main_file == generation.files[0]
    assert generation.has_threshold == ("threshold" in files)


@every_kernel
def test_only_the_announced_feature_marks_foll_pin(kernel: str) -> None:
    """FOLL_GET is marked on all kernels with longterm_pinner, FOLL_PIN on the first one, and nothing with buffer."""
    pinner = played(kernel, (5, GET, ANON, 0, 1), (6, PIN, CMA, 0, 1))
    assert state(pinner, ANON)[0] == (kernel in LONGTERM)
    assert state(pinner, CMA)[0] == (kernel == INTRODUCED)


@every_kernel
def test_foll_pin_counts_references_on_all_kernels(kernel: str) -> None:
    """A FOLL_PIN pin adds 1024 references whether page_pinner tracks it or not. unpin_user_page takes them back."""
    pinner = played(kernel, (5, PIN, ANON, 0, 1), (6, GET, ANON, 0, 1), (7, PLAIN_GET, ANON, 0, 1))
    assert page(pinner, ANON) == (True, 1026, 1, True)
    play(pinner, (8, UNPIN, ANON, 0, 1), (9, PUT, ANON, 0, 1), (9, PLAIN_PUT, ANON, 0, 1))
    assert page(pinner, ANON) == (True, 0, 1, True)


@pytest.mark.parametrize(
    ("order", "kernels", "references"),
    [(0, GENERATIONS, 1024), (1, (*LONGTERM, *BUFFERS[:2]), 1024), (1, BUFFERS[2:], 1), (2, GENERATIONS, 1)],
)
def test_compound_pages_count_their_pins_apart(order: int, kernels: Iterable[str], references: int) -> None:
    """From order 2 on, and on Linux 6 from order 1 on, a FOLL_PIN pin adds one reference to each frame."""
    for kernel in kernels:
        pinner = played(kernel, (5, PIN, ANON, order, 1))
        assert [page(pinner, ANON + frame)[1] for frame in range(1 << order)] == [references] * (1 << order)
        play(pinner, (6, UNPIN, ANON, order, 1))
        assert page(pinner, ANON)[1] == 0


@pytest.mark.parametrize("kernel", [LATER, PIXEL])
@pytest.mark.parametrize(
    ("rows", "count", "mapcount"),
    [
        ([(0, GET, ANON, 0, 1)], 2, 1),
        ([(0, GET, ANON, 0, 1), (0, GET, ANON, 0, 2)], 3, 1),
        ([(0, GET, CMA, 0, 1)], 3, 1),
        ([(0, GET, FILE, 0, 1)], 4, 1),
        ([(0, GET, ANON, 0, 1), (1, PIN, ANON, 0, 1)], 1026, 1),
        ([(0, GET, ANON, 0, 1), (1, UNMAP, ANON, 0, 1)], 1, 0),
        ([(0, GET, CMA, 0, 1), (1, UNMAP, CMA, 0, 1)], 1, 0),
        ([(0, GET, FILE, 0, 1), (1, UNMAP, FILE, 0, 1)], 2, 0),
        ([(0, GET, ANON, 0, 1), (1, MAP, ANON, 0, 1)], 3, 2),
    ],
)
def test_the_count_of_a_long_pin(kernel: str, rows: list[Row], count: int, mapcount: int) -> None:
    """count has pins, mappings, the page cache and the LRU batch, before the release takes one off."""
    pfn = rows[0][2]
    assert longterm(played(kernel, *rows, (50, PUT, pfn, 0, 1))) == [(50, count, mapcount)]


def test_the_count_of_the_announced_feature_is_the_pin_count() -> None:
    """`introduced` prints the pins of the page, and no other references."""
    rows = [(0, GET, FILE, 0, 1), (0, PLAIN_GET, FILE, 0, 1), (0, PIN, FILE, 0, 1), (50, PUT, FILE, 0, 1)]
    assert longterm(played(INTRODUCED, *rows))[0][1] == 2


@pytest.mark.parametrize("kernel", LONGTERM)
def test_a_freed_page_that_was_pinned(kernel: str) -> None:
    """After put_page and a free, Pixel's kernel has a FREE record, and no other one has."""
    pinner = played(kernel, (5, GET, ANON, 0, 1), (20, PLAIN_PUT, ANON, 0, 1), (30, FREE, ANON, 0, 2))
    if kernel == INTRODUCED:
        assert set(pinner.rings) == {"longterm_pinner"}
    else:
        assert failures(pinner) == ([("FREE", 30, 0, 0)] if kernel == PIXEL else [])
    play(pinner, (40, PUT, ANON, 0, 1))
    assert longterm(pinner) == []


def test_a_free_record_tells_nothing_about_the_page() -> None:
    """A FREE record has the zone's bits of the flags alone, the free's caller and call, and no mapping.

    A page of a file is freed by a truncation of that file.
    """
    pinner = played(PIXEL, (5, GET, FILE, 0, 1), (5, GET, ANON, 0, 1), (30, FREE, FILE, 0, 2), (31, FREE, ANON, 0, 2))
    first, second = reversed(ring(pinner, "alloc_contig_failed"))
    assert first == (30, FILE, 0, 0, 0, 2, 0, 1, TRUNCATE, 2)
    assert second == (31, ANON, 2 << 62, 0, 0, 2, 0, 1, FREE, 1)


@failing
@pytest.mark.parametrize("call", [PUT, UNPIN, PLAIN_PUT, UNMAP])
def test_dropped_references_of_a_failed_page(kernel: str, call: Event) -> None:
    """Each dropped reference is a PUT record with the count after it. On Linux 6 unpin_user_page leaves none."""
    rows = [(5, PLAIN_GET, ANON, 0, 1), (5, PLAIN_GET, ANON, 0, 1), (6, PIN, ANON, 0, 1)]
    pinner = play(failed(kernel, *rows), (150, call, ANON, 0, 3))
    if call == UNPIN and kernel in (BUFFER_6_1, BUFFER_6_6):
        assert failures(pinner) == []
        return
    count = {PUT: 1026, UNPIN: 3, PLAIN_PUT: 1026, UNMAP: 1026}[call]
    time = 150 if kernel in (EARLY, LATER) else 50
    assert failures(pinner) == [("PUT", time, count, 0 if call == UNMAP else 1)]
    assert ring(pinner, pinner.generation.failure_file or "")[0][5] == 3


@failing
def test_an_unmap_without_a_mapping_drops_nothing(kernel: str) -> None:
    """munmap of a page that is not mapped leaves no record."""
    pinner = play(failed(kernel, (5, PLAIN_GET, ANON, 0, 1)), (150, UNMAP, ANON, 0, 3))
    before = failures(pinner)
    assert len(before) == 1
    play(pinner, (160, UNMAP, ANON, 0, 3))
    assert failures(pinner) == before
    assert page(pinner, ANON) == (True, 1, 0, True)


@failing
def test_no_puts_while_tracking_is_off(kernel: str) -> None:
    """With failure_tracking 0 there is no PUT record. The mark stays, and a free is recorded all the same."""
    pinner = failed(kernel, (5, PLAIN_GET, ANON, 0, 1), (5, PLAIN_GET, ANON, 0, 1))
    pinner.tracking = False
    play(pinner, (150, PLAIN_PUT, ANON, 0, 1))
    assert failures(pinner) == []
    pinner.tracking = True
    play(pinner, (160, PLAIN_PUT, ANON, 0, 1))
    pinner.tracking = False
    play(pinner, (170, FREE, ANON, 0, 1))
    assert [kind for kind, *_ in failures(pinner)] == (["PUT"] if kernel == EARLY else ["PUT", "FREE"])


@failing
@pytest.mark.parametrize("taken", [GET, PLAIN_GET])
def test_a_later_failure_is_measured_anew(kernel: str, taken: Event) -> None:
    """A free forgets the time of a pin or of a failure, so that the next page of the frame starts from its own."""
    pinner = play(failed(kernel, (5, taken, ANON, 0, 1)), (150, FREE, ANON, 0, 1), (400, PLAIN_GET, ANON, 0, 1))
    fail(pinner, ANON, 500)
    play(pinner, (550, PLAIN_PUT, ANON, 0, 1))
    assert failures(pinner)[-1] == ("PUT", 550 if kernel in (EARLY, LATER) else 50, 1, 1)


@failing
@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_reference(kernel: str, at_once: bool) -> None:
    """When the last reference goes, PUT with count 0 comes first and FREE second. The next page is unmarked."""
    pinner = failed(kernel, (5, PLAIN_GET, ANON, 0, 1))
    rows: list[Row] = [(150, UNMAP, ANON, 0, 1), (160, PLAIN_PUT, ANON, 0, 1)]
    again: list[Row] = [(170, PLAIN_GET, ANON, 0, 1), (180, PLAIN_PUT, ANON, 0, 1)]
    for batch in [rows + again] if at_once else [[row] for row in rows + again]:
        pinner.apply(EventBatch.of(batch))
    seen = [(kind, count, mapcount) for kind, _, count, mapcount in failures(pinner)]
    if kernel == EARLY:  # FAILED survives
        assert seen == [("PUT", 1, 0), ("PUT", 0, 0), ("PUT", 1, 1)]
    else:
        assert seen == [("PUT", 1, 0), ("PUT", 0, 0), ("FREE", 0, 0)]
    assert page(pinner, ANON) == (True, 0, 1, True)


def test_early_forgets_a_failure_only_with_the_mark() -> None:
    """On android12-5.10-early FAILED survives a free, unless the page carried GET then."""
    for pin, kept in ((PLAIN_GET, True), (GET, False)):
        pinner = play(failed(EARLY, (5, pin, ANON, 0, 1)), (150, FREE, ANON, 0, 1))
        assert failures(pinner) == [("PUT", 150, 0, 0)]
        play(pinner, (160, PLAIN_GET, ANON, 0, 1), (170, PLAIN_PUT, ANON, 0, 1))
        assert len(failures(pinner)) == 1 + kept


@failing
def test_put_user_page_of_a_pinned_and_failed_page(kernel: str) -> None:
    """Pixel forgets the time at put_user_page, so its PUT shows the uptime. With buffer it is the failure's age."""
    pinner = play(failed(kernel, (5, GET, ANON, 0, 1)), (150, PUT, ANON, 0, 2))
    time = {EARLY: 150, LATER: 150, PIXEL: 150}.get(kernel, 50)
    assert failures(pinner) == [("PUT", time, 1, 1)]
    if kernel in LONGTERM:
        assert longterm(pinner) == [(145, 2, 1)]
        assert state(pinner, ANON)[2] == (0 if kernel == PIXEL else 5)


def test_pixel_measures_a_put_from_the_pin() -> None:
    """put_page of a page that was pinned when it failed: measured from the pin, and not from the failure."""
    pinner = play(failed(PIXEL, (5, GET, ANON, 0, 1), (5, GET, ANON, 0, 1)), (150, PLAIN_PUT, ANON, 0, 2))
    assert failures(pinner) == [("PUT", 145, 2, 1)]


@failing
def test_put_user_page_of_a_failed_page_without_a_pin(kernel: str) -> None:
    """android12-5.10 measures it from the last pin, with that pin's stack. Other kernels do nothing."""
    pinner = failed(kernel, (5, GET, ANON, 0, 7), (9, PUT, ANON, 0, 7), (9, PLAIN_GET, ANON, 0, 1), now=50)
    play(pinner, (150, PUT, ANON, 0, 2))
    if kernel == LATER:
        assert longterm(pinner)[1:] == [(145, 2, 1)]
        assert ring(pinner)[0][5] == 7
    elif kernel in LONGTERM:
        assert len(longterm(pinner)) == 1


def test_a_record_without_a_stack() -> None:
    """On android12-5.10 a failed page that was never pinned is measured from 0, and has no stack."""
    pinner = play(failed(LATER, (5, PLAIN_GET, ANON, 0, 1)), (150, PUT, ANON, 0, 2))
    assert (longterm(pinner), ring(pinner)[0][5]) == ([(150, 2, 1)], 0)
    assert pinner.counters.totals()["pinned_now"] == 0
    pinner.write_threshold(150)
    play(pinner, (150, PLAIN_GET, ANON, 0, 1), (150, PUT, ANON, 0, 2))
    assert longterm(pinner) == []  # the threshold counts here, too


@pytest.mark.parametrize("kernel", BUFFERS)
def test_buffer_knows_no_long_pins(kernel: str) -> None:
    """With buffer, pins leave no record however long they are, and count as untracked."""
    pinner = played(
        kernel, (0, GET, ANON, 0, 1), (1, PIN, ANON, 0, 1), (10**9, UNPIN, ANON, 0, 1), (10**9, PUT, ANON, 0, 1)
    )
    assert (set(pinner.rings), failures(pinner)) == ({"buffer"}, [])
    assert pinner.counters.totals()["untracked"] == 4


@every_kernel
def test_a_page_lives_from_its_first_reference(kernel: str) -> None:
    """A frame gets a page at its first reference: mapped once, on the LRU if the region's flags say so."""
    pinner = played(kernel, (0, GET, ANON, 0, 1), (0, GET, CMA, 0, 1), (0, MAP, FILE, 0, 1))
    assert [page(pinner, pfn) for pfn in (ANON, CMA, FILE, 101)] == [
        (True, 1, 1, True),
        (True, 1, 1, False),
        (True, 0, 1, False),
        (False, 0, 0, False),
    ]
    play(pinner, *((1, FREE, pfn, 0, 1) for pfn in (ANON, CMA, FILE)))
    assert [page(pinner, pfn) for pfn in (ANON, CMA, FILE)] == [(False, 0, 0, False)] * 3


@every_kernel
def test_the_last_reference_frees_anonymous_pages_only(kernel: str) -> None:
    """An anonymous page ends with its last reference or mapping, in any order. A file's page stays in the cache."""
    for pfn in (ANON, CMA, FILE):
        for rows in ([(1, PUT, pfn, 0, 1), (2, UNMAP, pfn, 0, 1)], [(1, UNMAP, pfn, 0, 1), (2, PUT, pfn, 0, 1)]):
            pinner = played(kernel, (0, GET, pfn, 0, 1), *rows)
            assert page(pinner, pfn) == ((True, 0, 0, True) if pfn == FILE else (False, 0, 0, False))


@every_kernel
def test_pages_that_their_task_has_not_mapped(kernel: str) -> None:
    """Without a mapping, the last reference alone frees the page."""
    pinner = Pinner(memory_map(), GENERATIONS[kernel], -1)
    pinner.unmapped.add(4)
    play(pinner, (0, PLAIN_GET, ANON, 0, 4), (0, PIN, ANON, 0, 4))
    assert page(pinner, ANON) == (True, 1025, 0, True)
    play(pinner, (1, UNPIN, ANON, 0, 4))
    assert page(pinner, ANON) == (True, 1, 0, True)
    play(pinner, (1, PLAIN_PUT, ANON, 0, 4))
    assert page(pinner, ANON) == (False, 0, 0, False)


@every_kernel
def test_a_release_too_many_drops_nothing(kernel: str) -> None:
    """References never fall below 0, whatever a workload releases."""
    pinner = played(kernel, (0, GET, ANON, 0, 1), (1, UNPIN, ANON, 0, 1), (2, PUT, ANON, 0, 1), (3, PUT, CMA, 0, 1))
    assert page(pinner, ANON) == (True, 0, 1, True)
    assert page(pinner, CMA) == (False, 0, 0, False)


def test_flags_follow_the_lru() -> None:
    """A page that munmap has put on the LRU prints lru, although its region's flags do not have it."""
    rows: list[Row] = [(0, GET, CMA, 0, 1), (0, GET, CMA, 0, 1), (9, PUT, CMA, 0, 1)]
    pinner = played(LATER, *rows, (10, GET, CMA, 0, 1), (11, UNMAP, CMA, 0, 1), (20, PUT, CMA, 0, 1))
    plain = page_flags(["referenced"], zone=3)
    assert [row[2] for row in reversed(ring(pinner))] == [plain, plain | page_flags(["lru"])]


def test_a_new_page_is_not_on_the_lru() -> None:
    """A frame whose page munmap has put on the LRU gets a page that is not, also on a map without files."""
    for regions in (REGIONS, REGIONS[:2]):
        pinner = Pinner(memory_map(regions=regions), GENERATIONS[LATER], -1)
        play(pinner, (0, GET, CMA, 0, 1), (0, UNMAP, CMA, 0, 1))
        assert page(pinner, CMA) == (True, 1, 0, True)
        pinner.apply(EventBatch.of([(1, PUT, CMA, 0, 1), (2, GET, CMA, 0, 1)]))
        assert page(pinner, CMA) == (True, 1, 1, False)


def test_a_records_mapping() -> None:
    """Records of a file's pages have the file's mapping, those of anonymous pages have 0."""
    rows: list[Row] = [(0, GET, FILE, 0, 1), (0, GET, ANON, 0, 1), (9, PUT, FILE, 0, 1), (9, PUT, ANON, 0, 1)]
    assert [row[3] for row in reversed(ring(played(LATER, *rows)))] == [0xFFFFFF8012345678, 0]
