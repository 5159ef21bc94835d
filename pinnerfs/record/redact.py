"""Replace what identifies a device or its owner in a capture, one to one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.record.layout import BEGIN, DEBUGFS
from pinnerfs.report.titles import record_file, title_of

__all__ = ["redact"]

# In a record: the address of a file's mapping, and a frame without a symbol. Flags look like addresses, and stay.
_IN_RECORDS = re.compile(r"(?<= mapping )0x[0-9a-f]+\b|(?<=^ )0x[0-9a-f]+\b", re.MULTILINE | re.IGNORECASE)
# Elsewhere: an address of the kernel's half of the address space, as %px prints it.
_ELSEWHERE = re.compile(r"\b(?:0x)?ff[0-9a-f]{14}\b", re.IGNORECASE)

_MAC = re.compile(r"(?<![\w:-])[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}(?![\w:-])", re.IGNORECASE)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_BUILDER = re.compile(r"(?<=\()[^\s()@]+@[^\s()@]+(?=\))")

# From the beginning of a word on: a search from each of its characters takes quadratic time.
_PARAMETER = re.compile(r'(?<![^\s="])(?P<name>[^\s="]+)=(?P<value>"[^"\n]*"|[^\s"]+)')
# A parameter of the command line has a serial if a part of its name is one of _PARTS, or its name without separators
# ends with one of _ENDS and a number, or none: serial_num, imei2.
_PARTS = {"cid", "did", "dsn", "mac", "msn", "psn", "sn", "ssn", "uid", "uniqueid", "uniqueno"}
_ENDS = (
    *(
        "serial",
        "serialno",
        "serialnum",
        "serialnumber",
        "chipid",
        "cpuid",
        "deviceid",
        "imei",
        "meid",
        "uuid",
        "iccid",
    ),
    *("mac", "macaddr", "macaddress", "ethaddr", "bdaddr", "btaddr"),
)
_NO_SERIAL = re.compile(r"(?:0x)?0*|unknown|none|null", re.IGNORECASE)
_SHORTEST = 6  # characters of a serial that is also replaced outside of its parameter
# Files of numbers, which have no serials. A serial of a few digits could look like one of their numbers.
_NUMBERS = ("/proc/meminfo", f"{DEBUGFS}/page_pinner/", f"{DEBUGFS}/cma/")


def redact(capture: bytes, name: str = "the capture") -> bytes:
    """Return a capture in which addresses and serials are numbers, in the order in which they come.

    Equal ones stay equal, different ones stay different, and 0 stays 0. Raise PinnerfsError if it is no capture.
    """
    text = capture.decode(errors="surrogateescape")
    first = title_of(text.partition("\n")[0].rstrip("\r"))
    if first is None or not first.title.startswith("PINNERFS CAPTURE "):
        raise PinnerfsError(f"cannot redact {name}: wanted a capture, which begins with `{BEGIN}`", BAD_INPUT)
    return "".join(_Redaction(list(_sections(text))).sections()).encode(errors="surrogateescape")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each section and its text, with the title. The path is "" where a title has none."""
    path = ""
    lines = list[str]()
    for line in re.split(r"(?<=\n)", text):
        title = title_of(line.rstrip("\r\n")) if line.startswith("------ ") else None
        if title is not None:
            yield path, "".join(lines)
            path, lines = title.path, []
        lines.append(line)
    yield path, "".join(lines)


class _Numbers:
    """A number for each different value, counted from 1."""

    def __init__(self, form: Callable[[int], str]) -> None:
        self._form = form
        self._numbers: dict[str, str] = {}

    def of(self, value: str) -> str:
        """Return what replaces a value."""
        return self._numbers.setdefault(value, self._form(len(self._numbers) + 1))

    def __call__(self, match: re.Match[str]) -> str:
        """Return what replaces a match. Zeros stay."""
        digits = re.sub(r"\W", "", match[0].lower())
        return self.of(digits) if digits.strip("0") else match[0]


class _Words:
    """Words in lower case and what replaces them. Each of them has _SHORTEST characters or more.

    A pattern of all words would try one after the other at each character of a text.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        self._lengths: dict[str, list[int]] = {}  # by the beginning of the words, the longest first
        for word in words:
            lengths = self._lengths.setdefault(word[:_SHORTEST], [])
            if len(word) not in lengths:
                lengths.append(len(word))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)
        beginnings = zip(*self._lengths, strict=True)
        classes = (f"[{re.escape(''.join(sorted(set(characters))))}]" for characters in beginnings)
        self._beginning = re.compile(f"(?={''.join(classes)})") if words else None

    def replaced(self, text: str) -> str:
        """Return a text in which the words are replaced, in upper and in lower case. The longest wins."""
        if self._beginning is None:
            return text
        lower = text.lower()
        if len(lower) != len(text):  # a few characters become two
            lower = "".join(one.lower() if len(one.lower()) == 1 else one for one in text)
        parts = list[str]()
        end = 0
        for match in self._beginning.finditer(lower):
            begin = match.start()
            if begin < end:
                continue
            for length in self._lengths.get(lower[begin : begin + _SHORTEST], ()):
                number = self._words.get(lower[begin : begin + length])
                if number is not None:
                    parts += (text[end:begin], number)
                    end = begin + length
                    break
        return "".join((*parts, text[end:]))


class _Redaction:
    """One capture, and what was replaced in it up to now."""

    def __init__(self, sections: list[tuple[str, str]]) -> None:
        self._sections = sections
        self._pointers = _Numbers(lambda number: f"{number:x}")
        self._macs = _Numbers(lambda number: ":".join(re.findall("..", f"{number:012x}")))
        self._uuids = _Numbers(lambda number: f"00000000-0000-0000-0000-{number:012x}")
        self._serials = _Numbers(lambda number: f"redacted-{number}")
        self._everywhere = self._long_serials()

    def sections(self) -> Iterator[str]:
        """Yield the text of each section."""
        for path, text in self._sections:
            title, newline, text = text.partition("\n")
            text = _IN_RECORDS.sub(self._pointer, text) if record_file(path) else self._other(path, text)
            yield title + newline + text

    def _other(self, path: str, text: str) -> str:
        if path == "/proc/cmdline":
            text = _PARAMETER.sub(self._parameter, text)
        if path == "/proc/version":
            text = _BUILDER.sub("user@host", text)
        if not path.startswith(_NUMBERS):
            text = self._everywhere.replaced(text)
        return _ELSEWHERE.sub(self._pointer, _UUID.sub(self._uuids, _MAC.sub(self._macs, text)))

    def _parameter(self, match: re.Match[str]) -> str:
        if not _has_serial(match):
            return match[0]
        quote = '"' if match["value"].startswith('"') else ""
        return f"{match['name']}={quote}{self._serials.of(_value(match))}{quote}"

    def _long_serials(self) -> _Words:
        """Return the serials of the command line that are long enough to be nothing else."""
        found = dict[str, str]()
        for path, text in self._sections:
            if path == "/proc/cmdline":
                for match in filter(_has_serial, _PARAMETER.finditer(text)):
                    found[_value(match)] = self._serials.of(_value(match))
        return _Words({value: number for value, number in found.items() if len(value) >= _SHORTEST})

    def _pointer(self, match: re.Match[str]) -> str:
        prefix = "0x" if match[0][:2].lower() == "0x" else ""
        digits = match[0][len(prefix) :]
        value = digits.lower().lstrip("0")
        return prefix + self._pointers.of(value).zfill(len(digits)) if value else match[0]


def _value(match: re.Match[str]) -> str:
    return match["value"].strip('"').lower()


def _has_serial(match: re.Match[str]) -> bool:
    """Tell whether a parameter of the command line names this one device."""
    name = match["name"].lower()
    parts = re.split(r"[._-]", name)
    known = not _PARTS.isdisjoint(parts) or "".join(parts).rstrip("0123456789").endswith(_ENDS)
    return known and not _NO_SERIAL.fullmatch(_value(match))
