"""The records of a simulation as `pinnerfs.report` gets them from a dump, without the printed text."""

from __future__ import annotations

from functools import lru_cache

from pinnerfs.kernel.page_pinner.ring import KINDS
from pinnerfs.kernel.pageflags import Migratetype, page_flag_names
from pinnerfs.recordfiles import RecordFiles
from pinnerfs.report.model import Capture, Dump, DumpRecord

__all__ = ["capture_of"]

_TYPES = {int(migratetype): migratetype.name for migratetype in Migratetype}


def capture_of(files: RecordFiles) -> Capture:
    """Return the capture that the text of the main record file gives. No record has a `head`."""
    generation = files.generation
    file = generation.main_file
    records = tuple(_records(files, file))
    return Capture(
        sources=(file,),
        records=records,
        dumps=(Dump(file, "", file, 1, len(records)),),
        sections={},
        notes=(),
        generation=generation.name,
    )


def _records(files: RecordFiles, file: str) -> list[DumpRecord]:
    generation, order = files.generation, files.pageblock_order
    layout = generation.layouts[file]
    longterm, types, counts = file == "longterm_pinner", layout.page == "type", generation.counts != "0"
    kinds = [layout.kind(kind) for kind in KINDS]
    durations = [kind in layout.lines and layout.shows_duration(kind) for kind in kinds]
    found = []
    for time, pfn, flags, mapping, count, handle, mapcount, number, call, migratetype in files.rows(file):
        kind = kinds[number]
        ts, moment = (time, None) if durations[number] else (None, time)
        found.append(
            DumpRecord(
                file,
                0,
                "PIN" if longterm else "EVENT" if kind is None else kind.value,
                ts,
                moment,
                pfn,
                pfn >> order,
                _TYPES[migratetype] if types else None,
                count if counts else 0,
                None if types else mapcount,
                None if types else mapping,
                flags,
                _names(flags),
                files.stack(file, handle, call, KINDS[number]),
                "",
            )
        )
    return found


@lru_cache(maxsize=1024)
def _names(flags: int) -> tuple[str, ...]:
    return tuple(filter(None, page_flag_names(flags).split("|")))
