"""Find records and sections in text of any size and any wrapping.

A record is found by its first line, and a title or a message of a dump program by its mark. str.find passes over all
the rest, so that a large bugreport is read fast. Memory does not grow with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from pinnerfs.kernel.page_pinner.records import HEAD
from pinnerfs.report.parse import Frames, frames_of

__all__ = ["MOST_KEPT", "Broken", "Finder", "Found", "Line"]

# Every first line of a record has one of these, and every other line of interest one of the rest. Each is a pass over
# the whole text. A long mark makes a fast pass.
# What stands before the mark of a first line. A log may have many other lines with " pinned".
_FIRST_LINES = {" pinned": ("Page", "east,"), " at [": ("Freed", "ected")}
_MARKS = (
    *_FIRST_LINES,
    "------ ",
    "Unable to read /",
    "*** Error dumping /",
    ": Failed to read from fd",
    "cma: Reserved ",
    "CMA memory pool at ",
    "Linux version ",
)
_FIRST = re.compile(r"Page pinned (?:ts|for) |At least, pinned for |Freed at \[|Failure detected at \[")

# A record has at most 4095 characters; a log may add a prefix to each of its lines.
_LONGEST = 1 << 14
_LONGEST_LINE = 1 << 12
MOST_KEPT = 1 << 20  # characters of a section
_MOST_STACKS = 1 << 12  # different stacks to remember; damaged text has a new one in every record

_BLANKS = " \t\xc2\xa0"  # the last two are a no-break space, as a web page has it, in UTF-8
_WHOLE_FRAME = re.compile(r"\S+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]\s]+\])?|0x[0-9a-f]{8,16}")


class Found(NamedTuple):
    """A record: the match of its first two lines, its frames, and where it begins and ends, in characters.

    gap: whether other text stands between it and the record before. ended: whether an empty line ends it.
    again: how many equal records stand right behind an equal one, which was found before. 0: it is another record.
    """

    match: re.Match[str]
    frames: Frames
    begin: int
    end: int
    gap: bool
    ended: bool
    again: int = 0


class Broken(NamedTuple):
    """The beginning of a record that could not be read, and why."""

    reason: str
    begin: int


class Line(NamedTuple):
    """Another line with a mark."""

    text: str
    begin: int
    end: int


class Finder:
    """A search through a text that comes in pieces."""

    def __init__(self) -> None:
        self._text = ""
        self._base = 0  # characters before the text
        self._counted, self._lines = 0, 1  # a character, and the line that it stands in
        self._after = 0  # the end of the last record
        self._stacks: dict[str, Frames | None] = {}
        self._same = ""  # the text of the last record; a huge page has 512 equal ones
        self._same_found: Found | None = None
        self._kept: list[str] | None = None
        self._keep_from = 0

    def find(self, pieces: Iterable[str]) -> Iterator[Found | Broken | Line]:
        """Yield the records and marked lines of a text, in their order."""
        for piece in pieces:
            yield from self._feed(piece, last=False)
        yield from self._feed("", last=True)

    def line(self, begin: int) -> int:
        """Return the number of the line at a character that `find` has just yielded, counted from 1."""
        self._lines += self._text.count("\n", self._counted - self._base, begin - self._base)
        self._counted = begin
        return self._lines

    def keep(self, begin: int) -> None:
        """Keep the text from a place on that `find` has just reached."""
        self._kept, self._keep_from = [], begin

    def kept(self, end: int | None = None) -> str | None:
        """Return the text that was kept, up to a place that `find` has just reached or the end, and keep no more.

        Return None if it is longer than MOST_KEPT.
        """
        self._keep(self._base + len(self._text) if end is None else end)
        text, self._kept = None if self._kept is None else "".join(self._kept), None
        return text

    def _keep(self, end: int) -> None:
        if self._kept is not None and self._keep_from < end:
            if end - self._keep_from + sum(map(len, self._kept)) > MOST_KEPT:
                self._kept = None
                return
            self._kept.append(self._text[self._keep_from - self._base : end - self._base])
            self._keep_from = end

    def _feed(self, piece: str, last: bool) -> Iterator[Found | Broken | Line]:
        text = self._text = self._text + piece if self._text else piece
        ahead = dict.fromkeys(_MARKS, -1)
        at = 0  # always the start of a line
        while True:
            begin = head = at
            if self._same and at + self._base == self._after and text.startswith(self._same, at):
                again, at = self._again(at)
                yield again
                continue
            match = HEAD.match(text, at)  # most records stand right behind another
            if match is None:
                hit, mark = _next(text, at, ahead)
                if hit < 0:
                    break
                begin = max(text.rfind("\n", at, hit) + 1, at)
                head = begin
                if mark in _FIRST_LINES:
                    first = _FIRST.search(text, begin, hit + len(mark) + 8) if hit - begin < _LONGEST_LINE else None
                    if first is None:
                        if not last and self._is_cut(begin):
                            at = begin
                            break
                        at = _line_end(text, hit)
                        continue
                    head = first.start()
                    match = HEAD.match(text, begin) if head == begin else None
                elif hit - begin < _LONGEST_LINE:
                    if not last and self._is_cut(begin):
                        at = begin
                        break
                    end = _line_end(text, hit)
                    yield Line(text[begin:end].rstrip("\r\n"), self._base + begin, self._base + end)
                    at = end
                    continue
                else:
                    at = _line_end(text, hit)
                    continue
            if not last and len(text) - begin < _LONGEST:
                at = begin
                break
            found = self._plain(match, begin) if match else None
            item, at = found or self._wrapped(begin, head, last)
            yield item
        self._drop(at, last)

    def _is_cut(self, begin: int) -> bool:
        """Tell whether the rest of a line comes with the next piece."""
        return self._text.find("\n", begin) < 0 and len(self._text) - begin < _LONGEST_LINE

    def _drop(self, at: int, last: bool) -> None:
        """Forget the text that is done: all but the line that is not complete, or the record."""
        text = self._text
        if not last:
            at = max(at, text.rfind("\n") + 1 if len(text) - at >= _LONGEST else at)
            at = max(at, len(text) - _LONGEST)
        else:
            at = len(text)
        self.line(self._base + at)
        self._keep(self._base + at)
        self._text = text[at:]
        self._base += at

    def _plain(self, match: re.Match[str], begin: int) -> tuple[Found, int] | None:
        """Return the record of a match as a kernel prints it, and its end. None if there is anything else in it."""
        text, behind = self._text, match.end()
        end = text.find("\n\n", behind, behind + _LONGEST)
        if end < 0 or text[behind] != "\n":
            return None
        lines = text[behind + 1 : end]
        if lines not in self._stacks:
            if len(self._stacks) >= _MOST_STACKS:
                self._stacks.clear()
            self._stacks[lines] = frames_of(lines)
        frames = self._stacks[lines]
        if frames is None:
            return None
        self._same_found = self._found(match, frames, begin, end + 2, ended=True)
        self._same = text[begin : end + 2]
        return self._same_found, end + 2

    def _again(self, begin: int) -> tuple[Found, int]:
        """Return the records that equal the one before them, and their end."""
        assert self._same_found is not None
        end = begin
        while self._text.startswith(self._same, end):
            end += len(self._same)
        self._after = self._base + end
        found = self._same_found._replace(
            begin=self._base + begin, end=self._after, gap=False, again=(end - begin) // len(self._same)
        )
        return found, end

    def _found(self, match: re.Match[str], frames: Frames, begin: int, end: int, ended: bool) -> Found:
        after = self._after - self._base
        gap = after != begin and (after < 0 or not self._text[after:begin].isspace())
        self._after = self._base + end
        self._same = ""
        return Found(match, frames, self._base + begin, self._base + end, gap, ended)

    def _wrapped(self, begin: int, head: int, last: bool) -> tuple[Found | Broken, int]:
        """Return a record whose lines have a prefix or a CR, or that is cut, and its end."""
        text = self._text
        second = _line_end(text, begin)
        at = _line_end(text, second)
        match, prefix = None, None
        if text.find("PFN ", second, at) >= 0:
            prefix = _prefix(text[begin:head]) if head > begin else None
            match = HEAD.fullmatch("\n".join((_bare(text[begin:second], prefix), _bare(text[second:at], prefix))))
        if match is None:
            cut = second == at or not text.endswith("\n", 0, at)
            reason = "is cut off" if cut else "is not followed by the second line"
            return Broken(f"the first line of a record {reason}", self._base + begin), second
        lines: list[str] = []
        ended, whole = False, text.endswith("\n", 0, at)
        while at < len(text) and at - begin < _LONGEST:
            stop = _line_end(text, at)
            line = _bare(text[at:stop], prefix)
            # A copy may lose the space in front of a frame, or have a tab or more spaces.
            if not line.startswith(" ") and not _WHOLE_FRAME.fullmatch(line.lstrip(_BLANKS)):
                ended = not line and text.endswith("\n", 0, stop)
                at = at if line else stop
                break
            lines.append(f" {line.lstrip(_BLANKS)}")
            whole = text.endswith("\n", 0, stop)
            at = stop
        if not whole and not (lines and _WHOLE_FRAME.fullmatch(lines[-1].lstrip())):
            return Broken("a record is cut off in its stack", self._base + begin), at
        frames = frames_of("\n".join(lines))
        assert frames is not None
        return self._found(match, frames, begin, at, ended), at


def _next(text: str, at: int, ahead: dict[str, int]) -> tuple[int, str]:
    """Return the first mark from a place on, and where it is; -1 if there is none. `ahead` keeps what is known."""
    best, which = len(text), ""
    for mark, place in ahead.items():
        if place < at:
            place = text.find(mark, at)
            before = _FIRST_LINES.get(mark)
            while before is not None and place >= 0 and not text.endswith(before, max(at, place - 5), place):
                place = text.find(mark, place + 1)
            ahead[mark] = place = len(text) if place < 0 else place
        if place < best:
            best, which = place, mark
    return (best, which) if which else (-1, "")


def _line_end(text: str, at: int) -> int:
    """Return the place behind the line that a character stands in."""
    return text.find("\n", at) + 1 or len(text)


def _bare(line: str, prefix: re.Pattern[str] | None) -> str:
    """Return a line without its end, blanks before it, and its prefix."""
    line = line.rstrip("\r\n")
    return (line if prefix is None else prefix.sub("", line, 1)).rstrip()


@lru_cache(maxsize=64)
def _prefix(text: str) -> re.Pattern[str]:
    """Return a pattern for prefixes like this one: its numbers may differ, and its last spaces may be missing.

    `grep -A` prints `FILE:` before lines that match, and `FILE-` before those behind them.
    """
    body = text.rstrip(" ")
    pattern = re.sub(r"(?:\\ )+", " +", re.sub(r"\d+", r"\\d+", re.escape(body))).replace(":", "[:-]")
    return re.compile(rf"\A{pattern}(?:{' ' * (len(text) - len(body))}|\Z)")
