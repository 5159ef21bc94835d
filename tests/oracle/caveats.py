"""The caveats as data, and as the table of the README: `python -m tests.oracle.caveats` prints it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.oracle.cases import Case

__all__ = ["Caveat", "caveat_of", "table"]


@dataclass(frozen=True)
class Caveat:
    """Cases (and, if given, only these calls of them) that cannot answer alike, and why."""

    cases: list[str]
    what: str
    why: str
    calls: list[str] | None = None

    def covers(self, call: str) -> bool:
        """Whether a call of such a case is among those that cannot."""
        return self.calls is None or any(fnmatchcase(call, pattern) for pattern in self.calls)


CAVEATS = [Caveat(**entry) for entry in tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())["caveat"]]


def caveat_of(case: Case) -> Caveat | None:
    """The caveat that a case stands under, if any."""
    return next((one for one in CAVEATS if any(fnmatchcase(case.name, name) for name in one.cases)), None)


def table() -> str:
    """The caveats in Markdown."""
    rows = [f"| {caveat.what} | {caveat.why} |" for caveat in CAVEATS]
    return "\n".join(["| what differs | why |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
