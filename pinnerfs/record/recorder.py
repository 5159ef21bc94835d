"""Read the files of a debugfs into a capture."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line, reason_of
from pinnerfs.mounts.answers import MAX_WAIT, no_answer
from pinnerfs.record import layout
from pinnerfs.report.live import MOST, reads
from pinnerfs.report.parse import RECORD_FILES
from pinnerfs.scenario.reading import Input
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["read_capture", "read_stdin", "record"]

_READ = 1 << 16  # bytes
_MOST_CAPTURE = 256 << 20  # bytes of a file that is a capture already
_CONTROL = ".pinnerfs"  # only a mount of pinnerfs has it
_GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV)  # the daemon has ended


def record(root: str | os.PathLike[str], max_wait: float = MAX_WAIT) -> bytes:
    """Return the capture of a debugfs, or of a mount of pinnerfs.

    PinnerfsError if `root` is neither, if it goes away meanwhile, or if it makes no progress for `max_wait` seconds.
    """
    recorder = _Recorder(os.fspath(root))
    return _made(recorder, recorder.run, max_wait)


def read_capture(path: str | os.PathLike[str], max_wait: float = MAX_WAIT) -> bytes:
    """Return the bytes of a file, which is a capture already; or record a directory."""
    recorder = _Recorder(os.fspath(path))
    return _made(recorder, lambda: recorder.run() if os.path.isdir(path) else recorder.copy(), max_wait)


def read_stdin() -> bytes:
    """Return the bytes of standard input, which is a capture already. Raise PinnerfsError if no data comes."""
    recorder = _Recorder("stdin")
    try:
        recorder.copy_all(Input(0).read)
    except (OSError, ValueError) as error:
        raise PinnerfsError(f"cannot read stdin: {reason_of(error)}", BAD_INPUT) from None
    return b"".join(recorder.parts)


def _made(recorder: _Recorder, run: Callable[[], None], max_wait: float) -> bytes:
    # One thread for all files: the directory stays open, so all of them are of the same mount.
    try:
        in_thread(run, max_wait, lambda: recorder.steps)
    except NoAnswerError:
        raise no_answer("record", recorder.path, max_wait) from None
    except OSError as error:
        hint = "; only --redact takes a file" if error.errno == errno.ENOTDIR else ""
        raise PinnerfsError(in_a_line(f"cannot record {recorder.path!r}: {error.strerror}{hint}"), BAD_INPUT) from None
    return b"".join(recorder.parts)


class _Recorder:
    """One recording. parts: what was read. steps: grows with each answer of the file system."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parts: list[bytes] = []
        self.steps = 0

    def copy(self) -> None:
        """Read a file that is a capture."""
        with open(self.path, "rb", buffering=0) as file:
            self.copy_all(file.read)

    def copy_all(self, read: Callable[[int], bytes | None]) -> None:
        """Read up to the end what `read` returns in parts. Raise OSError if it is too long."""
        size = 0
        while part := read(_READ):
            self.parts.append(part)
            self.steps += 1
            size += len(part)
            if size > _MOST_CAPTURE:
                raise OSError(errno.EFBIG, f"it is longer than {_MOST_CAPTURE >> 20} MiB")

    def run(self) -> None:
        """Record everything. Raise OSError if the root cannot be listed."""
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Before anything is read: the mount can go away at any time.
            own = _exists(root, _CONTROL)
            files = list(self._files(root))
            if not own:
                files += [(path, None) for path in layout.PROC]
            self.parts.append(f"{layout.BEGIN}\n".encode())
            for path, name in files:
                self._file(path, root, name)
            self.parts.append(f"{layout.END}\n".encode())
        finally:
            os.close(root)

    def _files(self, root: int) -> Iterator[tuple[str, str | None]]:
        """Yield the path on a device and the name in the root of each file to record, in the order of a capture."""
        try:
            there = set(_listed(root, "page_pinner"))
        except FileNotFoundError:
            hint = ""
            if os.path.basename(os.path.abspath(self.path)) == "page_pinner":
                hint = "; name the directory above it"
            wanted = "wanted a directory with page_pinner/ in it, such as a mount of pinnerfs or /sys/kernel/debug"
            raise PinnerfsError(in_a_line(f"cannot record {self.path!r}: {wanted}{hint}"), BAD_INPUT) from None
        names = [f"page_pinner/{name}" for name in (*RECORD_FILES, *layout.ATTRIBUTES) if name in there]
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            areas = sorted(_listed(root, "cma"))
            for area in filter(layout.fits_title, areas):
                with suppress(NotADirectoryError, PermissionError):
                    there = set(_listed(root, f"cma/{area}"))
                    names += [f"cma/{area}/{name}" for name in layout.CMA_FILES if name in there]
            if not all(map(layout.fits_title, areas)):
                names.append("cma")
        if _exists(root, layout.BUFINFO):
            names.append(layout.BUFINFO)
        self.steps += 1
        yield from ((f"{layout.DEBUGFS}/{name}", name) for name in names)

    def _file(self, path: str, root: int, name: str | None) -> None:
        """Record one file. `name` is relative to the root; None for a file outside of it.

        The directory "cma" stands for areas that no title can name.
        """
        text, problem = bytearray(), ""
        if name == "cma":
            self.parts.append(layout.section(path, b"", layout.UNNAMED))
            return
        try:
            descriptor = os.open(name or path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=root)
            try:
                for part in reads(descriptor, final=_GONE, answered=self._step):
                    text += part
                    if len(text) >= MOST:
                        raise OSError(errno.EFBIG, f"longer than {MOST >> 20} MiB")
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _GONE:
                message = f"cannot record {self.path!r}: it was unmounted meanwhile, or its daemon has ended"
                raise PinnerfsError(in_a_line(message)) from None
            if name is None and error.errno == errno.ENOENT:
                return
            problem = error.strerror or str(error)
        self.parts.append(layout.section(path, bytes(text), problem))
        self.steps += 1

    def _step(self) -> None:
        self.steps += 1


def _listed(root: int, name: str) -> list[str]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _exists(root: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=root)
    except OSError:
        return False
    return True
