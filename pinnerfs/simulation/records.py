"""What a simulation shows of page_pinner: its records and its switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from pinnerfs.arguments import checked_threshold
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.page_pinner.ring import ThresholdRings
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.recordfiles import RecordFiles
from pinnerfs.simulation.profiles import need_threshold
from pinnerfs.workload.callchains import ReleaseChains

__all__ = ["PinnerFiles"]


class PinnerFiles:
    """The files of page_pinner as they are now. A simulation sets these attributes."""

    generation: Generation
    _pinner: Pinner
    _files: RecordFiles
    _depot: StackDepot
    _chains: ReleaseChains

    @property
    def threshold(self) -> int:
        """Return the threshold in force, in µs, signed. Raise PinnerfsError on a kernel without one."""
        need_threshold(self.generation)
        return self.read_threshold()

    @threshold.setter
    def threshold(self, value: int | str) -> None:
        """Set the threshold and clear the long-term records, even if it is the same. A time such as "1s" works."""
        need_threshold(self.generation)
        self.write_threshold(checked_threshold(value))

    def read_threshold(self) -> int:
        """Return what the file `threshold` has now. Only for a kernel with that file."""
        return self._pinner.threshold

    def write_threshold(self, value: int) -> None:
        """Set the threshold as a write to the file does, in µs, signed. Only for a kernel with that file."""
        self._pinner.write_threshold(value)

    @property
    def files(self) -> RecordFiles:
        """Return the record files."""
        return self._files

    def files_at(self, thresholds: Sequence[int]) -> dict[int, RecordFiles]:
        """Keep longterm_pinner under each of these thresholds (µs, signed) from now on, and return the files by them.

        The threshold in force becomes the lowest one, and the records that there are go.
        """
        need_threshold(self.generation)
        rings = ThresholdRings(thresholds)
        self._pinner.rings["longterm_pinner"] = rings
        self._pinner.threshold = rings.lowest
        return {
            threshold: RecordFiles(
                self._pinner, self._depot, self._chains, self._pinner.rings | {"longterm_pinner": ring}
            )
            for threshold, ring in rings.by_threshold.items()
        }

    @property
    def tracking(self) -> bool:
        """Return whether failed migrations are tracked: the switch `failure_tracking`."""
        return self._pinner.tracking

    @tracking.setter
    def tracking(self, value: bool) -> None:
        self._pinner.tracking = value

    @property
    def buffer_size(self) -> int:
        """Return the number of records that `buffer` has room for. Raise PinnerfsError on a kernel without `buffer`."""
        return self._files.ring("buffer").size

    @buffer_size.setter
    def buffer_size(self, value: int) -> None:
        """Set the number and empty `buffer`, even if it is the same. Raise OSError ENOMEM if it is too large."""
        self._files.ring("buffer").resize(value)

    def record(self, position: int, file: str | None = None) -> Record | None:
        """Return the record of a file `position` places after the newest, or None if there is none.

        The default is the kernel's main record file.
        """
        return self._files.record(position, file)

    def records(self, file: str | None = None) -> Iterator[Record]:
        """Yield the records of a file, newest first."""
        position = 0
        while (record := self.record(position, file)) is not None:
            yield record
            position += 1

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of the record `position` places after the newest, or b"" if there is none."""
        return self._files.text(position, file)

    def cat(self, file: str | None = None) -> str:
        """Return the text of a record file, as `cat` shows it."""
        texts = map(lambda position: self.text(position, file), range(self._files.ring(file).filled))
        return b"".join(takewhile(bool, texts)).decode()
