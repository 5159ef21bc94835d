"""Open the inputs of a report: files of any size and compression, pipes, directories, and files of a live debugfs.

Each member of an archive and each file of a directory is a source of its own, read in pieces.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import IO, NamedTuple, Protocol

from pinnerfs.errors import BAD_INPUT, NO_ANSWER, PinnerfsError, in_a_line
from pinnerfs.report.parse import RECORD_FILES
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["MAX_WAIT", "STDIN", "Source", "sources"]

STDIN = "-"
MAX_WAIT = 10.0  # seconds without an answer from a file system

_ZIP = b"PK\x03\x04"
_PIECE = 1 << 20
_STEP = 1 << 14
_XZ_MEMORY = 256 << 20
_DAMAGED = ("error", "LZMAError", "BadZipFile")
_READ = 1 << 16  # of a file of a debugfs; each read returns one record
_LIVE_MOST = 64 << 20  # such a file has at most 4096 records of a page
_MOST_FILES = 10_000  # of a directory
_RETRIES = 3  # reads that fail with EIO in a row: a failed read consumes no record

_ATTRIBUTES = ("threshold", "failure_tracking", "buffer_size")
_CMA = ("base_pfn", "count", "used", "order_per_bit", "bitmap")


class _Decompressor(Protocol):
    """What zlib's and lzma's decompressors have in common."""

    def decompress(self, data: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class Source(NamedTuple):
    """An input. path: of the file in its debugfs, `page_pinner/buffer`, or "" where nothing tells it.

    pieces: reads it; in the end `problems` has why it could not be read to its end.
    """

    name: str
    path: str
    pieces: Iterator[bytes]
    problems: list[str]


def sources(path: str, max_wait: float = MAX_WAIT) -> Iterator[Source]:
    """Yield the sources behind a path: one of a file, several of an archive or a directory.

    Raise PinnerfsError if it cannot be opened.
    """
    if path == STDIN:
        with os.fdopen(os.dup(0), "rb", buffering=0) as file:
            begin = file.read(1)
            if not begin:
                message = "cannot read stdin: it is empty; wanted a dump (give an empty record file by its name)"
                raise PinnerfsError(message, BAD_INPUT)
            yield from _stream("stdin", "", file, begin)
        return
    try:
        found = in_thread(lambda: os.stat(path), max_wait)
        if stat.S_ISDIR(found.st_mode):
            yield from _directory(path, max_wait)
        elif stat.S_ISREG(found.st_mode) and not found.st_size:
            yield from _beside(path, max_wait)
        elif stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode):
            # A named pipe without a writer blocks the call of open.
            with in_thread(lambda: open(path, "rb", buffering=0), max_wait) as file:
                yield from _stream(path, _place(path), file)
        else:
            raise PinnerfsError(in_a_line(f"cannot read {path!r}: it is neither a file nor a directory"), BAD_INPUT)
    except NoAnswerError:
        raise PinnerfsError(in_a_line(f"cannot read {path!r}: no answer for {max_wait:g} s"), NO_ANSWER) from None
    except OSError as error:
        raise PinnerfsError(in_a_line(f"cannot read {path!r}: {error.strerror}"), BAD_INPUT) from None


def _place(path: str) -> str:
    """Return the end of a path from `page_pinner/` or `cma/` on, or ""."""
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if (part == "page_pinner" and at + 2 == len(parts)) or (part == "cma" and at + 3 == len(parts)):
            return "/".join(parts[at:])
    return f"page_pinner/{parts[-1]}" if parts[-1] in RECORD_FILES else ""


def _stream(name: str, path: str, file: IO[bytes], begin: bytes = b"") -> Iterator[Source]:
    """Yield the sources of a file, as its first bytes tell its format. `begin` is what was read of it."""
    problems: list[str] = []
    while len(begin) < 6 and (part := file.read(_PIECE)):
        begin += part
    if begin.startswith(_ZIP):
        yield from _archive(name, begin, file)
        return
    yield Source(name, path, _pieces(_unpacked(chain([begin], _parts(file))), problems), problems)


def _unpacked(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file, which may be compressed."""
    begin = b""
    while len(begin) < 6 and (part := next(parts, b"")):
        begin += part
    parts = chain([begin], parts)
    if begin.startswith(b"\x1f\x8b"):
        parts = _inflated(parts, _gzip)
    elif begin.startswith(b"\xfd7zXZ\0"):
        parts = _inflated(parts, _xz)
    yield from parts


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(_PIECE):
        yield part


def _pieces(parts: Iterator[bytes], problems: list[str]) -> Iterator[bytes]:
    """Yield bytes in large pieces: a pipe gives small ones. An error ends them, and is a problem."""
    gathered: list[bytes] = []
    size = 0
    try:
        for part in parts:
            gathered.append(part)
            size += len(part)
            if size >= _PIECE:
                yield b"".join(gathered)
                gathered, size = [], 0
    except OSError as error:
        problems.append(f"the rest was skipped: {error.strerror or error}")
    except Exception as error:
        # zlib.error, lzma.LZMAError and zipfile.BadZipFile have no common base, and are imported only when needed.
        if not isinstance(error, EOFError | RuntimeError) and type(error).__name__ not in _DAMAGED:
            raise
        problems.append(f"the rest was skipped: {error}")
    if gathered:
        yield b"".join(gathered)


def _inflated(parts: Iterator[bytes], new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Yield the bytes of a compressed stream. What comes before its damage is kept."""
    stream: _Decompressor | None = None
    for part in parts:
        # In small steps: a step can give thousands of times as many bytes.
        for at in range(0, len(part), _STEP):
            step = part[at : at + _STEP]
            while step:
                stream = stream or new()
                yield stream.decompress(step)
                if not stream.eof:
                    break
                step = stream.unused_data.lstrip(b"\0")  # another stream may follow, behind padding
                stream = None
    if stream is not None:
        raise EOFError("the compressed data ends early")


def _gzip() -> _Decompressor:
    import zlib

    return zlib.decompressobj(31)


def _xz() -> _Decompressor:
    import lzma

    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _archive(name: str, begin: bytes, file: IO[bytes]) -> Iterator[Source]:
    """Yield a source for each file in a zip, such as a bugreport."""
    import shutil
    import tempfile
    import zipfile

    with tempfile.TemporaryFile() as copy:
        where = file
        if not file.seekable():
            copy.write(begin)
            shutil.copyfileobj(file, copy)
            where = copy
        try:
            archive = zipfile.ZipFile(where)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise PinnerfsError(in_a_line(f"cannot read {name!r}: it is a damaged zip: {error}"), BAD_INPUT) from None
        with archive:
            for member in archive.infolist():
                if not member.is_dir():
                    open_member = partial(archive.open, member)
                    yield from _member(f"{name}:{member.filename}", member.filename, open_member)


def _member(name: str, path: str, open_member: Callable[[], IO[bytes]]) -> Iterator[Source]:
    problems: list[str] = []
    try:
        file = open_member()
    except Exception as error:  # an encrypted member, an unknown compression, a damaged header
        yield Source(name, "", iter(()), [f"it was skipped: {error}"])
        return
    with file:
        parts = _not_nested(_unpacked(_parts(file)))
        yield Source(name, _place(f"/{path}"), _pieces(parts, problems), problems)


def _not_nested(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a member. Raise RuntimeError for a zip in a zip."""
    begin = next(parts, b"")
    if begin.startswith(_ZIP):
        raise RuntimeError("a zip in a zip is not read")
    yield begin
    yield from parts


def _directory(path: str, max_wait: float) -> Iterator[Source]:
    """Yield the files of a debugfs that a report uses; or all regular files, where it is another directory."""
    names = in_thread(lambda: set(os.listdir(path)), max_wait)
    if "page_pinner" in names:
        yield from _page_pinner(os.path.join(path, "page_pinner"), max_wait)
        yield from _areas(os.path.join(path, "cma"), max_wait)
    elif names & {*RECORD_FILES, "failure_tracking"}:
        yield from _page_pinner(path, max_wait)
    else:
        files, problems = _walk(path, max_wait)
        for file in files:
            yield from sources(file, max_wait)
        for directory, problem in problems.items():
            yield Source(directory, "", iter(()), [problem])


def _walk(path: str, max_wait: float) -> tuple[list[str], dict[str, str]]:
    """Return the regular files of a directory and of those in it, sorted, and why directories could not be read.

    Links are not followed. A mount whose daemon is stopped does not answer.
    """
    files: list[str] = []
    problems: dict[str, str] = {}
    ahead = [path]
    while ahead:
        directory = ahead.pop()
        try:
            names, below = in_thread(partial(_listed, directory), max_wait)
        except NoAnswerError:
            problems[directory] = f"it was skipped: no answer for {max_wait:g} s"
            continue
        except OSError as error:
            problems[directory] = f"it was skipped: {error.strerror}"
            continue
        files += names
        ahead += reversed(below)
        if len(files) > _MOST_FILES:
            message = f"{path!r} has more than {_MOST_FILES} files: name the ones to read"
            raise PinnerfsError(in_a_line(message), BAD_INPUT)
    return files, problems


def _listed(directory: str) -> tuple[list[str], list[str]]:
    """Return the regular files and the directories in a directory, sorted, without an access to any of them."""
    with os.scandir(directory) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    files = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
    return files, [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _page_pinner(path: str, max_wait: float) -> Iterator[Source]:
    there = in_thread(lambda: set(os.listdir(path)), max_wait)
    for name in (*_ATTRIBUTES, *RECORD_FILES):
        if name in there:
            yield _live(os.path.join(path, name), f"page_pinner/{name}", max_wait)


def _areas(path: str, max_wait: float) -> Iterator[Source]:
    try:
        names = in_thread(lambda: sorted(os.listdir(path)), max_wait)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        for file in _CMA:
            where = os.path.join(path, name, file)
            if in_thread(partial(os.path.isfile, where), max_wait):
                yield _live(where, f"cma/{name}/{file}", max_wait)


def _beside(path: str, max_wait: float) -> Iterator[Source]:
    """Yield a file without a size. If it is a record file of a debugfs, also yield the settings beside it."""
    place = _place(path)
    directory = os.path.dirname(path)
    if place.startswith("page_pinner/") and os.path.basename(directory) == "page_pinner":
        for name in _ATTRIBUTES:
            beside = os.path.join(directory, name)
            if in_thread(partial(os.path.isfile, beside), max_wait):
                yield _live(beside, f"page_pinner/{name}", max_wait)
    yield _live(path, place, max_wait)


def _live(path: str, place: str, max_wait: float) -> Source:
    problems: list[str] = []
    return Source(path, place, _read_live(path, max_wait, problems), problems)


def _read_live(path: str, max_wait: float, problems: list[str]) -> Iterator[bytes]:
    """Yield the bytes of a file of a debugfs. Each read returns one record, so a buffered read would lose some."""
    parts: list[bytes] = []

    def read() -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size, failed = 0, 0
            while size < _LIVE_MOST:
                try:
                    part = os.read(descriptor, _READ)
                except OSError:
                    failed += 1
                    if failed > _RETRIES:
                        raise
                    continue
                if not part:
                    break
                parts.append(part)
                size, failed = size + len(part), 0
        finally:
            os.close(descriptor)

    try:
        in_thread(read, max_wait, lambda: len(parts))
    except NoAnswerError:
        problems.append(f"the rest was skipped: no answer for {max_wait:g} s")
    except OSError as error:
        problems.append(f"the rest was skipped: {error.strerror}")
    yield from (b"".join(parts[at : at + 1024]) for at in range(0, len(parts), 1024))
