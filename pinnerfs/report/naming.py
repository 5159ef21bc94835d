"""Name a stack: its call site, its owner and a key that is the same in every dump and on every kernel.

The walk is that of Socorro's signatures, with the lists of sites.toml.
"""

from __future__ import annotations

import os
import re
import tomllib
from binascii import crc32
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from pinnerfs.errors import BAD_INPUT, NO_ANSWER, PinnerfsError, in_a_line
from pinnerfs.report.model import Kind, Role
from pinnerfs.report.source import MAX_WAIT
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["Name", "Sites", "function_of", "load_sites"]

_OWN_SITES = os.path.join(os.path.dirname(__file__), "sites.toml")
_MOST_BYTES = 1 << 20  # of a file of sites
_MOST_NAMES = 1 << 12  # different stacks to remember; the lists of sites.toml live as long as the process
_LISTS = ("irrelevant", "prefix", "ordinary", "allocator", "put_page")

_FRAME = re.compile(r"(?P<symbol>[^\s+]+)(?:\+\S+)?(?: \[(?P<module>[^\]\s]+)[^\]]*\])?")
# What compilers add to the name of a function.
_SUFFIXES = re.compile(r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv|cfi_jt|cfi|specialized|__uniq)(?:\.\w+)*)+\Z")

# The function around an allocation, and what stands between it and its caller.
_ALLOCATIONS = ("cma_alloc", "__cma_alloc", "alloc_contig_range", "alloc_contig_range_noprof", "alloc_contig_pages")
# What marks a page on kernels that print the same first line for all kinds.
_MARKS = (
    "__page_pinner_mark_migration_failed_pages",
    "__page_pinner_migration_failed",
    "test_pages_isolated",
    "pp_glue_mark_failed",
)
_FREES = ("__reset_page_pinner", "free_pcp_prepare", "__free_page_pinner")


class Name(NamedTuple):
    """The name of a stack. frame: the one that the name ends with.

    put_page: whether it pins by get_user_pages and is known to release by put_page.
    ordinary: whether the reference is one that every page loses in the end.
    refused: for a stack of an allocation, the name of the allocation.
    """

    key: str
    role: Role
    owner: str
    site: str
    frame: str
    put_page: bool
    ordinary: bool
    refused: str


class _Patterns:
    """Names of functions, some with a `*` at the end."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._exact = {pattern for pattern in patterns if not pattern.endswith("*")}
        self._begins = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def __contains__(self, function: str) -> bool:
        return function in self._exact or function.startswith(self._begins)

    def has_part(self, part: str) -> bool:
        """Tell whether one of the names has this part."""
        return any(part in name for name in (*self._exact, *self._begins))


class Sites:
    """The lists of sites.toml, and the names that they give."""

    def __init__(self, tables: Sequence[dict[str, object]]) -> None:
        lists = {name: _Patterns(pattern for table in tables for pattern in _strings(table, name)) for name in _LISTS}
        self._irrelevant, self._prefix = lists["irrelevant"], lists["prefix"]
        self._ordinary, self._allocator, self._put_page = lists["ordinary"], lists["allocator"], lists["put_page"]
        self._owners = [
            (owner, _Patterns(_strings(_owners(table), owner))) for table in tables for owner in _owners(table)
        ]
        self._names: dict[tuple[Kind, tuple[str, ...]], Name] = {}

    def knows(self, word: str) -> bool:
        """Tell whether the lists have this owner, or functions with this name or part of a name."""
        lists = (self._prefix, self._put_page, *(patterns for _, patterns in self._owners))
        return any(word == owner for owner, _ in self._owners) or any(
            word in patterns or patterns.has_part(word) for patterns in lists
        )

    def name(self, kind: Kind, stack: tuple[str, ...]) -> Name:
        """Return the name of a record's stack."""
        name = self._names.get((kind, stack))
        if name is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            name = self._names[kind, stack] = self._name(kind, stack)
        return name

    def _name(self, kind: Kind, stack: tuple[str, ...]) -> Name:
        functions = [function_of(frame) for frame in stack]
        role = self._role(kind, functions)
        outside = _outside(functions) if role in ("victim", "allocator") else 0
        parts, at = self._walk(functions, outside)
        site = " | ".join(parts) or "(no stack)"
        ordinary = role == "candidate" and any(function in self._ordinary for function in functions)
        return Name(
            key=f"{crc32(f'{role} {site}'.encode(errors='replace')):08x}",
            role=role,
            owner=self._owner(functions, stack, at),
            site=site,
            frame=stack[at] if stack else "",
            put_page=any(part in self._put_page for part in parts) and not any(map(_pins, functions)),
            ordinary=ordinary,
            refused=site if outside else "",
        )

    def _role(self, kind: Kind, functions: list[str]) -> Role:
        if kind == "PIN":
            return "culprit"
        inside = any(function in self._allocator for function in functions)
        if kind == "DETECT" or (kind == "EVENT" and inside and any(mark in functions[:2] for mark in _MARKS)):
            return "victim"
        if inside:
            return "allocator"
        if kind == "FREE" or (kind == "EVENT" and any(free in functions[:1] for free in _FREES)):
            return "end"
        # All kinds of record begin alike, and only the stack tells which one it is.
        if kind == "EVENT" and all(function.startswith("0x") for function in functions):
            return "event"
        return "candidate"

    def _walk(self, functions: list[str], begin: int) -> tuple[list[str], int]:
        """Return the parts of a name, and the place of the frame that it ends with."""
        parts: list[str] = []
        at = min(begin, max(len(functions) - 1, 0))
        for place in range(begin, len(functions)):
            function = functions[place]
            if function in self._irrelevant:
                continue
            parts.append(function)
            at = place
            if function not in self._prefix:
                break
        return parts or functions[begin : begin + 1], at

    def _owner(self, functions: list[str], stack: tuple[str, ...], at: int) -> str:
        for function, frame in zip(functions[at:], stack[at:], strict=True):
            for owner, patterns in self._owners:
                if function in patterns:
                    return owner
            match = _FRAME.match(frame)
            if match and match["module"]:
                return match["module"]
        return "kernel" if functions else "unknown"


@lru_cache(maxsize=1 << 12)
def function_of(frame: str) -> str:
    """Return a frame's function, without offset, module and the suffixes of compilers."""
    match = _FRAME.match(frame)
    return _SUFFIXES.sub("", match["symbol"]) if match else frame


def _pins(function: str) -> bool:
    """Tell whether a function takes FOLL_PIN references, which only unpin_user_page drops."""
    return function.startswith(("pin_user_pages", "__pin_user_pages"))


def _outside(functions: list[str]) -> int:
    """Return the place of the frame that called the allocation, or 0 if the stack does not have it."""
    last = max((at for at, function in enumerate(functions) if function in _ALLOCATIONS), default=-1)
    return last + 1 if 0 <= last < len(functions) - 1 else 0


def load_sites(*files: str | os.PathLike[str], max_wait: float = MAX_WAIT) -> Sites:
    """Return the lists of sites.toml, with those of more files before them. Raise PinnerfsError for a wrong file.

    max_wait: seconds to wait for a file that does not answer, such as a pipe without a writer.
    """
    if not files:
        return _own_sites()
    return Sites([_table(path, max_wait) for path in (*files, _OWN_SITES)])


@cache
def _own_sites() -> Sites:
    return Sites([_table(_OWN_SITES, MAX_WAIT)])


def _table(path: str | os.PathLike[str], max_wait: float) -> dict[str, object]:
    where = f"cannot use the sites of {os.fspath(path)!r}"
    try:
        data = in_thread(lambda: _begin_of(path), max_wait)
        if len(data) > _MOST_BYTES:
            raise PinnerfsError(in_a_line(f"{where}: it is longer than {_MOST_BYTES} bytes"), BAD_INPUT)
        table = tomllib.loads(data.decode())
    except NoAnswerError:
        raise PinnerfsError(in_a_line(f"{where}: no answer for {max_wait:g} s"), NO_ANSWER) from None
    except OSError as error:
        raise PinnerfsError(in_a_line(f"{where}: {error.strerror}"), BAD_INPUT) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PinnerfsError(in_a_line(f"{where}: {error}"), BAD_INPUT) from None
    except RecursionError:
        raise PinnerfsError(in_a_line(f"{where}: its values are nested too deeply"), BAD_INPUT) from None
    wrong = [name for name in table if name not in (*_LISTS, "owner")]
    if wrong:
        known = ", ".join((*_LISTS, "owner"))
        raise PinnerfsError(in_a_line(f"{where}: unknown key {wrong[0]!r}: wanted one of {known}"), BAD_INPUT)
    try:
        for name in _LISTS:
            _strings(table, name)
        for owner in _owners(table):
            _strings(_owners(table), owner, "owner.")
    except ValueError as error:
        raise PinnerfsError(in_a_line(f"{where}: {error}"), BAD_INPUT) from None
    return table


def _begin_of(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file, and of an endless one a little more than the most."""
    with open(path, "rb") as file:
        return file.read(_MOST_BYTES + 1)


def _strings(table: dict[str, object], name: str, within: str = "") -> list[str]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(pattern, str) and pattern for pattern in value):
        raise ValueError(f"{within}{name} must be a list of names of functions; {value!r} came")
    return value


def _owners(table: dict[str, object]) -> dict[str, object]:
    value = table.get("owner", {})
    if not isinstance(value, dict):
        raise ValueError(f"owner must be a table of lists; {value!r} came")
    return value
