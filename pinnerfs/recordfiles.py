"""The record files of a simulation: the rings of its kernel as records and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnerfs.arguments import no_record_file
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.page_pinner.records import RING_SIZE, Record, record_text
from pinnerfs.kernel.page_pinner.ring import KINDS, Ring
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.workload.callchains import ReleaseChains

__all__ = ["RecordFiles"]


class RecordFiles:
    """The record files of a kernel, by name. Without a name, its main record file.

    rings: the ring of each file, by default that of the pinner.
    """

    def __init__(
        self, pinner: Pinner, depot: StackDepot, chains: ReleaseChains, rings: Mapping[str, Ring] | None = None
    ) -> None:
        self._pinner = pinner
        self._rings = pinner.rings if rings is None else rings
        self._generation = pinner.generation
        self._depot = depot
        self._chains = chains
        # For each file the text of records by their number, once they were read. In a dictionary of numbers, neighbours
        # are side by side in memory: a read of the whole ring is 5 % faster than with keys of file and number.
        self._texts: dict[str, dict[int, bytes]] = {file: {} for file in pinner.rings}

    def ring(self, file: str | None = None) -> Ring:
        """Return the ring of a file. Raise PinnerfsError for a file that this kernel does not have."""
        rings = self._rings
        file = file or self._generation.main_file
        if file not in rings:
            raise no_record_file(self._generation, file)
        return rings[file]

    @property
    def generation(self) -> Generation:
        """Return the kernel."""
        return self._generation

    @property
    def pageblock_order(self) -> int:
        """Return the order of a pageblock."""
        return self._pinner.memory.pageblock_order

    def rows(self, file: str | None = None) -> list[tuple[Any, ...]]:
        """Return the fields of all records of a file, as RECORD names them, newest first.

        They end before a record without a stack, as what a reader gets does.
        """
        rows = self.ring(file).rows()
        ends = (rows["handle"] == 0).nonzero()[0]
        listed: list[tuple[Any, ...]] = rows[: ends[0] if len(ends) else None].tolist()
        return listed

    def stack(self, file: str, handle: int, call: int, kind: RecordKind) -> tuple[str, ...]:
        """Return the stack of a record with these fields."""
        return self._depot.fetch(handle) if file == "longterm_pinner" else self._chains.fetch(handle, call, kind)

    def record(self, position: int, file: str | None = None) -> Record | None:
        """Return the record `position` places after the newest, or None if there is none.

        A record without a stack is None: a kernel takes it for the end of the file.
        """
        file = file or self._generation.main_file
        row = self.ring(file).newest(position)
        if row is None:
            return None
        # item() reads all fields at once. One by one they cost as much as the rest of a read.
        time, pfn, flags, mapping, count, handle, mapcount, number, call, migratetype = row.item()
        if not handle:
            return None
        layout = self._generation.layouts[file]
        kind = layout.kind(KINDS[number])
        is_duration, types = layout.shows_duration(kind), layout.page == "type"
        return Record(
            ts=time if is_duration else None,
            moment=None if is_duration else time,
            kind=kind,
            count=0 if self._generation.counts == "0" else count,
            mapcount=None if types else mapcount,
            mapping=None if types else mapping,
            pfn=pfn,
            block=pfn >> self._pinner.memory.pageblock_order,
            migratetype=Migratetype(migratetype) if types else None,
            flags=flags,
            stack=self.stack(file, handle, call, KINDS[number]),
        )

    def text(self, position: int, file: str | None = None) -> bytes:
        """Return the text of the record `position` places after the newest, or b"" if there is none."""
        file = file or self._generation.main_file
        ring = self._rings.get(file) or self.ring(file)
        if position >= ring.filled:
            return b""
        texts, number = self._texts[file], ring.appended - position
        try:
            return texts[number]
        except KeyError:
            pass
        if len(texts) >= 4 * RING_SIZE:
            texts.clear()  # most of them are of overwritten records
        record = self.record(position, file)
        text = b"" if record is None else record_text(record, self._generation.layouts[file]).encode()
        texts[number] = text
        return text
