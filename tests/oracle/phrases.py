"""Calls that the cases describe by a phrase, for example "(3 new pins)"."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from typing import Any

from tests.oracle.calls import Calls, open_flags
from tests.oracle.cases import DEBUGFS, Case, Op
from tests.oracle.sandbox import Sandbox

__all__ = ["PhraseCalls"]

PP = f"{DEBUGFS}/page_pinner"


class PhraseCalls(Calls):
    """A process that makes recorded calls and runs phrases."""

    def __init__(self, sandbox: Sandbox, case: Case) -> None:
        super().__init__(sandbox, case)
        self._flags = os.O_RDWR if case.family in ("th", "ft") else os.O_RDONLY
        self._other = -1  # a second descriptor, for the next read only
        self._a = self._b = -1
        self._length = 0

    def perform(self, call: str) -> Op:
        for pattern, function in PHRASES:
            match = re.fullmatch(pattern, call, re.DOTALL)
            if match:
                return self.answer(lambda function=function, match=match: function(self, *match.groups()))  # type: ignore[misc]
        if self.case.name == "lt.clear-on-failed-write" and (match := re.fullmatch(r"write\((b.*)\)", call)):
            data = match[1]
            return self.answer(lambda: _write_threshold(self, data))
        if self.fd < 0 and call.startswith(("read", "write")) and self.case.name == "th.badptr":
            self.fd = os.open(f"{PP}/threshold", os.O_RDWR)
        return super().perform(call)

    def _open(self, path: str, flags: str) -> Op:
        if path.startswith("/proc/self/fd/"):
            self._other = os.open(f"/proc/self/fd/{self.fd}", open_flags(flags))
            return {"ret": self._other}
        if self.case.name == "th.openflags":
            self.sandbox.threshold("777777")
        return super()._open(path, flags)

    def _read(self, size: str) -> Op:
        if self._other >= 0:
            fd, self._other = self._other, -1
            return self._data(os.read(fd, int(size)))
        return super()._read(size)

    def _close(self) -> Op:
        return super()._close() if self.fd >= 0 else {"ret": None}


def _write_other(self: PhraseCalls, value: str) -> Op:
    self.sandbox.threshold(value)
    return {}


def _clear(self: PhraseCalls) -> Op:
    self.sandbox.threshold("1000\n")
    return {}


def _pin(self: PhraseCalls, count: str) -> Op:
    self.sandbox.pin({"one": 1}.get(count) or int(count))
    return {}


def _clear_and_pin(self: PhraseCalls, count: str) -> Op:
    _clear(self)
    return _pin(self, count)


def _texts(done: int, buffers: list[bytearray]) -> Op:
    parts, left = [], done
    for buffer in buffers:
        parts.append(bytes(buffer[: max(0, left)]).decode())
        left -= len(buffer)
    return {"ret": [done, *parts]}


def _readv(self: PhraseCalls, first: str, second: str, preset: str | None = None) -> Op:
    if preset:
        self.sandbox.threshold(preset)
    buffers = [bytearray(int(first)), bytearray(int(second))]
    return _texts(os.readv(self.fd, buffers), buffers)


def _writev(self: PhraseCalls) -> Op:
    return {"ret": os.writev(self.fd, [b"4", b"2"])}


def _stat(self: PhraseCalls) -> Op:
    stat = os.fstat(self.fd)
    names = ("st_size", "st_blksize", "st_blocks", "st_nlink", "st_uid", "st_gid")
    return {"ret": {"st_mode": oct(stat.st_mode), **{name: getattr(stat, name) for name in names}}}


def _getfl(self: PhraseCalls) -> Op:
    return {"ret": hex(fcntl.fcntl(self.fd, fcntl.F_GETFL))}


def _contents(path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def _child(self: PhraseCalls, function: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        try:
            function()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _as_user(fd: int) -> None:
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    os.write(fd, b"4242")


def _fd_passing(self: PhraseCalls) -> Op:
    fd = os.open(f"{PP}/threshold", os.O_WRONLY)
    return {"ret": _child(self, lambda: _as_user(fd))}


def _times(self: PhraseCalls, path: str, act: Callable[[], object], *, size: bool = False) -> Op:
    before = os.stat(path)
    act()
    after = os.stat(path)
    changed: dict[str, Any] = {
        f"{kind}time_changed": getattr(before, f"st_{kind}time_ns") != getattr(after, f"st_{kind}time_ns")
        for kind in "mac"
    }
    return {"ret": changed | ({"size": after.st_size} if size else {})}


def _times_of_write(self: PhraseCalls) -> Op:
    return _times(self, f"{PP}/threshold", lambda: self.sandbox.threshold("300000"), size=True)


def _times_of_truncation(self: PhraseCalls) -> Op:
    done = _times(self, f"{PP}/threshold", lambda: os.close(os.open(f"{PP}/threshold", os.O_WRONLY | os.O_TRUNC)))
    del done["ret"]["atime_changed"]
    return done


def _record_length(self: PhraseCalls) -> Op:
    self._length = len(_contents(f"{PP}/longterm_pinner"))
    return {"ret": self._length}


def _read_about_length(self: PhraseCalls, more: str) -> Op:
    self.fd = os.open(f"{PP}/longterm_pinner", os.O_RDONLY)
    return self._read(str(self._length + int(more)))


def _write_threshold(self: PhraseCalls, data: str) -> Op:
    self.fd = os.open(f"{PP}/threshold", os.O_WRONLY)
    try:
        return self._write(data)
    finally:
        os.close(self.fd)
        self.fd = -1


def _truncate_open(self: PhraseCalls) -> Op:
    os.close(os.open(f"{PP}/threshold", os.O_WRONLY | os.O_TRUNC))
    return {}


def _reads_at_end(self: PhraseCalls, count: str) -> Op:
    return {"ret": sum(len(os.read(self.fd, 4096)) for _ in range(int(count)))}


def _reads_then_records(self: PhraseCalls, reads: str, pins: str) -> Op:
    _clear(self)
    _reads_at_end(self, reads)
    return _pin(self, pins)


def _read_head(self: PhraseCalls) -> Op:
    return {"ret": os.read(self.fd, 4096).decode()[:40]}


def _read_named(self: PhraseCalls, which: str) -> Op:
    if self._a < 0:
        self._a, self._b = (os.open(f"{PP}/longterm_pinner", os.O_RDONLY) for _ in range(2))
    fds = {"a": lambda: self._a, "b": lambda: self._b, "dup(a)": lambda: os.dup(self._a)}
    return _two_lines(os.read(fds[which](), 4096))


def _two_lines(text: bytes) -> Op:
    return {"ret": text.decode().split("\n")[:2]}


def _read_reopened(self: PhraseCalls) -> Op:
    return _two_lines(os.read(os.open(f"/proc/self/fd/{self._a}", os.O_RDONLY), 4096))


def _child_reads_a(self: PhraseCalls) -> Op:
    _child(self, lambda: os.read(self._a, 4096))
    return {}


def _records(self: PhraseCalls, name: str = "longterm_pinner") -> Op:
    records = []
    with open(f"{PP}/{name}", "rb", buffering=0) as file:
        while text := file.read(4096):
            records.append(text.decode())
    return {"n": len(records), "ret": records}


def _set_tracking(self: PhraseCalls, value: str) -> Op:
    self.sandbox.write("page_pinner/failure_tracking", value)
    return {}


def _forked_read(self: PhraseCalls, size: str) -> Op:
    _child(self, lambda: os.read(self.fd, int(size)))
    return {}


def _preadv2(self: PhraseCalls, flag: str, path: str) -> Op:
    fd = os.open(path, os.O_RDONLY)
    return {"ret": os.preadv(fd, [bytearray(4096)], 0, getattr(os, flag))}


def _path_call(self: PhraseCalls, what: str, path: str) -> Op:
    acts: dict[str, Callable[[], object]] = {
        "truncate": lambda: os.truncate(path, 0),
        "chmod": lambda: os.chmod(path, 0o777),
        "chown": lambda: os.chown(path, 1000, 1000),
        "utime": lambda: os.utime(path),
        "unlink": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, path + "x"),
        "stat": lambda: oct(os.stat(path).st_mode),
        "setxattr": lambda: os.setxattr(path, "user.x", b"1"),
        "access R,W": lambda: [os.access(path, os.R_OK), os.access(path, os.W_OK)],
    }
    return {"ret": acts[what]()}


def _nothing(function: Callable[..., object], *arguments: object) -> Op:
    function(*arguments)
    return {"ret": None}


PHRASES: list[tuple[str, Callable[..., Op]]] = [
    (r"\(other fd\) write (\d+).*", _write_other),
    (r"readv \[(\d+),(\d+)\](?: on (\d+))?", _readv),
    (r"readv", lambda self: {"ret": os.readv(self.fd, [bytearray(10)])}),
    (r"preadv", lambda self: {"ret": os.preadv(self.fd, [bytearray(10)], 0)}),
    (r"pwritev", lambda self: {"ret": os.pwritev(self.fd, [b"4"], 0)}),
    (r"writev \[b\"4\",b\"2\"\]", _writev),
    (r"fstat", _stat),
    (r"F_GETFL", _getfl),
    (r"threshold now", lambda self: {"ret": _contents(f"{PP}/threshold")}),
    (r"\(child read (\d+) bytes\)", _forked_read),
    (r"times around read of (\S+)", lambda self, path: _times(self, path, lambda: _contents(path))),
    (r"times around write of threshold", _times_of_write),
    (r"times around open\(O_WRONLY\|O_TRUNC\)", _times_of_truncation),
    (r"\((\d+) pins recorded, ring cleared first\)", _clear_and_pin),
    (r"\((one) 30 ms pin recorded now\)", _pin),
    (r"\((\d+) new pins\)", _pin),
    (r"\((\d+) records added\)", _pin),
    (r"\(threshold written\)", _clear),
    (r"\(threshold rewritten .*\)", _clear),
    (r"\(threshold opened O_TRUNC and closed, no write\)", _truncate_open),
    (r"stack deeper than 16 frames", _records),
    (r"record length L", _record_length),
    (r"read\(L([+-]\d+)\)", _read_about_length),
    (r"buffer at boot", lambda self: _records(self, "buffer")),
    (r"(\d+) reads of the empty file, total bytes", _reads_at_end),
    (r"\((\d+) reads of the empty file; then (\d+) records\)", _reads_then_records),
    (r"read", _read_head),
    (r"read\((a|b|dup\(a\)),4096\)", _read_named),
    (r"read\(reopened via /proc/self/fd\)", _read_reopened),
    (r"\(forked child read a once\)", _child_reads_a),
    (r"\(failure_tracking=(\d)\)", _set_tracking),
    (r"uid 1000 child writes through fd opened by root", _fd_passing),
    (r"preadv2 (\w+) (\S+)", _preadv2),
    (r"(access R,W|truncate|chmod|chown|utime|unlink|rename|stat|setxattr) (/\S+)", _path_call),
    (r"mkdir", lambda self: _nothing(os.mkdir, f"{PP}/new")),
    (r"O_CREAT new", lambda self: {"ret": os.open(f"{PP}/new", os.O_CREAT | os.O_WRONLY)}),
    (r"symlink", lambda self: _nothing(os.symlink, "x", f"{PP}/new")),
    (r"listdir", lambda self: {"ret": os.listdir(PP)}),
]
