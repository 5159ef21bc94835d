"""Read plain and compressed files, UTF-16 and the members of a zip, in pieces, with a limit on what they unpack to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line, reason_of
from pinnerfs.report.source import Source, place_of

# As typing.TYPE_CHECKING for type checkers. Importing typing, and making a Protocol, take time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol
    from zipfile import ZipFile, ZipInfo

    class _Decompressor(Protocol):
        """What zlib's and lzma's decompressors have in common."""

        def decompress(self, data: bytes, /) -> bytes: ...

        @property
        def eof(self) -> bool: ...

        @property
        def unused_data(self) -> bytes: ...


__all__ = ["stream"]

_ZIP = b"PK\x03\x04"
_ENCRYPTED = 1  # a flag of a member of a zip
_STORED, _DEFLATED = 0, 8  # the methods of a zip that Python unpacks in pieces of limited size
_PIECE = 1 << 20
_STEP = 1 << 11  # of compressed bytes, which may become thousands of times as many
_MOST_UNPACKED = 4 << 30  # of one input, so that the reading of a zip bomb or of an endless pipe ends
_MOST_LINE = 64 << 20  # no text has such a line: /dev/zero, a disk image
_MOST_MEMBERS = 10_000
_XZ_MEMORY = 256 << 20
_DAMAGED = ("error", "LZMAError", "BadZipFile")

_UTF_16 = re.compile(rb"\xff\xfe(?:[\1-\x7f]\0)+|\xfe\xff(?:\0[\1-\x7f])+")  # with ASCII behind the mark
_UTF_8 = b"\xef\xbb\xbf"


class _Room:
    """How many bytes an input may still unpack to."""

    def __init__(self) -> None:
        self.left = _MOST_UNPACKED

    def take(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Yield bytes. Raise RuntimeError when there is no room left."""
        for part in parts:
            self.left -= len(part)
            if self.left < 0:
                limit = f"it has more than {_MOST_UNPACKED >> 30} GiB"
                raise RuntimeError(f"{limit}; write what is in it to files, and name the ones to read")
            yield part


def stream(name: str, path: str, file: IO[bytes], begin: bytes = b"", endless: bool = False) -> Iterator[Source]:
    """Yield the sources of a file, as its first bytes tell its format.

    begin: what was read of it. endless: it may have no end, such as a pipe.
    """
    problems: list[str] = []
    try:
        while len(begin) < 6 and (part := file.read(_PIECE)):
            begin += part
    except (OSError, ValueError):
        if not begin:
            raise  # else the next read raises it again, and the rest is skipped
    if begin.startswith(_ZIP):
        yield from _archive(name, begin, file)
        return
    room, parts = _Room(), chain([begin], _parts(file))
    yield Source(name, path, _pieces(_text(room.take(parts) if endless else parts, room), problems), problems)


def _text(parts: Iterator[bytes], room: _Room) -> Iterator[bytes]:
    """Yield the text of a file, which may be compressed, and in UTF-16 as PowerShell's `>` writes it."""
    begin, parts = _begin(parts)
    if begin.startswith(b"\x1f\x8b"):
        begin, parts = _begin(room.take(_inflated(parts, _gzip)))
    elif begin.startswith(b"\xfd7zXZ\0"):
        begin, parts = _begin(room.take(_inflated(parts, _xz)))
    if _UTF_16.fullmatch(begin, 0, 6):
        parts = _utf_8(parts)
    elif begin.startswith(_UTF_8):
        parts = chain([next(parts)[len(_UTF_8) :]], parts)
    yield from _in_lines(parts)


def _in_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield text. Raise RuntimeError for a line that does not end."""
    size = 0
    for part in parts:
        yield part
        end = part.rfind(b"\n")
        size = len(part) - end - 1 if end >= 0 else size + len(part)
        if size > _MOST_LINE:
            raise RuntimeError(f"a line has more than {_MOST_LINE >> 20} MiB")


def _begin(parts: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return at least the first six bytes, if there are so many, and all parts with them."""
    begin = b""
    while len(begin) < 6 and (part := next(parts, b"")):
        begin += part
    return begin, chain([begin], parts)


def _utf_8(parts: Iterator[bytes]) -> Iterator[bytes]:
    from codecs import getincrementaldecoder

    decoder = getincrementaldecoder("utf-16")(errors="replace")
    for part in parts:
        yield decoder.decode(part).encode()
    yield decoder.decode(b"", final=True).encode()


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
        # zlib.error, struct.error, lzma.LZMAError and zipfile.BadZipFile have no common base, and are imported only
        # when needed. A damaged zip also raises ValueError.
        if not isinstance(error, EOFError | RuntimeError | ValueError) and type(error).__name__ not in _DAMAGED:
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
    import tempfile
    import zipfile

    quoted = name if name == "stdin" else repr(name)
    with tempfile.TemporaryFile() as copy:
        where, missing = file, ""
        try:
            if not file.seekable():
                where, missing = copy, _copied(chain([begin], _parts(file)), copy)
            archive = zipfile.ZipFile(where)
        except Exception as error:  # BadZipFile, OSError, ValueError and struct.error of a damaged directory
            reason = missing or f"it is a damaged zip: {error}"
            raise PinnerfsError(in_a_line(f"cannot read {quoted}: {reason}"), BAD_INPUT) from None
        if missing:
            yield Source(name, "", iter(()), [f"the rest was skipped: {missing}"])
        with archive:
            # Not is_dir(), which fails for a damaged member without a name.
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]
            if len(members) > _MOST_MEMBERS:
                message = f"{quoted} has more than {_MOST_MEMBERS} files: unpack it, and name the ones to read"
                raise PinnerfsError(in_a_line(message), BAD_INPUT)
            room = _Room()
            for member in members:
                yield _member(f"{name}:{member.filename}", archive, member, room)
                if room.left < 0:
                    break


def _copied(parts: Iterator[bytes], copy: IO[bytes]) -> str:
    """Copy a pipe to a file. Return why its rest is missing, or ""."""
    try:
        for part in _Room().take(parts):
            copy.write(part)
    except (OSError, RuntimeError, ValueError) as error:
        return reason_of(error)
    return ""


def _member(name: str, archive: ZipFile, member: ZipInfo, room: _Room) -> Source:
    problems: list[str] = []
    if member.flag_bits & _ENCRYPTED:
        return Source(name, "", iter(()), ["it was skipped: it is encrypted; unpack the zip with its password"])
    if member.compress_type not in (_STORED, _DEFLATED):
        return Source(name, "", iter(()), ["it was skipped: its compression is neither deflate nor none"])
    return Source(name, place_of(f"/{member.filename}"), _pieces(_unzipped(archive, member, room), problems), problems)


def _unzipped(archive: ZipFile, member: ZipInfo, room: _Room) -> Iterator[bytes]:
    """Yield the text of a member. Raise an error for one that is damaged, or a zip itself."""
    with archive.open(member) as file:
        begin, parts = _begin(room.take(_parts(file)))
        if begin.startswith(_ZIP):
            raise RuntimeError("a zip in a zip is not read")
        yield from _text(parts, room)
