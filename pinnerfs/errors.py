"""The one class of expected errors: what went wrong, in words, with the exit status to leave with."""

from __future__ import annotations

import os

__all__ = ["NO_FUSE", "PinnerfsError"]

NO_FUSE = os.EX_UNAVAILABLE  # the exit status where this machine cannot mount through FUSE, whatever one asks for


class PinnerfsError(Exception):
    """Something a user can mend. The message says what, where, what was wanted and what came."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
