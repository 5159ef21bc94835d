"""Read plain and compressed files and the members of a zip, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import IO, Protocol

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.report.source import Source, place_of

__all__ = ["stream"]

_ZIP = b"PK\x03\x04"
_PIECE = 1 << 20
_STEP = 1 << 14
_XZ_MEMORY = 256 << 20
_DAMAGED = ("error", "LZMAError", "BadZipFile")


class _Decompressor(Protocol):
    """What zlib's and lzma's decompressors have in common."""

    def decompress(self, data: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def stream(name: str, path: str, file: IO[bytes], begin: bytes = b"") -> Iterator[Source]:
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
        yield Source(name, place_of(f"/{path}"), _pieces(parts, problems), problems)


def _not_nested(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a member. Raise RuntimeError for a zip in a zip."""
    begin = next(parts, b"")
    if begin.startswith(_ZIP):
        raise RuntimeError("a zip in a zip is not read")
    yield begin
    yield from parts
