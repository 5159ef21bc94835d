"""A recording played on virtual time: what a device shows of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NoReturn

from pinnerfs.arguments import checked_microseconds, checked_step, checked_threshold, no_record_file
from pinnerfs.clock import LAST_MOMENT
from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.cma.allocation import Allocation
from pinnerfs.kernel.cma.areas import Area
from pinnerfs.kernel.cma.mm import MMS, Mm
from pinnerfs.kernel.page_pinner.records import RING_SIZE, Record, parse_records
from pinnerfs.kernel.page_pinner.ring import check_slots
from pinnerfs.replay.recording import Entry, Recording
from pinnerfs.replay.track import Track
from pinnerfs.scenario.faults import Fault
from pinnerfs.threshold import no_threshold

__all__ = ["Replay"]

log = logging.getLogger(__name__)


class Replay:
    """A recording from time 0 on.

    Without `over` all records are there at time 0. With it, a time such as "60s", they come within that time, at
    distances in proportion to those of the recording. With `loop` they come again in each further such time.

    `threshold` replaces the recorded one. As on a device, only pins that lasted longer are recorded, and a new
    threshold clears the records of longterm_pinner.

    Raise PinnerfsError for a wrong `over` or threshold, and for a threshold on a kernel that has none.
    """

    seed = 0  # of rules of faults: a recording has no draws
    faults: Sequence[Fault] = ()

    def __init__(
        self,
        recording: Recording,
        *,
        over: int | str | None = None,
        loop: bool = False,
        threshold: int | str | None = None,
    ) -> None:
        self.recording = recording
        self.generation = recording.generation
        period = 0 if over is None else checked_step(over, "over")
        if over is not None and not 0 < period <= LAST_MOMENT:
            raise PinnerfsError(f"over = {over!r}: wanted a time of more than 0 and at most 292 years", BAD_INPUT)
        if loop and not period:
            raise PinnerfsError('loop: wanted over as well, the time of a round, such as "60s"', BAD_INPUT)
        self._threshold = recording.threshold
        self._warned = False
        if threshold is not None:
            self._need_threshold()
            self._threshold = checked_threshold(threshold)
            self._warn_of_missing_pins()
        self._tracking = True  # while the records came that are there at time 0
        self._now = 0
        self._tracks = {
            file: Track(entries, self._slots(file), period, loop, partial(self._takes, file))
            for file, entries in recording.records.items()
        }
        self.tracking = recording.tracking

    def _slots(self, file: str) -> int:
        return self.recording.buffer_size if file == "buffer" else RING_SIZE

    def _takes(self, file: str, entry: Entry) -> bool:
        """Tell whether the kernel takes this record now."""
        if entry.duration is not None:
            return entry.duration > self._threshold
        return self._tracking

    def _track(self, file: str | None) -> Track:
        file = file or self.generation.main_file
        if file not in self._tracks:
            raise no_record_file(self.generation, file)
        return self._tracks[file]

    @property
    def now(self) -> int:
        """Return the time (µs) up to which all records have come."""
        return self._now

    def next_event(self) -> int | None:
        """Return the time (µs) at which the next record comes, or None if there are no more."""
        coming = (track.next_event() for track in self._tracks.values())
        return min((moment for moment in coming if moment is not None), default=None)

    def advance(self, step: int | str) -> None:
        """Advance by a time in µs, or by one with its unit: "5s". Raise PinnerfsError for anything else."""
        self.advance_to(self._now + checked_step(step))

    def advance_to(self, moment: int) -> None:
        """Let all records up to and at a moment (µs) come. A moment in the past changes nothing."""
        for _ in self.steps_to(moment):
            pass

    def steps_to(self, moment: int) -> Iterator[int]:
        """Do the same, in one step. It is bounded: it handles no more records than the rings have slots."""
        if checked_microseconds("moment", moment) > LAST_MOMENT:
            raise PinnerfsError(f"cannot advance to {moment} us: boot time ends at {LAST_MOMENT} us (292 years)")
        if moment > self._now:
            self._now = moment
            for track in self._tracks.values():
                track.advance_to(moment)
            yield moment

    @property
    def threshold(self) -> int:
        """Return the threshold in force, in µs, signed. Raise PinnerfsError on a kernel without one."""
        self._need_threshold()
        return self.read_threshold()

    @threshold.setter
    def threshold(self, value: int | str) -> None:
        """Set the threshold and clear the long-term records, even if it is the same. A time such as "1s" works."""
        self._need_threshold()
        self.write_threshold(checked_threshold(value))

    def read_threshold(self) -> int:
        """Return what the file `threshold` has now. Only for a kernel with that file."""
        return self._threshold

    def write_threshold(self, value: int) -> None:
        """Set the threshold as a write to the file does, in µs, signed. Only for a kernel with that file."""
        self._threshold = value
        longterm = self._tracks["longterm_pinner"]
        longterm.clear()
        longterm.rules_changed()
        self._warn_of_missing_pins()

    def _warn_of_missing_pins(self) -> None:
        """Warn once if the threshold is below that of the capture."""
        if self._threshold < self.recording.threshold and not self._warned:
            self._warned = True
            log.warning(
                "the threshold of %d us is below that of the capture: it has no pins of %d us or less",
                self._threshold,
                self.recording.threshold,
            )

    def _need_threshold(self) -> None:
        if not self.generation.has_threshold:
            raise PinnerfsError(no_threshold(f"kernel {self.generation.name}"), BAD_INPUT)

    @property
    def tracking(self) -> bool:
        """Return whether failed migrations are tracked: the switch `failure_tracking`."""
        return self._tracking

    @tracking.setter
    def tracking(self, value: bool) -> None:
        """Set the switch. While it is off, no records of failed migrations come."""
        self._tracking = value
        for track in self._tracks.values():
            track.rules_changed()

    @property
    def buffer_size(self) -> int:
        """Return the number of records that `buffer` has room for. Raise PinnerfsError on a kernel without `buffer`."""
        return self._track("buffer").size

    @buffer_size.setter
    def buffer_size(self, value: int) -> None:
        """Set the number and empty `buffer`, even if it is the same. Raise OSError ENOMEM if it is too large."""
        check_slots(value)
        self._track("buffer").resize(value)

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of the record `position` places after the newest, or b"" if there is none."""
        return self._track(file).newest(position)

    def raw(self, file: str | None = None) -> bytes:
        """Return the bytes of a record file."""
        track = self._track(file)
        return b"".join(map(track.newest, range(track.filled)))

    def cat(self, file: str | None = None) -> str:
        """Return the text of a record file, as `cat` shows it. A byte that is not UTF-8 becomes a lone surrogate."""
        return self.raw(file).decode(errors="surrogateescape")

    def records(self, file: str | None = None) -> Iterator[Record]:
        """Yield the records of a file, newest first. Raise ValueError if one has what no known kernel prints."""
        yield from parse_records(self.cat(file), file or self.generation.main_file)

    def stats(self) -> dict[str, int]:
        """Return the counters since the start, by name: those of the records in `Simulation.stats`."""
        main, longterm = self._track(None), self._tracks.get("longterm_pinner")
        return {
            "longterm_records": longterm.appended if longterm else 0,
            "records_overwritten": main.overwritten,
            "records_now": main.filled,
        }

    def do(self, actions: str) -> None:
        """Refuse live actions."""
        raise PinnerfsError("a replay has no tasks: it shows what was recorded, so it takes no live actions", BAD_INPUT)

    @property
    def mm(self) -> Mm:
        """Return the memory management around page_pinner."""
        return MMS[self.generation.mm]

    @property
    def areas(self) -> dict[str, Area]:
        """Return no CMA areas: those of the recording are files that do not change."""
        return {}

    def dmesg(self) -> str:
        """Return the kernel log, in which a replay writes nothing."""
        return ""

    def vmstat(self) -> dict[str, int]:
        """Return no counters of CMA, as a recording has none."""
        return {}

    def start_alloc(self, area: str, pages: int, *, kept: bool = False) -> Allocation:
        """Refuse an allocation: see `areas`. The next three do the same."""
        self._no_area(area)

    def give_up_alloc(self, allocation: Allocation) -> None:
        self._no_area(allocation.area.name)

    def free_kept(self, area: str, pages: int) -> None:
        self._no_area(area)

    def cma_counters(self, area: str) -> dict[str, int]:
        self._no_area(area)

    def _no_area(self, name: str) -> NoReturn:
        raise PinnerfsError(f"no CMA area {name!r}: a replay has none", BAD_INPUT)
