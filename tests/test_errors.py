"""Quoting of untrusted text in messages."""

from __future__ import annotations

import os

import pytest

from pinnerfs.errors import PinnerfsError, in_a_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, ümlaut", "plain text, ümlaut"),
        ("\x1b[31mred\r\n\t", r"\x1b[31mred\r\n\t"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        (repr(os.fsdecode(b"caf\xe9")), r"'caf\xe9'"),
        (repr(os.fsdecode(rb"\\" + b"\xff")), r"'\\\\\xff'"),
        (repr(r"\udcff"), r"'\\udcff'"),  # these characters, not a byte
    ],
)
def test_in_a_line(text: str, line: str) -> None:
    """Control characters are escaped, and an undecodable byte prints as that byte, quoted before or not."""
    assert in_a_line(text) == line
    assert line.isprintable()


def test_a_long_text() -> None:
    """A long text is shortened in its middle."""
    line = in_a_line("begin" + "x" * 10_000 + "end")
    assert len(line) == 1003 and line.startswith("begin") and "..." in line and line.endswith("end")


def test_the_exit_status() -> None:
    """An error has the exit status 1 if no other is given."""
    assert PinnerfsError("text").exit_status == 1
    assert PinnerfsError("text", 69).exit_status == 69
