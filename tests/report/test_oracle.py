"""Every record that a kernel printed while its answers were recorded is read, or skipped with a reason."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.report import read_text
from tests.oracle.cases import RECORDED
from tests.report.texts import recorded_texts

FIRST_LINE = re.compile(r"Page pinned (?:ts|for) |At least, pinned for |Freed at \[|Failure detected at \[")

# First lines, and of them: records that are read, those without a second line or whose rest is cut, and garbage.
COUNTS = {
    "android12-5.10": (291, 261, 30, 0),
    "android12-5.10-early": (321, 284, 37, 0),
    "android14-6.1": (75, 33, 0, 42),
    "cma-6.1": (0, 0, 0, 0),  # only CMA's own files
    "cma-6.1-scenes": (1266, 1265, 1, 0),
    "pixel-5.10": (455, 427, 28, 0),
}


@pytest.mark.parametrize("generation", sorted(path.stem for path in RECORDED.glob("*.jsonl")))
def test_every_recorded_record(generation: str) -> None:
    """The numbers add up, and what is read is printed back as the kernel printed it."""
    counts: Counter[str] = Counter()
    for text in recorded_texts(generation):
        first_lines = len(FIRST_LINE.findall(text))
        counts["first lines"] += first_lines
        if not first_lines:
            continue
        try:
            capture = read_text(text)
        except PinnerfsError as error:
            assert "the first line of a record" in str(error) or "a record is cut off" in str(error)
            counts["broken"] += first_lines
            continue
        counts["read"] += len(capture.records)
        counts["garbage"] += sum(dump.garbage for dump in capture.dumps)
        counts["broken"] += sum(note.how_many for note in capture.notes if "ends a record" not in note.reason)
        counts["broken"] -= sum(dump.garbage for dump in capture.dumps)
        for record in capture.records:
            printed = record.raw.rstrip("\n")
            # `cat -n` and `diff` put something in front of each line.
            assert printed in text or all(line in text for line in printed.splitlines())
    assert counts["first lines"] == counts["read"] + counts["broken"] + counts["garbage"]
    found = (counts["first lines"], counts["read"], counts["broken"], counts["garbage"])
    assert found == COUNTS[generation]
