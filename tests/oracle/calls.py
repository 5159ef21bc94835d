"""Makes the system calls of a `sys` case from one process: a list of calls comes in on stdin, the answers go out."""

from __future__ import annotations

import ast
import ctypes
import errno
import json
import os
import re
import sys
from typing import Any

__all__ = ["UnknownCall", "make"]

_libc = ctypes.CDLL(None, use_errno=True)


class UnknownCall(Exception):
    """A call that this harness cannot make by itself."""


def _flags(text: str) -> int:
    value = 0
    for name in text.split("|"):
        value |= getattr(os, name)
    return value


class _Process:
    """The state that a list of calls works on: one descriptor."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def _descriptor(self) -> int:
        # A list that begins with a read had opened the file just before; so had one that reads after a close.
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDONLY)
        return self._fd

    def call(self, text: str) -> dict[str, Any]:
        """One call, with the answer in the form of the recorded ones."""
        try:
            return self._call(text)
        except OSError as error:
            return {"ret": -1, "errno": errno.errorcode[error.errno or 0]}

    def _call(self, text: str) -> dict[str, Any]:
        if match := re.fullmatch(r"open\((.+),([A-Z_|]+)\)", text):
            self._path = match[1]
            self._fd = os.open(match[1], _flags(match[2]))
            return {"ret": "fd"}
        if text == "close":
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None
            return {"ret": None}
        if match := re.fullmatch(r"read\((\d+)\)", text):
            data = os.read(self._descriptor(), int(match[1]))
            return {"ret": len(data), "data": data.decode("latin-1")}
        if match := re.fullmatch(r"read\((NULL|0x[0-9a-f]+),(\d+)\)", text):
            address = 0 if match[1] == "NULL" else int(match[1], 16)
            ret = _libc.read(self._descriptor(), ctypes.c_void_p(address), ctypes.c_size_t(int(match[2])))
            return {"ret": ret, "errno": errno.errorcode[ctypes.get_errno()]} if ret < 0 else {"ret": ret}
        if match := re.fullmatch(r"pread\((\d+),(-?\d+)\)", text):
            data = os.pread(self._descriptor(), int(match[1]), int(match[2]))
            return {"ret": len(data), "data": data.decode("latin-1")}
        if match := re.fullmatch(r"write\((b['\"].*['\"])\)", text, re.DOTALL):
            return {"ret": os.write(self._descriptor(), ast.literal_eval(match[1]))}
        if match := re.fullmatch(r"pwrite\((b['\"].*['\"]),(-?\d+)\)", text, re.DOTALL):
            return {"ret": os.pwrite(self._descriptor(), ast.literal_eval(match[1]), int(match[2]))}
        if match := re.fullmatch(r"lseek\((-?\d+),(SEEK_\w+)\)", text):
            return {"ret": os.lseek(self._descriptor(), int(match[1]), getattr(os, match[2]))}
        raise UnknownCall(text)


def make(calls: list[str], path: str) -> list[dict[str, Any]]:
    """The answers to a list of calls; UnknownCall names one that cannot be made."""
    process = _Process(path)
    return [process.call(text) for text in calls]


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        print(json.dumps(make(request["calls"], request["path"])))
    except UnknownCall as unknown:
        print(json.dumps({"unknown": str(unknown)}))
