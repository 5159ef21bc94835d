"""When the records of a capture came, as far as they tell."""

from __future__ import annotations

from pinnerfs.replay.schedule import release_times
from pinnerfs.report import read_text
from tests.report.texts import CAMERA, detect, freed, pin, put


def times(*newest_first: str, file: str = "longterm_pinner") -> list[int]:
    """Return the times of records, the oldest first."""
    return release_times(read_text("".join(newest_first), file=file).records[::-1])


def test_pins_of_different_pages_may_overlap() -> None:
    """A record comes at least 1 us after the one before, and not before its pin could begin at time 0."""
    assert times(pin(300, 3), pin(500, 2), pin(400, 1)) == [400, 500, 501]


def test_pins_of_one_page_follow_each_other() -> None:
    """A page is pinned again only after its release: otherwise the later pin would have taken the record over."""
    assert times(pin(300, 1), pin(500, 2), pin(400, 1)) == [400, 500, 700]


def test_frames_of_a_compound_page_are_released_together() -> None:
    """They print the page frame of their head, so equal numbers are not one pin after the other."""
    huge = pin(400, 0x200, names="uptodate|head")
    assert times(huge, huge, huge) == [400, 401, 402]


def test_boot_times_are_their_own() -> None:
    """A record with a boot time came at it. A PUT came so long after the detection of its page as it says."""
    records = (freed(9_000, 1), put(500, 1, CAMERA), put(7, 2, CAMERA), detect(8_000, 1), detect(7_000, 3))
    assert times(*records, file="buffer") == [7_000, 8_000, 8_001, 8_500, 9_000]


def test_times_never_fall() -> None:
    """Not even where the boot times of a damaged capture do."""
    assert times(detect(1_000, 1), detect(2_000, 2), file="buffer") == [2_000, 2_000]
