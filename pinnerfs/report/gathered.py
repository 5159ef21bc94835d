"""Gather what was read from all sources of a report."""

from __future__ import annotations

import os

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.report.kernels import generation_of
from pinnerfs.report.model import Area, Capture, Dump, DumpRecord, Note
from pinnerfs.report.sections import VERSION, area_of_log, areas_of
from pinnerfs.report.source import STDIN, input_name

__all__ = ["Gathered"]

_MOST_TEXT = 64 << 20  # characters of all sections together
_MOST_NOTES = 1000  # different ones; a damaged input has one for each of its lines


class Gathered:
    """What was read up to now."""

    MOST_RECORDS = 500_000  # a ring has 4096; with the report they take some 1.5 kB each

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

    def begin(self, source: str) -> None:
        """Begin with the next source: what comes is of this one."""
        self._source = source

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
        kept = min(how_many, self.MOST_RECORDS - len(self._records))
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
        for name in map(input_name, names):
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
