"""The text of longterm_pinner, read back into records."""

from __future__ import annotations

import re

from pinnerfs.kernel.page_pinner.records import Record
from pinnerfs.kernel.pageflags import Migratetype

__all__ = ["parse_records"]

_HEAD = re.compile(
    r"Page pinned ts (?P<ts>-?[0-9]+) us count (?P<count>-?[0-9]+)\n"
    r"PFN (?P<pfn>[0-9]+) Block (?P<block>[0-9]+) type (?P<migratetype>\w+) Flags (?P<flags>0x[0-9a-f]+)\([\w|]*\)"
)


def parse_records(text: str) -> list[Record]:
    """The records of a text, newest first, as the file has them. ValueError where a part of it is no record."""
    if text and not text.endswith("\n\n"):
        raise ValueError(f"the text does not end in an empty line: {text[-80:]!r}")
    return [_record(part) for part in text.split("\n\n")[:-1]]


def _record(text: str) -> Record:
    match = _HEAD.match(text)
    frames = text[match.end() :].split("\n") if match else []
    if match is None or frames[0] or not all(frame.startswith(" ") for frame in frames[1:]):
        raise ValueError(f"wanted a record, but this came: {text!r}")
    return Record(
        ts=int(match["ts"]),
        count=int(match["count"]),
        pfn=int(match["pfn"]),
        block=int(match["block"]),
        migratetype=Migratetype[match["migratetype"]],
        flags=int(match["flags"], 16),
        stack=tuple(frame[1:] for frame in frames[1:]),
    )
