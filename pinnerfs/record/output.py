"""Write a file all at once, so that no reader sees half of it."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from pinnerfs.errors import NO_ANSWER, PinnerfsError, in_a_line
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["check_output", "write_output"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_output(option: str, path: str, force: bool) -> None:
    """Raise PinnerfsError if there is such a file already, before any work is done."""
    if os.path.isdir(path):
        raise PinnerfsError(f"{option}: {in_a_line(path)} is a directory; name a file")
    if not force and os.path.lexists(path):
        raise PinnerfsError(f"{option}: {in_a_line(path)} exists; overwrite it with --force")


def write_output(option: str, path: str, data: bytes, force: bool, max_wait: float) -> None:
    """Write a file. Its name appears when all of it is written; a device or a pipe is written directly.

    max_wait: seconds to wait for a reader of a named pipe.
    """
    check_output(option, path, force)
    try:
        if _is_special(path):
            with in_thread(lambda: open(path, "wb", buffering=0), max_wait) as file:
                _write_all(file.fileno(), data)
        else:
            _replace(os.path.realpath(path), data, force)
    except FileExistsError:
        raise PinnerfsError(f"{option}: {in_a_line(path)} exists; overwrite it with --force") from None
    except NoAnswerError:
        message = f"{option}: cannot write {in_a_line(path)}: no reader for {max_wait:g} s"
        raise PinnerfsError(message, NO_ANSWER) from None
    except OSError as error:
        raise PinnerfsError(f"{option}: cannot write {in_a_line(path)}: {error.strerror}") from None


def _is_special(path: str) -> bool:
    with suppress(FileNotFoundError):
        return not stat.S_ISREG(os.stat(path).st_mode)
    return False


def _replace(path: str, data: bytes, force: bool) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)[:200]}.", dir=os.path.dirname(path))
    with _removed_on_signal(temporary):
        try:
            try:
                _write_all(descriptor, data)
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(descriptor, 0o666 & ~mask)
            finally:
                os.close(descriptor)
            if not force and os.path.lexists(path):
                raise FileExistsError
            os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _removed_on_signal(temporary: str) -> Iterator[None]:
    """Remove a file if a signal ends the process meanwhile."""

    def handle(number: int, _: FrameType | None) -> None:
        with suppress(OSError):
            os.unlink(temporary)
        os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
