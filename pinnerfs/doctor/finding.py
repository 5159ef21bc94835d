"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What a check found. `remedy` is the command that mends it, if there is one.

    An error prevents `mount` or `run` for this user. A warning is about another feature, or about other users.
    """

    name: str
    state: Literal["ok", "warning", "error"]
    text: str
    remedy: str | None = None

    @property
    def line(self) -> str:
        """Return the finding as a line of text."""
        remedy = "" if self.remedy is None else f"; to mend it: {self.remedy}"
        return f"{self.state:7} {self.name}: {self.text}{remedy}"
