"""The data of `pinnerfs dump --json`."""

from __future__ import annotations

from pinnerfs.jsontext import json_text
from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.pageflags import page_flag_names
from pinnerfs.simulation import Simulation

__all__ = ["dump_json"]


def dump_json(simulation: Simulation, file: str | None, explained: bool) -> str:
    """Return a record file as JSON, newest record first; if `explained`, also the counters of each task and alloc."""
    generation = simulation.generation
    data: dict[str, object] = {
        "scenario": simulation.scenario.name,
        "kernel": generation.name,
        "file": file or generation.main_file,
        "at_us": simulation.now,
        "threshold_us": simulation.threshold if generation.has_threshold else None,
        "records": [_record(record) for record in simulation.records(file)],
    }
    if explained:
        data |= {"tasks": simulation.explain(), "allocs": simulation.explain_allocs(), "stats": simulation.stats()}
    return json_text(data)


def _record(record: Record) -> dict[str, object]:
    """Return the fields of a record under their names in Python; None where the kernel does not print one."""
    return {
        "kind": record.kind,
        "ts": record.ts,
        "moment": record.moment,
        "count": record.count,
        "mapcount": record.mapcount,
        "mapping": record.mapping,
        "pfn": record.pfn,
        "block": record.block,
        "migratetype": None if record.migratetype is None else record.migratetype.name,
        "flags": record.flags,
        "flag_names": [name for name in page_flag_names(record.flags).split("|") if name],
        "stack": record.stack,
    }
