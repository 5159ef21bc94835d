"""CSV, Markdown, JSON, folded stacks, speedscope and Perfetto."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import fastjsonschema
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from pinnerfs import PinnerfsError
from pinnerfs.report import exports, profiles
from pinnerfs.report.diff import compare
from pinnerfs.report.perfetto_trace import trace
from tests.report.made import EVIL, report, site

# From the npm package speedscope 1.25.0, with its licence.
SCHEMA = Path(__file__).with_name("speedscope") / "file-format-schema.json"

TWO = report(
    site(), site("0badcafe", 1, owner="mali", site="kbase_x", cma_pages=None, stack=("kbase_x+0x1/0x2 [mali]",))
)
HOSTILE = report(site(owner=EVIL, site=EVIL, stack=(EVIL,), refused=(EVIL,)), headline=EVIL, sources=(EVIL,))
DIFF = compare(report(site(holds=1)), TWO)


def test_csv() -> None:
    """CSV has a row for each site with numbers in µs; an unknown number is empty."""
    first, second = csv.DictReader(io.StringIO(exports.as_csv(TWO)))
    assert first["key"] == "5e1f09aa" and first["page_us"] == "28800000" and first["max_us"] == "700000"
    assert second["cma_pages"] == "" and second["blocks"] == "2"


def test_csv_of_a_diff() -> None:
    """CSV of a diff has the numbers before and after."""
    worse, new = csv.DictReader(io.StringIO(exports.diff_as_csv(DIFF)))
    assert (worse["state"], worse["before_holds"], worse["after_holds"]) == ("worse", "1", "3")
    assert (new["state"], new["before_holds"], new["after_max_us"]) == ("new", "", "500000")


def test_markdown() -> None:
    """Markdown has the headline, a table with as many cells in each row, and the findings."""
    lines = exports.as_markdown(TWO).splitlines()
    assert lines[0] == "**v4l2 is to blame**"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4 and len({row.count("|") for row in rows}) == 1
    assert rows[3].startswith(r"| 0badcafe | mali | kbase\_x | 1 | 16 | 16 | 2 | unknown | 8.0 |")
    assert "- **One hold, many records** It is explained. Count holds." in lines


def test_markdown_of_a_diff() -> None:
    """Markdown of a diff has a row for each site."""
    text = exports.diff_as_markdown(DIFF)
    assert "| worse | 5e1f09aa | v4l2 |" in text and "| new | 0badcafe | mali |" in text
    full = compare(report(site(), ring_full=True), TWO)
    assert "Counts are not compared, because the ring of BEFORE was full." in exports.diff_as_markdown(full)


def test_json() -> None:
    """JSON has every field of the report, the totals, and the number of the format."""
    value = json.loads(exports.as_json(TWO))
    assert value["format"] == 1
    assert {*value} == {"format", "totals", *TWO.__struct_fields__}
    times = {"max": 700_000, "p99": 700_000}
    assert value["totals"] == {"records": 64, "holds": 4, "pages": 32, "blocks": 2, **times, "refused": 0}
    assert value["sites"][1]["cma_pages"] is None and value["sites"][0]["stack"][1].endswith("+0x130/0x260")
    assert len(value["holds"]) == 4


def test_json_of_a_diff() -> None:
    """JSON of a diff has both reports and the changes."""
    value = json.loads(exports.diff_as_json(DIFF))
    assert [change["state"] for change in value["changes"]] == ["worse", "new"]
    assert value["changes"][1]["before"] is None and value["before"]["records"] == 16
    assert value["not_comparable"] == []


def test_folded() -> None:
    """A folded line has the frames from outermost to innermost without offsets, and the page time in µs."""
    assert profiles.folded(TWO) == (
        "v4l2_ioctl;vb2_dma_sg_get_userptr;get_user_pages 28800000\nkbase_x [mali] 8000000\n"
    )


def test_folded_diff() -> None:
    """A folded line of a diff has two columns, for flamegraph.pl's difffolded.pl."""
    assert profiles.diff_as_folded(DIFF) == (
        "v4l2_ioctl;vb2_dma_sg_get_userptr;get_user_pages 8000000 28800000\nkbase_x [mali] 0 8000000\n"
    )


@pytest.mark.parametrize("one", [TWO, HOSTILE, report()], ids=["two sites", "hostile", "empty"])
def test_speedscope(one: object) -> None:
    """speedscope's own schema accepts the file; it has the page time and the holds of the same stacks."""
    value = json.loads(profiles.speedscope(one))  # type: ignore[arg-type]
    fastjsonschema.validate(json.loads(SCHEMA.read_text()), value)
    times, holds = value["profiles"]
    assert times["samples"] == holds["samples"]
    assert times["endValue"] == sum(times["weights"]) and holds["endValue"] == sum(holds["weights"])


def test_the_schema_refuses_other_files() -> None:
    """The schema would find a wrong file."""
    value = json.loads(profiles.speedscope(TWO))
    del value["profiles"][0]["weights"]
    with pytest.raises(fastjsonschema.JsonSchemaException):
        fastjsonschema.validate(json.loads(SCHEMA.read_text()), value)


def test_perfetto() -> None:
    """The perfetto package reads the trace back: each hold is a slice that ends when the hold did."""
    read = Trace()
    read.ParseFromString(trace(TWO))
    tracks = {packet.track_descriptor.uuid: packet.track_descriptor for packet in read.packet}
    events = [packet for packet in read.packet if packet.HasField("track_event")]
    begins = [packet for packet in events if packet.track_event.type == TrackEvent.TYPE_SLICE_BEGIN]
    ends = [packet for packet in events if packet.track_event.type == TrackEvent.TYPE_SLICE_END]
    assert len(begins) == len(ends) == len(TWO.holds) == 4
    lengths = sorted(end.timestamp - begin.timestamp for begin, end in zip(begins, ends, strict=True))
    assert lengths == [500_000_000, 500_000_000, 600_000_000, 700_000_000]
    parents = {tracks[tracks[packet.track_event.track_uuid].parent_uuid].name for packet in begins}
    assert parents == {"v4l2: vb2_dma_sg_get_userptr (5e1f09aa)", "mali: kbase_x (0badcafe)"}
    # Slices of one track do not overlap.
    for uuid in {packet.track_event.track_uuid for packet in begins}:
        own = [packet for packet in events if packet.track_event.track_uuid == uuid]
        assert [packet.timestamp for packet in own] == sorted(packet.timestamp for packet in own)


def test_a_perfetto_trace_is_reproducible() -> None:
    """The same report gives the same bytes."""
    assert trace(TWO) == trace(TWO)


def test_no_times() -> None:
    """Without a time there is no trace, and the error says which kernels have one."""
    one = report(site(), holds=())
    with pytest.raises(PinnerfsError, match="no record of this input has a time") as error:
        trace(one)
    assert error.value.exit_status == 2


def test_hostile_exports() -> None:
    """No control character of a dump is in an export, and no markup in Markdown."""
    diff = compare(report(), HOSTILE)
    texts = [
        *(export(HOSTILE) for export in (exports.as_csv, exports.as_markdown, exports.as_json, profiles.folded)),
        *(export(diff) for export in (exports.diff_as_csv, exports.diff_as_markdown, exports.diff_as_json)),
        *(profiles.speedscope(HOSTILE), profiles.diff_as_folded(diff)),
    ]
    for text in texts:
        assert all(char == "\n" or char.isprintable() for char in text), text
    assert "<script>" not in exports.as_markdown(HOSTILE).replace(r"\<", "")
    assert profiles.folded(HOSTILE).count(";") == 0
