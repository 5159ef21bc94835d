"""The records that real kernels printed, taken as captures."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.replay import Replay, recording_of
from pinnerfs.report import read_text
from pinnerfs.report.kernels import generations_named
from tests.oracle.cases import RECORDED
from tests.replay.captures import section
from tests.report.texts import recorded_texts

FIRST_LINE = re.compile(r"Page pinned (?:ts|for) |At least, pinned for |Freed at \[|Failure detected at \[")

# First lines, and of them: records that are replayed, those that are cut, and garbage.
COUNTS = {
    "android12-5.10": (291, 261, 30, 0),
    "android12-5.10-early": (321, 284, 37, 0),
    "android14-6.1": (75, 33, 0, 42),
    "cma-6.1-scenes": (1266, 1265, 1, 0),
    "pixel-5.10": (455, 427, 28, 0),
}


def replayed(text: str, kernel: str) -> Counter[str]:
    """Replay a text, and return how many of its records came out to the byte, and were left out for which reason."""
    read = read_text(text)
    if not read.records:
        with pytest.raises(PinnerfsError, match="no known kernel"):
            recording_of(read)
        return Counter(garbage=sum(dump.garbage for dump in read.dumps))
    failures = next((found.failure_file for found in generations_named(read.generation)), None)
    files = {record.file or failures for record in read.records}
    # Nothing tells whether an untitled text is one dump or several, one after the other. A title makes it one. And
    # pixel-5.10 prints the records of both its files alike, except for frees and detections.
    both = len(files) > 1 and any(record.at_us is not None for record in read.records)
    file = "longterm_pinner" if len(files) > 1 else files.pop()
    capture = read if both else read_text(section(f"page_pinner/{file}", text))
    recording = recording_of(capture)
    replay = Replay(recording)
    assert len(capture.records) == len(read.records)
    for shown in recording.records if both else (file,):
        printed = [record.raw for record in capture.records if not both or (record.file or failures) == shown]
        assert replay.raw(shown) == "".join(printed).encode("latin-1")
    garbage = sum(dump.garbage for dump in capture.dumps)
    cut = [note for note in capture.notes if "cut off" in note.reason or "not followed by" in note.reason]
    assert all(str(note) in recording.notes for note in [*cut, *(n for n in capture.notes if "garbage" in n.reason)])
    return Counter(replayed=len(capture.records), cut=sum(note.how_many for note in cut), garbage=garbage)


@pytest.mark.parametrize("kernel", sorted(path.stem for path in RECORDED.glob("*.jsonl")))
def test_every_recorded_record(kernel: str) -> None:
    """Each whole record comes out to the byte. A cut one and garbage are left out, and told."""
    counts: Counter[str] = Counter()
    for text in recorded_texts(kernel):
        first_lines = len(FIRST_LINE.findall(text))
        if not first_lines:
            continue
        counts["first lines"] += first_lines
        try:
            counts += replayed(text, kernel)
        except PinnerfsError as error:
            assert "a record is cut off" in str(error) or "the first line of a record" in str(error)
            counts["cut"] += first_lines
    found = tuple(counts[name] for name in ("first lines", "replayed", "cut", "garbage"))
    assert found == COUNTS.get(kernel, (0, 0, 0, 0))
