"""Mutated dumps: each is read and analysed, or refused in one line. Run as a module with a seed, a count and a file.

The file has the last dump, so that it tells which one failed. Prints what came as JSON.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.report import analyse
from pinnerfs.report.reader import read_sources, read_text
from pinnerfs.report.sources import Source
from pinnerfs.report.text import report_lines
from tests.oracle.cases import RECORDED
from tests.report.texts import recorded_texts

WORDS = [
    b"\n", b"\n\n", b"\r\n", b" ", b"\0", b"\xff", b"+0x1/0x2", b"PFN ", b"0x", b"Block ", b"count -1", b"ts ", b"us",
    b"99999999999999999999999", b"-9", b"Page pinned ts [", b"Freed at [", b"Failure detected at [", b"type CMA", b"(",
    b"Page pinned ts 1 us count 1\n", b"At least, pinned for 5 us\n", b"At least, pinned for -5 us\n", b"|head)",
    b"------ a (/sys/kernel/debug/page_pinner/buffer) ------\n", b"------ 0.3s was the duration of 'a' ------\n",
    b"------ a (/sys/kernel/debug/page_pinner/threshold) ------\n300000\n", b"Unable to read /d/page_pinner/buffer\n",
    b"------ a (/d/cma/a/base_pfn) ------\n-7\n", b"------ a (/d/cma/a/count) ------\n9\n",
    b"cma: Reserved 99999999999999999999 MiB at 0x0\n", b"Linux version 9.9\n", b"11-26 10:00:00.123  1  2 I a: ",
]  # fmt: skip


def dumps() -> list[bytes]:
    """Return dumps of all recorded kernels, with few records each."""
    texts = {text for path in RECORDED.glob("*.jsonl") for text in recorded_texts(path.stem)}
    return sorted(text.encode() for text in texts if len(text) < 4000 and _has_record(text))


def _has_record(text: str) -> bool:
    try:
        return bool(read_text(text).records)
    except PinnerfsError:
        return False


def mutated(rng: random.Random, known: list[bytes]) -> bytes:
    """Return a dump that is damaged in some places, or several ones mixed."""
    data = bytearray(rng.choice(known))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        end = min(at + rng.choice((0, 1, 1, 2, 10, 100, 1000)), len(data))
        other = rng.choice(known)
        start = rng.randrange(len(other) + 1)
        data[at:end] = rng.choice(
            (
                b"",
                str(rng.randrange(1, 10)).encode() * rng.choice((19, 20, 21, 5000)),
                rng.choice(WORDS),
                bytes(rng.randbytes(rng.randrange(8))),
                other[start : start + 200],
                data[at:end] * 2,
            )
        )
    return bytes(data)


def main(seed: int, count: int, witness: Path) -> None:
    """Read and analyse this many dumps."""
    rng, known = random.Random(seed), dumps()
    outcomes: Counter[str] = Counter()
    longest = 0.0
    early = 0
    for number in range(count):
        data = mutated(rng, known)
        if number % 64 == 0 or count < 10_000:
            witness.write_bytes(data)
        began = time.monotonic()
        size = rng.choice((1, 17, 1000, 1 << 20)) if len(data) < 2000 else 1 << 20
        pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
        try:
            capture = read_sources(["x"], [Source("x", "", pieces, [])])
            report_lines(analyse(capture, dedup=number % 2 == 0))
            outcomes["read"] += 1
            outcomes["records"] += len(capture.records)
        except PinnerfsError as error:
            if error.exit_status != BAD_INPUT or "\n" in str(error):
                raise
            outcomes["refused"] += 1
        except Exception:
            witness.write_bytes(data)
            raise
        longest = max(longest, time.monotonic() - began)
        if number == count // 4:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"outcomes": outcomes, "longest": longest, "early": early, "peak": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
