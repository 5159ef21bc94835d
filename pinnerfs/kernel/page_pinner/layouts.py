"""The ways in which kernels print a record, as data. records.py prints and parses with them."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

__all__ = [
    "ANNOUNCED",
    "ANNOUNCED_FAILURES",
    "CLOCK_FAILURES",
    "HEX",
    "LEAST",
    "LEAST_FAILURES",
    "RING_SIZE",
    "Layout",
    "RecordKind",
]


RING_SIZE = 4096  # records that the kernel keeps, until buffer_size says otherwise


class RecordKind(StrEnum):
    """The event behind a record: a dropped reference, a free, or the detection of a page that cannot be moved."""

    PUT = "PUT"
    FREE = "FREE"
    DETECT = "DETECT"


class Layout(NamedTuple):
    """The printed form of a file's records.

    lines: the first line by kind; None stands for every kind where the text does not tell them apart. In it, `{ts}` is
    a duration in µs, `{moment}` a boot time in µs and `{clock}` a boot time in seconds.
    page: the second line: `type` with a decimal PFN and the migratetype, or `counts` with a hex PFN and the counts.
    flags: the flags: their `names` alone, with the `fields` of the zone and the KASAN tag, or `doubled` with the zone.
    """

    lines: Mapping[RecordKind | None, str]
    page: Literal["type", "counts"]
    flags: Literal["names", "fields", "doubled"]

    def kind(self, kind: RecordKind) -> RecordKind | None:
        """Return the kind as far as the text tells it."""
        return kind if kind in self.lines else None

    def shows_duration(self, kind: RecordKind | None) -> bool:
        """Tell whether the first line of a kind has a duration, and not a boot time."""
        return "{ts}" in self.lines[kind]


# print_page_pinner() of the feature as it was announced, and of early android12-5.10.
ANNOUNCED = Layout({None: "Page pinned ts {ts} us count {count}"}, "type", "names")
ANNOUNCED_FAILURES = ANNOUNCED._replace(lines={None: "Page pinned ts {moment} us count {count}"})

# android12-5.10
HEX = Layout({None: "Page pinned for {ts} us"}, "counts", "names")
CLOCK_FAILURES = HEX._replace(lines={None: "Page pinned ts [{clock}]"})

# Pixel's 5.10, and all later kernels
LEAST = HEX._replace(lines={RecordKind.PUT: "At least, pinned for {ts} us"})
LEAST_FAILURES = HEX._replace(
    lines={
        RecordKind.PUT: "At least, pinned for {ts} us",
        RecordKind.FREE: "Freed at [{clock}]",
        RecordKind.DETECT: "Failure detected at [{clock}]",
    }
)
