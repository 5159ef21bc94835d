"""Mutated dumps: each is read and analysed, or refused in one line. Run as a module with a seed, a count and a file.

Some are in UTF-16, have a prefix in each line, or are compressed or in a zip and damaged after that. The file has the
last dump, so that it tells which one failed. Prints what came as JSON.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import sys
import time
import zipfile
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.report import Report, analyse
from pinnerfs.report.exports import as_csv, as_json, as_markdown
from pinnerfs.report.html import page
from pinnerfs.report.profiles import folded, speedscope
from pinnerfs.report.reader import read_sources, read_text
from pinnerfs.report.sources import Source
from pinnerfs.report.text import report_lines
from pinnerfs.report.unpack import stream
from tests.oracle.cases import RECORDED
from tests.report.texts import recorded_texts
from tests.soak.report_memory import memory

SAMPLES = 20  # measurements of the memory
WIDTH = 5  # numbers of one: how many dumps, and the Memory

WORDS = [
    b"\n", b"\n\n", b"\r\n", b" ", b"\0", b"\xff", b"+0x1/0x2", b"PFN ", b"0x", b"Block ", b"count -1", b"ts ", b"us",
    b"99999999999999999999999", b"-9", b"Page pinned ts [", b"Freed at [", b"Failure detected at [", b"type CMA", b"(",
    b"Page pinned ts 1 us count 1\n", b"At least, pinned for 5 us\n", b"At least, pinned for -5 us\n", b"|head)",
    b"------ a (/sys/kernel/debug/page_pinner/buffer) ------\n", b"------ 0.3s was the duration of 'a' ------\n",
    b"------ a (/sys/kernel/debug/page_pinner/threshold) ------\n300000\n", b"Unable to read /d/page_pinner/buffer\n",
    b"------ a (/d/cma/a/base_pfn) ------\n-7\n", b"------ a (/d/cma/a/count) ------\n9\n",
    b"cma: Reserved 99999999999999999999 MiB at 0x0\n", b"Linux version 9.9\n", b"11-26 10:00:00.123  1  2 I a: ",
    b"lru|head|swapbacked)", b"PFN 529408 Block 517 type CMA Flags 0x10030(lru|head)\n", b"\xff\xfe", b"\xef\xbb\xbf",
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


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes of which some are replaced, missing or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 4)))
    return bytes(changed[: rng.choice((len(changed), len(changed), rng.randrange(len(changed) + 1)))])


def wrapped(rng: random.Random, data: bytes) -> bytes | None:
    """Return a dump as the file that it may come in; None for most, which come as they are."""
    way = rng.randrange(100)
    if way < 5:
        return rng.choice((b"", b"> ", b"11-26 10:00:00.123  1  2 I a: ")) + data.replace(
            b"\n", rng.choice((b"\r\n", b"\n> ", b"\n11-26 10:00:00.456  1  2 I a: "))
        )
    if way < 9:
        order, mark = rng.choice((("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")))
        return damaged(rng, mark + data.decode("latin-1").encode(order))
    if way < 13:
        return damaged(rng, gzip.compress(data, 1) + rng.choice((b"", b"\0" * 9, gzip.compress(data[:99], 1), b"x")))
    if way < 14:
        return damaged(rng, lzma.compress(data, preset=0))
    if way < 19:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", rng.choice((0, 8, 8, 12, 14))) as archive:
            for name in rng.sample(("bugreport-a.txt", "FS/data/b", "page_pinner/buffer", "c.gz", "d/"), 2):
                archive.writestr(name, gzip.compress(data, 1) if name == "c.gz" else data)
        return damaged(rng, file.getvalue())
    return None


def sources(rng: random.Random, data: bytes) -> Iterator[Source]:
    """Yield the sources of a dump: of a file as it may come, or of its bytes in pieces."""
    file = wrapped(rng, data)
    if file is not None:
        yield from stream("x", rng.choice(("", "page_pinner/buffer")), io.BytesIO(file))
        return
    size = rng.choice((1, 17, 1000, 1 << 20)) if len(data) < 2000 else 1 << 20
    yield Source("x", "", iter([data[at : at + size] for at in range(0, len(data), size)]), [])


def exported(report: Report) -> None:
    """Make everything that can be printed of a report."""
    for export in as_json, as_csv, as_markdown, folded, speedscope, page:
        export(report)


def main(seed: int, count: int, witness: Path) -> None:
    """Read and analyse this many dumps."""
    rng, known = random.Random(seed), dumps()
    outcomes: Counter[str] = Counter()
    longest = 0.0
    samples = array("q")  # one for all, so that it is no growth itself
    for number in range(count):
        data = mutated(rng, known)
        if number % 64 == 0 or count < 10_000:
            witness.write_bytes(data)
        began = time.monotonic()
        try:
            capture = read_sources(["x"], sources(rng, data))
            report = analyse(capture, dedup=number % 2 == 0)
            report_lines(report)
            if number % 16 == 0:
                exported(report)
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
        if (number + 1) % (count // SAMPLES) == 0:
            samples.extend((number + 1, *memory()))
            print(*samples[-WIDTH:], file=sys.stderr, flush=True)
    rows = [tuple(samples[at : at + WIDTH]) for at in range(0, len(samples), WIDTH)]
    print(json.dumps({"outcomes": outcomes, "longest": longest, "samples": rows}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
