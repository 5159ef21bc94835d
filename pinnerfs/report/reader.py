"""Read records and what belongs to them from all sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.report.finder import MOST_KEPT, Broken, Finder, Found, Line
from pinnerfs.report.kernels import generation_of
from pinnerfs.report.model import Area, Capture, Dump, DumpRecord, Note
from pinnerfs.report.parse import is_garbage, parse_record
from pinnerfs.report.sections import VERSION, area_of_log, areas_of, is_wanted, unwrapped
from pinnerfs.report.sources import MAX_WAIT, STDIN, Source, sources
from pinnerfs.report.titles import CAPTURE_END, capture_version, debugfs_path, problem_of, record_file, title_of

__all__ = ["read", "read_sources", "read_text"]

CAPTURE_VERSION = "1"  # of the format that `pinnerfs record` writes

_MOST_TEXT = 64 << 20  # characters of all sections together
_MOST_NOTES = 1000  # different ones; a damaged input has one for each of its lines
_MOST_RECORDS = 500_000  # a ring has 4096; with the report they take some 1.5 kB each


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
    reader = _Reader()
    for source in found:
        reader.read(source)
    return reader.capture(tuple(names), areas)


class _Reader:
    """What was read up to now."""

    def __init__(self) -> None:
        self._records: list[DumpRecord] = []
        self._dumps: list[Dump] = []
        self._sections: dict[str, str] = {}
        self._room = _MOST_TEXT
        self._notes: dict[tuple[str, str], tuple[int | None, int]] = {}
        self._logged: dict[tuple[int, int], Area] = {}
        self._files: set[str] = set()
        self._source = ""  # the name of the one in work
        self._used: set[str] = set()  # names of sources

    def read(self, source: Source) -> None:
        """Read a source to its end."""
        self._source = source.name
        reading = _Reading(self, source)
        reading.run()
        for problem in source.problems:
            self.note(source.name, problem)

    def note(self, source: str, reason: str, line: int | None = None, how_many: int = 1) -> None:
        """Note something that was skipped."""
        first, times = self._notes.get((source, reason), (line, 0))
        if times or len(self._notes) < _MOST_NOTES:
            self._notes[source, reason] = (first, times + how_many)

    def section(self, path: str, text: str) -> bool:
        """Keep the text of a file. The first of several wins, as the newest dump comes first in a bugreport.

        Return False if another one was kept.
        """
        self._used.add(self._source)
        if path not in self._sections and len(text) <= self._room:
            self._room -= len(text)
            self._sections[path] = text
        return self._sections.get(path) == text

    def log(self, line: str) -> None:
        """Keep the CMA area that a line of the kernel's log reserves."""
        area = area_of_log(line, len(self._logged))
        if area is not None:
            self._used.add(self._source)
            self._logged.setdefault((area.base_pfn, area.pages), area)

    def present(self, path: str) -> None:
        """Remember that a file of page_pinner/ was in the input."""
        directory, _, name = path.rpartition("/")
        if directory.endswith("page_pinner"):
            self._files.add(name)

    def add(self, record: DumpRecord, how_many: int) -> int:
        """Keep a record so many times, as long as there is room for it. Return how often it was kept."""
        kept = min(how_many, _MOST_RECORDS - len(self._records))
        self._records += [record] * kept
        return kept

    def number(self) -> int:
        """Return the number of the next dump."""
        return len(self._dumps)

    def done(self, dump: Dump) -> None:
        """Keep a dump whose records have been added."""
        self._used.add(self._source)
        self._dumps.append(dump)

    def capture(self, names: tuple[str, ...], areas: tuple[Area, ...]) -> Capture:
        """Return everything. Raise PinnerfsError if there was no record file."""
        if not self._dumps:
            raise PinnerfsError(in_a_line(self._nothing(names)), BAD_INPUT)
        for name in ("stdin" if name == STDIN else name for name in names):
            if not self._uses(name):
                self.note(name, "it was skipped: it has no record, and nothing else that a report uses")
        return Capture(
            sources=names,
            records=tuple(self._records),
            dumps=tuple(self._dumps),
            sections=self._sections,
            notes=tuple(Note(source, reason, line, times) for (source, reason), (line, times) in self._notes.items()),
            generation=generation_of(self._records, self._files, self._sections.get(VERSION, "")),
            areas=areas or tuple(areas_of(self._sections)) or tuple(self._logged.values()),
        )

    def _uses(self, name: str) -> bool:
        """Tell whether an input, or a file in it, has something that a report uses."""
        within = (f"{name}:", os.path.join(name, ""))
        return any(used == name or used.startswith(within) for used in self._used)

    def _nothing(self, names: tuple[str, ...]) -> str:
        inputs = ", ".join("stdin" if name == STDIN else repr(name) for name in names)
        why = "wanted records of page_pinner, or the section of a file that has them"
        if self._notes:
            (source, reason), (line, _) = next(iter(self._notes.items()))
            why += f"; {Note(source, reason, line)}"
        return f"nothing to report in {inputs}: {why}"


class _Reading:
    """The reading of one source: which section it is in, and the dump in work."""

    def __init__(self, reader: _Reader, source: Source) -> None:
        self._reader, self._source = reader, source
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
                self._reader.note(self._source.name, item.reason, self._finder.line(item.begin))
                self._broken = True
            else:
                self._line(item)
        if not size and not path and not self._source.problems:
            self._enter("page_pinner/", "", 0)  # `cat` of an empty record file
        if self._unended_capture:
            self._wanted = ""  # the text of this file is cut off as well
        self._leave(None)
        if self._unended_capture:
            self._reader.note(
                self._source.name, f"the capture is cut off: it has no line `------ {CAPTURE_END} ------`"
            )

    def _record(self, found: Found) -> None:
        if not self._open or (found.gap and not self._broken and not self._title and not self._source.path):
            self._start("", found.begin)
        how_many = found.again or 1
        if not found.again:
            record = parse_record(found.match, found.frames, self._file, self._reader.number())
            self._last = None if is_garbage(record) else record
        if self._last is None:
            self._garbage += how_many
            reason = "garbage of an uninitialised ring"
            self._reader.note(self._source.name, reason, self._finder.line(found.begin), how_many)
            return
        if not found.ended:
            reason = "no empty line ends a record: its stack may be incomplete"
            self._reader.note(self._source.name, reason, self._finder.line(found.begin))
        kept = self._reader.add(self._last, how_many)
        self._count += kept
        if kept < how_many:
            reason = f"a record was skipped: there are more than {_MOST_RECORDS}; read fewer files at once"
            self._reader.note(self._source.name, reason, self._finder.line(found.begin), how_many - kept)

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
                self._reader.note(self._source.name, f"cannot read {path}: {why}", self._finder.line(line.begin))
                if record_file(path) and not self._open:
                    self._start(record_file(path), line.begin)
                self._problem = True
            return
        if "Linux version " in line.text:
            self._reader.section(VERSION, line.text[line.text.index("Linux version ") :])
        self._reader.log(line.text)

    def _check_version(self, version: str) -> None:
        if version != CAPTURE_VERSION:
            came = f"{self._source.name}: a capture of version {version!r}"
            raise PinnerfsError(in_a_line(f"{came}: wanted version {CAPTURE_VERSION}"), BAD_INPUT)
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
            self._reader.present(self._path)
            if self._wanted:
                self._keep(self._wanted, text)
        self._path = self._wanted = ""
        self._finish()

    def _keep(self, path: str, text: str | None) -> None:
        """Keep the text of a section, if it is not too long."""
        if text is None:
            reason = f"a section was skipped: it is longer than {MOST_KEPT} bytes"
        elif self._reader.section(path, unwrapped(text, padded=self._padded and not self._source.path)):
            return
        else:
            reason = "a section was skipped: the same file came before, or all sections are too long"
        if path != VERSION:
            self._reader.note(self._source.name, reason)

    def _finish(self) -> None:
        if not self._open:
            return
        unreadable = not self._count and (self._problem or bool(self._source.problems))
        self._reader.done(
            Dump(self._source.name, self._title, self._file, self._begin, self._count, self._garbage, unreadable)
        )
        self._open, self._title, self._file = False, "", ""
