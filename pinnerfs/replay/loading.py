"""From the files of a device, as `pinnerfs.report` reads them, to a recording that can be played."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, cast

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line, reason_of
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.kernel.page_pinner.ring import MOST_SLOTS
from pinnerfs.replay.recording import Entry, Recording
from pinnerfs.replay.schedule import release_times
from pinnerfs.replay.static import static_files
from pinnerfs.report import Capture, DumpRecord, read
from pinnerfs.report.kernels import KNOWN_FILES, UNKNOWN, generations_named
from pinnerfs.report.reader import read_sources
from pinnerfs.report.sections import number
from pinnerfs.report.source import MAX_WAIT, input_name, named, place_of
from pinnerfs.report.unpack import stream
from pinnerfs.scenario.reading import Input
from pinnerfs.words import count_of

__all__ = ["load_capture", "read_opened", "recording_of"]

_THRESHOLD = "page_pinner/threshold"
_DEFAULT_THRESHOLD = 300_000  # µs
_RECORD_BUFFER = 4096  # bytes: a kernel formats a record into one page


def load_capture(
    path: str | os.PathLike[str],
    *,
    kernel: str | None = None,
    max_wait: float = MAX_WAIT,
    opened: Input | None = None,
) -> Recording:
    """Load the capture behind a path: a file, an archive or a directory, as `pinnerfs.report.read` takes it.

    kernel: chooses one of the kernels that fit. The default is the first that fits. max_wait: seconds to wait for a
    file system that does not answer. opened: the pipe that `path` names, if it was opened to look at its first bytes.

    Raise PinnerfsError if there is nothing to replay, or the kernel does not fit.
    """
    return recording_of(read_opened(os.fspath(path), max_wait, opened), kernel=kernel)


def read_opened(path: str, max_wait: float, opened: Input | None) -> Capture:
    """Read what a path leads to, as `pinnerfs.report.read` does. max_wait, opened: as in `load_capture`."""
    if opened is None:
        return read(path, max_wait=max_wait)
    name = input_name(path)
    try:
        opened.peek(1)  # a later error only ends what is read
    except (OSError, ValueError) as error:
        raise _refused(f"cannot read {name}: {reason_of(error)}") from None
    file = cast("IO[bytes]", opened)  # `stream` calls its `read` and `seekable`
    return read_sources([path], stream(name, place_of(path), file))


def recording_of(capture: Capture, *, kernel: str | None = None) -> Recording:
    """Return the recording in a capture that is already read: see `load_capture`."""
    name = named(capture.sources)
    generation, notes = _generation(capture, name, kernel)
    chosen, left_out = _newest(capture, generation)
    notes = [*map(str, capture.notes), *left_out, *notes]
    size = _buffer_size(capture, chosen)
    records: dict[str, tuple[Entry, ...]] = {}
    for file in generation.record_files:
        fitting, too_many = _fitting(file, chosen.get(file, ()), size if file == "buffer" else RING_SIZE)
        records[file] = tuple(_entries(file, fitting))
        notes += too_many
    threshold, lowered = _threshold(capture, records.get("longterm_pinner", ()))
    files, skipped = static_files(capture.sections, generation)
    return Recording(
        generation=generation,
        records=records,
        threshold=threshold,
        tracking=number(capture.sections, "page_pinner/failure_tracking") != 0,
        buffer_size=size,
        files=files,
        notes=tuple(map(in_a_line, [*notes, *lowered, *skipped])),
    )


def _generation(capture: Capture, name: str, kernel: str | None) -> tuple[Generation, list[str]]:
    """Return the kernel that a capture is of, and a note if it does not tell one from others."""
    fits = generations_named(capture.generation)
    if capture.generation == UNKNOWN and not capture.records and not any(d.file or d.garbage for d in capture.dumps):
        fits = [*GENERATIONS.values()]  # an empty record file without its name
    if not fits:
        why = "".join(f"; {note}" for note in capture.notes[:1])  # such as garbage in place of all records
        files = _known_files(capture)
        has_all = any(files <= set(generation.files) for generation in GENERATIONS.values())
        wanted = "prints all of its records" if has_all else f"has all of its files, {', '.join(sorted(files))}"
        raise _refused(f"cannot replay {name}: no known kernel {wanted}{why}")
    if not all(record.file for record in capture.records):
        # Text without a title is a `cat` of the main file more often than of another one.
        fits.sort(key=lambda generation: _untitled(generation) != generation.main_file)
    names = [generation.name for generation in fits]
    if kernel is not None:
        if kernel not in names:
            raise _refused(f"cannot replay {name} on kernel {kernel!r}: the capture is of {' or '.join(names)}")
        return GENERATIONS[kernel], []
    if len(fits) == 1:
        return fits[0], []
    return fits[0], [f"{name}: several kernels fit, {', '.join(names)}: replaying {names[0]}; choose with --kernel"]


def _known_files(capture: Capture) -> set[str]:
    """Return the names of the files of page_pinner/ in a capture that a known kernel has."""
    settings = {name for name in KNOWN_FILES if f"page_pinner/{name}" in capture.sections}
    return settings | {dump.file for dump in capture.dumps if dump.file and not dump.unreadable}


def _untitled(generation: Generation) -> str:
    """Return the file of records without a title. The form of a record tells those of longterm_pinner."""
    return generation.failure_file or generation.main_file


def _refused(message: str) -> PinnerfsError:
    return PinnerfsError(in_a_line(message), BAD_INPUT)


def _newest(capture: Capture, generation: Generation) -> tuple[Mapping[str, Sequence[DumpRecord]], list[str]]:
    """Return the records of each file, newest first, and notes of other dumps of the same file.

    The first dump of a file counts, as the newest one comes first in a bugreport. Records without a title count only
    if their file has no dump: they may be of a vendor's file.
    """
    by_dump: dict[int, dict[str, list[DumpRecord]]] = {}
    for record in capture.records:
        file = record.file or _untitled(generation)
        by_dump.setdefault(record.dump, {}).setdefault(file, []).append(record)
    chosen: dict[str, Sequence[DumpRecord]] = {}
    notes: list[str] = []
    for place, dump in sorted(enumerate(capture.dumps), key=lambda numbered: not numbered[1].file):
        found = by_dump.get(place, {})
        if dump.file and not dump.unreadable:
            found.setdefault(dump.file, [])
        for file, records in found.items():
            if file not in chosen:
                chosen[file] = records
            elif records:
                left_out = f"{count_of(len(records), 'record')} of {file} left out"
                notes.append(f"{dump.source}:{dump.line}: {left_out}: the first dump of this file is replayed")
    return chosen, notes


def _fitting(file: str, records: Sequence[DumpRecord], size: int) -> tuple[list[DumpRecord], list[str]]:
    """Return the records that a ring of this size can show, newest first, and notes of the others."""
    notes = []
    short = [record for record in records if len(record.raw) < _RECORD_BUFFER]
    if len(short) < len(records):
        too_long = count_of(len(records) - len(short), "record")
        notes.append(f"{file}: {too_long} left out: no kernel prints one of {_RECORD_BUFFER} bytes or more")
    if len(short) > size:
        notes.append(f"{file}: {count_of(len(short) - size, 'oldest record')} left out: the ring has {size} slots")
    return short[:size], notes


def _entries(file: str, records: Sequence[DumpRecord]) -> Iterator[Entry]:
    """Yield the records, the oldest first. Their times begin with the pin or the event of the oldest."""
    oldest_first = records[::-1]
    times = release_times(oldest_first)
    lasts = file == "longterm_pinner"
    for record, time in zip(oldest_first, times, strict=True):
        begin = times[0] - (oldest_first[0].duration_us or 0 if lasts else 0)
        yield Entry(record.raw.encode("latin-1"), time - begin, record.duration_us or 0 if lasts else None)


def _buffer_size(capture: Capture, chosen: Mapping[str, Sequence[DumpRecord]]) -> int:
    """Return the recorded size of the ring of `buffer`, or the least that the records allow."""
    recorded = number(capture.sections, "page_pinner/buffer_size")
    if recorded is not None and 0 <= recorded <= MOST_SLOTS:
        return recorded
    return max(RING_SIZE, len(chosen.get("buffer", ())))


def _threshold(capture: Capture, pins: Sequence[Entry]) -> tuple[int, list[str]]:
    """Return the threshold to start with, which is below all durations, and a note if it is not the recorded one."""
    shortest = min((entry.duration or 0 for entry in pins), default=None)
    recorded = number(capture.sections, _THRESHOLD)
    if recorded is not None and not -(1 << 63) <= recorded < 1 << 63:
        recorded = None
    threshold = _DEFAULT_THRESHOLD if recorded is None else recorded
    if shortest is not None and threshold >= shortest:
        threshold = shortest - 1
    if recorded is not None and recorded != threshold:
        why = f"{recorded} us, is not below the shortest record"
    elif recorded is None and _THRESHOLD in capture.sections:
        why = f"{capture.sections[_THRESHOLD][:40].strip()!r}, is no number of 64 bits"
    else:
        return threshold, []
    return threshold, [f"the recorded threshold, {why}: starting with {threshold} us"]
