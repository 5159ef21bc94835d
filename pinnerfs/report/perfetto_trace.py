"""A trace for ui.perfetto.dev: each hold as a slice. It needs the Python package perfetto."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.report import units
from pinnerfs.report.lines import clean
from pinnerfs.report.model import Hold, Report

__all__ = ["trace"]

_LATEST = (1 << 63) // 1000  # µs: a trace has ns in 64 bits


def trace(report: Report) -> bytes:
    """Return a trace with a track for each call site; slices that overlap get further tracks of that site."""
    sites = {site.key: site for site in report.sites}
    timed = sorted(
        (hold for hold in report.holds if hold.key in sites and 0 <= _last(hold) <= _LATEST),
        key=lambda hold: (_begin(hold), _last(hold)),
    )
    if not timed:
        raise PinnerfsError(
            "--perfetto: no record of this input has a time; records of the kernels "
            "that have the file buffer or alloc_contig_failed do",
            BAD_INPUT,
        )
    try:
        from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent
        from perfetto.trace_builder.proto_builder import TraceProtoBuilder
    except ImportError:
        raise PinnerfsError("--perfetto needs the Python package perfetto: pip install 'pinnerfs[perfetto]'") from None

    builder: Any = TraceProtoBuilder()
    sequence, next_track = 1, 1

    def track(name: str, parent: int | None) -> int:
        nonlocal next_track
        descriptor = builder.add_packet().track_descriptor
        descriptor.uuid, descriptor.name = next_track, name
        if parent is not None:
            descriptor.parent_uuid = parent
        next_track += 1
        return next_track - 1

    def event(of_type: int, at_us: int, uuid: int, hold: Hold | None = None) -> None:
        packet = builder.add_packet()
        packet.timestamp = at_us * 1000
        packet.trusted_packet_sequence_id = sequence
        packet.track_event.type, packet.track_event.track_uuid = of_type, uuid
        if hold is None:
            return
        packet.track_event.name = clean(sites[hold.key].site) if hold.key in sites else hold.key
        for name, value in ("pfn", hold.pfn), ("pages", hold.pages), ("blocks", len(hold.blocks)):
            note = packet.track_event.debug_annotations.add()
            note.name, note.uint_value = name, value
        note = packet.track_event.debug_annotations.add()
        note.name, note.string_value = "duration", units.duration(hold.duration_us)

    parents: dict[str, int] = {}
    # For each site, its tracks, and when the last slice of each ends.
    lanes: dict[str, list[list[int]]] = defaultdict(list)
    for hold in timed:
        begin, end = _begin(hold), _last(hold)
        if hold.key not in parents:
            site = sites.get(hold.key)
            parents[hold.key] = track(clean(f"{site.owner}: {site.site} ({hold.key})" if site else hold.key), None)
        lane = next((lane for lane in lanes[hold.key] if lane[1] <= begin), None)
        if lane is None:
            lane = [track(f"holds {len(lanes[hold.key]) + 1}", parents[hold.key]), 0]
            lanes[hold.key].append(lane)
        if end > begin:
            event(TrackEvent.TYPE_SLICE_BEGIN, begin, lane[0], hold)
            event(TrackEvent.TYPE_SLICE_END, end, lane[0])
        else:
            event(TrackEvent.TYPE_INSTANT, begin, lane[0], hold)
        lane[1] = end
    return bytes(builder.serialize())


def _last(hold: Hold) -> int:
    """Return the end of a hold; -1 if it is unknown."""
    end = hold.at_us if hold.end_us is None else hold.end_us
    return -1 if end is None else end


def _begin(hold: Hold) -> int:
    return max(0, _last(hold) - (hold.duration_us or 0))
