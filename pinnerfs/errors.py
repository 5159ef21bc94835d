"""The class of expected errors, its exit statuses, the reasons of others, and quoting of untrusted text."""

from __future__ import annotations

import os
import re

__all__ = ["BAD_INPUT", "NO_ANSWER", "NO_FUSE", "PinnerfsError", "in_a_line", "reason_of"]

NO_FUSE = os.EX_UNAVAILABLE  # exit status: this machine cannot mount through FUSE
NO_ANSWER = os.EX_TEMPFAIL  # exit status: a daemon does not answer
BAD_INPUT = 2  # exit status: the command line or a scenario is wrong

LONGEST_LINE = 1000

# An undecodable byte 0xff is U+DCFF in Python's strings, and `\udcff` in their repr. It is compiled at its first use,
# because most processes do not need it.
_ESCAPED_BYTE = r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])"


class PinnerfsError(Exception):
    """An expected error. The message says what failed, where, what was wanted and what came."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def reason_of(error: Exception) -> str:
    """Return the reason that an error gives: of one with an errno, that errno's text, without a path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def in_a_line(text: str) -> str:
    """Return text that quotes untrusted input, fit for one line of a terminal.

    Control characters become escapes, undecodable bytes become `\\xff`, and a long text loses its middle.
    """
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE // 2]}...{text[-LONGEST_LINE // 2 :]}"
    if text.isprintable() and "\\udc" not in text:
        return text
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return re.sub(_ESCAPED_BYTE, r"\1\\x\2", line)
