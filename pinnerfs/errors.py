"""The one class of expected errors: what went wrong, in words, with the exit status to leave with."""

from __future__ import annotations

import os

__all__ = ["BAD_INPUT", "NO_FUSE", "PinnerfsError", "in_a_line"]

NO_FUSE = os.EX_UNAVAILABLE  # the exit status where this machine cannot mount through FUSE, whatever one asks for
BAD_INPUT = 2  # and where what was typed, or a scenario, is wrong

LONGEST_LINE = 1000


class PinnerfsError(Exception):
    """Something a user can mend. The message says what, where, what was wanted and what came."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def in_a_line(text: str) -> str:
    """Words that quote what anyone may have written, fit for a terminal: no controls, and not without end."""
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE // 2]}...{text[-LONGEST_LINE // 2 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
