"""Read the files of a live debugfs: one read for each record, and a limit on every wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from functools import partial

from pinnerfs.report.parse import RECORD_FILES
from pinnerfs.report.source import Source, place_of
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["ATTRIBUTES", "MOST", "areas", "beside", "live", "page_pinner", "reads", "stdin"]

ATTRIBUTES = ("threshold", "failure_tracking", "buffer_size")

_CMA = ("base_pfn", "count", "used", "order_per_bit", "bitmap")
_READ = 1 << 16  # each read returns one record, so a larger buffer does not help
MOST = 64 << 20  # bytes of a file: such a file has at most 4096 records of a page
_RETRIES = 3  # reads that fail with EIO in a row: a failed read consumes no record


def page_pinner(path: str, max_wait: float) -> Iterator[Source]:
    there = in_thread(lambda: set(os.listdir(path)), max_wait)
    for name in (*ATTRIBUTES, *RECORD_FILES):
        if name in there:
            yield live(os.path.join(path, name), f"page_pinner/{name}", max_wait)


def areas(path: str, max_wait: float) -> Iterator[Source]:
    try:
        names = in_thread(lambda: sorted(os.listdir(path)), max_wait)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        for file in _CMA:
            where = os.path.join(path, name, file)
            if in_thread(partial(os.path.isfile, where), max_wait):
                yield live(where, f"cma/{name}/{file}", max_wait)


def beside(path: str, max_wait: float) -> Iterator[Source]:
    """Yield a file without a size. If it is a record file of a debugfs, also yield the settings beside it.

    Reading the file raises NoAnswerError if nothing comes.
    """
    place = place_of(path)
    directory = os.path.dirname(path)
    if place.startswith("page_pinner/") and os.path.basename(directory) == "page_pinner":
        for name in ATTRIBUTES:
            setting = os.path.join(directory, name)
            if in_thread(partial(os.path.isfile, setting), max_wait):
                yield live(setting, f"page_pinner/{name}", max_wait)
    yield live(path, place, max_wait, must_answer=True)


def stdin(max_wait: float) -> Source:
    """Return standard input, which is redirected from a file without a size."""
    problems: list[str] = []
    place = ""
    with suppress(OSError):
        place = place_of(os.readlink("/proc/self/fd/0"))
    return Source("stdin", place, _read_live(lambda: os.dup(0), max_wait, problems, must_answer=True), problems)


def live(path: str, place: str, max_wait: float, must_answer: bool = False) -> Source:
    """Return a file of a debugfs. must_answer: reading it raises NoAnswerError if nothing comes."""
    problems: list[str] = []
    opened = partial(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    return Source(path, place, _read_live(opened, max_wait, problems, must_answer), problems)


def reads(
    descriptor: int, *, final: Container[int] = (), answered: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """Yield what each read of a file of a debugfs returns. Raise OSError if some reads in a row fail.

    final: errors after which no read is repeated. answered: called after each read, also after one that fails.
    """
    failed = 0
    while True:
        try:
            part = os.read(descriptor, _READ)
        except OSError as error:
            failed += 1
            if failed > _RETRIES or error.errno in final:
                raise
            continue
        finally:
            answered()
        if not part:
            return
        failed = 0
        yield part


def _read_live(opened: Callable[[], int], max_wait: float, problems: list[str], must_answer: bool) -> Iterator[bytes]:
    """Yield the bytes of a file of a debugfs. Each read returns one record, so a buffered read would lose some."""
    parts: list[bytes] = []

    def read() -> None:
        descriptor = opened()
        try:
            size = 0
            for part in reads(descriptor):
                parts.append(part)
                size += len(part)
                if size >= MOST:
                    problems.append(f"the rest was skipped: it has more than {MOST >> 20} MiB")
                    break
        finally:
            os.close(descriptor)

    try:
        in_thread(read, max_wait, lambda: len(parts))
    except NoAnswerError:
        if must_answer and not parts:
            raise
        problems.append(f"the rest was skipped: no answer for {max_wait:g} s")
    except OSError as error:
        problems.append(f"the rest was skipped: {error.strerror}")
    yield from (b"".join(parts[at : at + 1024]) for at in range(0, len(parts), 1024))
