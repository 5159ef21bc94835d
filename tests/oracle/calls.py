"""Make recorded system calls from a process in a sandbox."""

from __future__ import annotations

import ast
import ctypes
import errno
import os
import re
from collections.abc import Callable
from typing import Any

from tests.oracle.cases import DEBUGFS, Case, Op
from tests.oracle.sandbox import Sandbox

__all__ = ["Calls", "UnknownCall", "error_name", "open_flags"]

FILES = {
    "th": "threshold",
    "lt": "longterm_pinner",
    "ft": "failure_tracking",
    "acf": "alloc_contig_failed",
}  # by family
_libc = ctypes.CDLL(None, use_errno=True)
_libc.read.argtypes = _libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.read.restype = _libc.write.restype = ctypes.c_ssize_t

# The method for a call, and how the case writes it. The groups are the arguments.
PATTERNS: list[tuple[str, str]] = [
    ("open", r"open\((\S+),(\S+)\)"),
    ("read", r"read\((\d+)\)"),
    ("read_into", r"read\((NULL|0x[0-9a-f]+),(\d+)\)"),
    ("write_from", r"write\((NULL|0x[0-9a-f]+),(\d+)\)"),
    ("pread", r"pread\((\d+),(-?\d+)\)"),
    ("write", r"write\((b['\"].*['\"])\)"),
    ("pwrite", r"pwrite\((b['\"].*['\"]),(-?\d+)\)"),
    ("lseek", r"lseek\((-?\d+),(\w+)\)"),
    ("close", r"close"),
]


class UnknownCall(Exception):
    """An unsupported call."""


def error_name(error: OSError) -> str:
    """Return the name of the errno, as the recorder wrote it."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return "ENOTSUP" if name == "EOPNOTSUPP" else name


def open_flags(words: str) -> int:
    """Return the number for flags such as O_RDWR|O_TRUNC."""
    flags = 0
    for word in words.split("|"):
        flags |= getattr(os, word)
    return flags


class Calls:
    """An open file and the calls on it. An answer has the keys of the recorded answer."""

    def __init__(self, sandbox: Sandbox, case: Case) -> None:
        self.sandbox = sandbox
        self.case = case
        self._path = f"{DEBUGFS}/page_pinner/{FILES.get(case.family, '')}"
        self._flags = os.O_RDONLY
        self.fd = -1

    def perform(self, call: str) -> Op:
        """Make a call and return its answer. Raise UnknownCall if the call is unsupported."""
        for name, pattern in PATTERNS:
            match = re.fullmatch(pattern, call, re.DOTALL)
            if match:
                function: Callable[..., Op] = getattr(self, f"_{name}")
                if name not in ("open", "close") and self.fd < 0:
                    if self._path.endswith("/"):
                        raise UnknownCall(call)  # the case does not name the file
                    # The recorder opened the file without listing the call.
                    self.fd = os.open(
                        self._path, self._flags if name in ("read", "pread", "lseek", "read_into") else os.O_WRONLY
                    )
                return self.answer(lambda function=function, match=match: function(*match.groups()))  # type: ignore[misc]
        raise UnknownCall(call)

    @staticmethod
    def answer(call: Callable[[], Op]) -> Op:
        """Return the result of the call, or the name of its errno."""
        try:
            return call()
        except OSError as error:
            return {"ret": -1, "errno": error_name(error)}
        except (AttributeError, SyntaxError, ValueError) as error:
            # An unknown flag, seek constant or literal.
            raise UnknownCall(str(error)) from None

    def _open(self, path: str, flags: str) -> Op:
        self._path = path
        self.fd = os.open(path, open_flags(flags))
        return {"ret": self.fd}

    def _close(self) -> Op:
        os.close(self.fd)
        self.fd = -1
        return {"ret": None}

    @staticmethod
    def _data(data: bytes) -> Op:
        return {"ret": len(data), "data": data.decode(errors="surrogateescape")}

    def _read(self, size: str) -> Op:
        return self._data(os.read(self.fd, int(size)))

    def _pread(self, size: str, offset: str) -> Op:
        return self._data(os.pread(self.fd, int(size), int(offset)))

    def _write(self, data: str) -> Op:
        return {"ret": os.write(self.fd, ast.literal_eval(data))}

    def _pwrite(self, data: str, offset: str) -> Op:
        return {"ret": os.pwrite(self.fd, ast.literal_eval(data), int(offset))}

    def _lseek(self, offset: str, whence: str) -> Op:
        return {"ret": os.lseek(self.fd, int(offset), getattr(os, whence))}

    def _raw(self, function: Any, address: str, size: str) -> Op:
        pointer = None if address == "NULL" else int(address, 16)
        done = function(self.fd, pointer, int(size))
        if done < 0:
            raise OSError(ctypes.get_errno(), "")
        return {"ret": done}

    def _read_into(self, address: str, size: str) -> Op:
        return self._raw(_libc.read, address, size)

    def _write_from(self, address: str, size: str) -> Op:
        return self._raw(_libc.write, address, size)
