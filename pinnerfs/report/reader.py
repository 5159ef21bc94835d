"""Read sources: their sections, and the dumps of records in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.report.finder import MOST_KEPT, Broken, Finder, Found, Line
from pinnerfs.report.gathered import Gathered
from pinnerfs.report.model import Area, Capture, Dump, DumpRecord
from pinnerfs.report.parse import is_garbage, parse_record
from pinnerfs.report.sections import VERSION, is_wanted, unwrapped
from pinnerfs.report.sources import MAX_WAIT, Source, sources
from pinnerfs.report.titles import CAPTURE_END, capture_version, debugfs_path, problem_of, record_file, title_of

__all__ = ["read", "read_sources", "read_text"]

CAPTURE_VERSION = "1"  # of the format that `pinnerfs record` writes


def read(*paths: str | os.PathLike[str], areas: Iterable[Area] = (), max_wait: float = MAX_WAIT) -> Capture:
    """Read files, archives, directories and mounts; "-" is stdin. Raise PinnerfsError if there is nothing to report.

    areas: CMA's areas, if they are known otherwise. They replace what the input tells.
    max_wait: seconds to wait for a file system that does not answer.
    """
    if not paths:
        raise PinnerfsError("nothing to read: give a file, a directory, or - for stdin", BAD_INPUT)
    names = [os.fspath(path) for path in paths]
    return read_sources(names, (source for name in names for source in sources(name, max_wait)), tuple(areas))


def read_text(text: str, name: str = "text", file: str = "") -> Capture:
    """Read a dump that is already in memory. file: the record file that it is, if nothing in it tells."""
    path = f"page_pinner/{file}" if file else ""
    return read_sources([name], [Source(name, path, iter([text.encode(errors="surrogateescape")]), [])])


def read_sources(names: Sequence[str], found: Iterable[Source], areas: tuple[Area, ...] = ()) -> Capture:
    """Read sources that are open. `names` are those of the inputs that they come from."""
    gathered = Gathered()
    for source in found:
        gathered.begin(source.name)
        try:
            _Reading(gathered, source).run()
        except _UnknownVersionError as error:
            gathered.note(source.name, f"the rest was skipped: it is a capture of version {error}")
        for problem in source.problems:
            gathered.note(source.name, problem)
    return gathered.capture(tuple(names), areas)


class _UnknownVersionError(Exception):
    """A capture of another format. The message has its version, and the one that was wanted."""


class _Reading:
    """The reading of one source: which section it is in, and the dump in work."""

    def __init__(self, gathered: Gathered, source: Source) -> None:
        self._gathered, self._source = gathered, source
        self._finder = Finder()
        self._open = False  # a dump is in work
        self._title = ""
        self._file = ""
        self._begin = self._count = self._garbage = 0
        self._problem = False
        self._broken = False  # the item before was a broken record
        self._last: DumpRecord | None = None  # None if it was garbage
        self._path = ""  # of the section, as its title has it
        self._wanted = ""  # the path of the section that is kept
        self._padded = True  # the dump program adds a newline to each file
        self._unended_capture = False

    def run(self) -> None:
        """Read to the end."""
        size = 0

        def texts() -> Iterator[str]:
            nonlocal size
            for piece in self._source.pieces:
                size += len(piece)
                yield piece.decode("latin-1")

        path = self._source.path
        if path:
            self._enter(path, "", 0)
        for item in self._finder.find(texts()):
            if isinstance(item, Found):
                self._record(item)
                self._broken = False
            elif isinstance(item, Broken):
                self._gathered.note(self._source.name, item.reason, self._finder.line(item.begin))
                self._broken = True
            else:
                self._line(item)
        if not size and not path and not self._source.problems:
            self._enter("page_pinner/", "", 0)  # `cat` of an empty record file
        if self._unended_capture:
            self._wanted = ""  # the text of this file is cut off as well
        self._leave(None)
        if self._unended_capture:
            self._gathered.note(
                self._source.name, f"the capture is cut off: it has no line `------ {CAPTURE_END} ------`"
            )

    def _record(self, found: Found) -> None:
        if not self._open or (found.gap and not self._broken and not self._title and not self._source.path):
            self._start("", found.begin)
        how_many = found.again or 1
        if not found.again:
            record = parse_record(found.match, found.frames, self._file, self._gathered.number())
            self._last = None if is_garbage(record) else record
        if self._last is None:
            self._garbage += how_many
            reason = "garbage of an uninitialised ring"
            self._gathered.note(self._source.name, reason, self._finder.line(found.begin), how_many)
            return
        if not found.ended:
            reason = "no empty line ends a record: its stack may be incomplete"
            self._gathered.note(self._source.name, reason, self._finder.line(found.begin))
        kept = self._gathered.add(self._last, how_many)
        self._count += kept
        if kept < how_many:
            reason = (
                f"a record was skipped: there are more than {self._gathered.MOST_RECORDS}; read fewer files at once"
            )
            self._gathered.note(self._source.name, reason, self._finder.line(found.begin), how_many - kept)

    def _line(self, line: Line) -> None:
        title = title_of(line.text)
        if title is not None:
            self._leave(line.begin)
            if (version := capture_version(title.title)) is not None:
                self._check_version(version)
            elif title.title:
                self._unended_capture = self._unended_capture and title.title != CAPTURE_END
                self._enter(title.path, title.title, line.end)
            return
        problem = problem_of(line.text)
        if problem is not None:
            path, why = problem
            if record_file(path) or is_wanted(debugfs_path(path)):
                self._gathered.note(self._source.name, f"cannot read {path}: {why}", self._finder.line(line.begin))
                if record_file(path) and not self._open:
                    self._start(record_file(path), line.begin)
                self._problem = True
            return
        if "Linux version " in line.text:
            self._gathered.section(VERSION, line.text[line.text.index("Linux version ") :])
        self._gathered.log(line.text)

    def _check_version(self, version: str) -> None:
        if version != CAPTURE_VERSION:
            raise _UnknownVersionError(f"{version!r}; wanted version {CAPTURE_VERSION}")
        self._padded, self._unended_capture = False, True

    def _enter(self, path: str, title: str, begin: int) -> None:
        """Begin a section."""
        self._path, self._problem = path, False
        path = debugfs_path(path)
        if record_file(path) or path == "page_pinner/" or (not path and "page pinner" in title.lower()):
            self._start(record_file(path), begin, title)
        elif is_wanted(path):
            self._wanted = path
            self._finder.keep(begin)

    def _start(self, file: str, begin: int, title: str = "") -> None:
        """Begin a dump."""
        self._finish()
        self._open, self._file, self._title = True, file, title
        self._begin, self._count, self._garbage, self._problem = self._finder.line(begin), 0, 0, False

    def _leave(self, end: int | None) -> None:
        """End a section."""
        text = self._finder.kept(end) if self._wanted else ""
        if not self._problem or (self._open and self._count):
            self._gathered.present(self._path)
            if self._wanted:
                self._keep(self._wanted, text)
        self._path = self._wanted = ""
        self._finish()

    def _keep(self, path: str, text: str | None) -> None:
        """Keep the text of a section, if it is not too long."""
        if text is None:
            reason = f"a section was skipped: it is longer than {MOST_KEPT} bytes"
        elif self._gathered.section(path, unwrapped(text, padded=self._padded and not self._source.path)):
            return
        else:
            reason = "a section was skipped: the same file came before, or all sections are too long"
        if path != VERSION:
            self._gathered.note(self._source.name, reason)

    def _finish(self) -> None:
        if not self._open:
            return
        unreadable = not self._count and (self._problem or bool(self._source.problems))
        self._gathered.done(
            Dump(self._source.name, self._title, self._file, self._begin, self._count, self._garbage, unreadable)
        )
        self._open, self._title, self._file = False, "", ""
