"""Open the inputs of a report: files of any size and compression, pipes, directories, and files of a live debugfs.

Each member of an archive and each file of a directory is a source of its own, read in pieces.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from itertools import chain

from pinnerfs.errors import BAD_INPUT, NO_ANSWER, PinnerfsError, in_a_line
from pinnerfs.report.parse import RECORD_FILES
from pinnerfs.report.source import MAX_WAIT, STDIN, Source, place_of
from pinnerfs.report.unpack import stream
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["MAX_WAIT", "STDIN", "Source", "sources"]

_MOST_FILES = 10_000  # of a directory


def sources(path: str, max_wait: float = MAX_WAIT) -> Iterator[Source]:
    """Yield the sources behind a path: one of a file, several of an archive or a directory.

    Raise PinnerfsError if it cannot be opened.
    """
    name = "stdin" if path == STDIN else repr(path)
    try:
        if path == STDIN:
            yield from _stdin(max_wait)
            return
        found = in_thread(lambda: os.stat(path), max_wait)
        if stat.S_ISDIR(found.st_mode):
            yield from _directory(path, max_wait)
        elif stat.S_ISREG(found.st_mode) and not found.st_size:
            from pinnerfs.report.live import beside

            yield from map(_begun, beside(path, max_wait))
        elif stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode):
            # A named pipe without a writer blocks the call of open.
            with in_thread(lambda: open(path, "rb", buffering=0), max_wait) as file:
                yield from stream(path, place_of(path), file, endless=stat.S_ISFIFO(found.st_mode))
        else:
            raise PinnerfsError(in_a_line(f"cannot read {path!r}: it is neither a file nor a directory"), BAD_INPUT)
    except NoAnswerError:
        raise PinnerfsError(in_a_line(f"cannot read {name}: no answer for {max_wait:g} s"), NO_ANSWER) from None
    except OSError as error:
        raise PinnerfsError(in_a_line(f"cannot read {name}: {error.strerror}"), BAD_INPUT) from None


def _stdin(max_wait: float) -> Iterator[Source]:
    """Yield the sources of standard input. Without a size it may be a file of a debugfs, as `< FILE` opens it."""
    found = in_thread(lambda: os.fstat(0), max_wait)
    if stat.S_ISREG(found.st_mode) and not found.st_size:
        from pinnerfs.report.live import stdin

        source = _begun(stdin(max_wait))
        begin = next(source.pieces, b"")
        if begin or source.path or source.problems:
            yield source._replace(pieces=chain([begin], source.pieces))
            return
    else:
        with os.fdopen(os.dup(0), "rb", buffering=0) as file:
            begin = file.read(1)
            if begin:
                yield from stream("stdin", "", file, begin, endless=not stat.S_ISREG(found.st_mode))
                return
    message = "cannot read stdin: it is empty; wanted a dump (give an empty record file by its name)"
    raise PinnerfsError(message, BAD_INPUT)


def _begun(source: Source) -> Source:
    """Return a source whose first piece has been read. Raise NoAnswerError if it must answer, and does not."""
    begin = next(source.pieces, b"")
    return source._replace(pieces=chain([begin] if begin else [], source.pieces))


def _directory(path: str, max_wait: float) -> Iterator[Source]:
    """Yield the files of a debugfs that a report uses; or all regular files, where it is another directory."""
    from pinnerfs.report.live import areas, page_pinner

    names = in_thread(lambda: set(os.listdir(path)), max_wait)
    if "page_pinner" in names:
        yield from page_pinner(os.path.join(path, "page_pinner"), max_wait)
        yield from areas(os.path.join(path, "cma"), max_wait)
    elif names & {*RECORD_FILES, "failure_tracking"}:
        yield from page_pinner(path, max_wait)
    else:
        files, problems = _walk(path, max_wait)
        for file in files:
            try:
                yield from sources(file, max_wait)
            except PinnerfsError as error:
                reason = str(error).removeprefix(in_a_line(f"cannot read {file!r}: "))
                yield Source(file, "", iter(()), [f"it was skipped: {reason}"])
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
