"""The table of what a user-space file system cannot imitate: data beside the cases, and the README's copy of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CAVEATS", "END", "START", "Caveat", "judge", "section", "table"]

START, END = "<!-- caveats -->", "<!-- /caveats -->"
README = Path(__file__).parents[2] / "README.md"


@dataclass(frozen=True)
class Caveat:
    """What differs, in words; and where: in cases of this name, in answers of this name (regular expressions)."""

    what: str
    why: str
    case: str
    answer: str
    kernel: str = ".*"

    def covers(self, case: str, answer: str, kernel: str) -> bool:
        """Whether an answer of a case, such as `stdout` or `read(0)`, is among those that it speaks of."""
        return (
            re.fullmatch(self.case, case.removeprefix("further:")) is not None
            and re.fullmatch(self.answer, answer, re.DOTALL) is not None
            and re.fullmatch(self.kernel, kernel) is not None
        )


def _load() -> list[Caveat]:
    data = tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())
    return [
        Caveat(what=caveat["what"], why=caveat["why"], **where)
        for caveat in data["caveat"]
        for where in caveat["where"]
    ]


CAVEATS = _load()


def judge(case: str, kernel: str, answers: Iterable[str], differing: dict[str, str]) -> tuple[list[str], list[Caveat]]:
    """What is wrong with a case, and the caveats that excuse it.

    `answers` are the names of all its answers; `differing` those that differ, with how. An answer that differs must
    be covered by a caveat; one that is covered must differ.
    """
    wrong, used = [], []
    for answer in answers:
        found = [caveat for caveat in CAVEATS if caveat.covers(case, answer, kernel)]
        if answer in differing and not found:
            wrong.append(f"{answer}: {differing[answer]}")
        elif found and answer not in differing:
            wrong.append(f"{answer} is as recorded, so the caveat {found[0].what!r} is no longer true of it")
        elif found:
            used.append(found[0])
    return wrong, used


def table() -> str:
    """The table in Markdown."""
    data = tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())
    lines = ["| what differs | why |", "|---|---|"]
    lines += [f"| {caveat['what']} | {caveat['why']} |" for caveat in data["caveat"]]
    return "\n".join(lines)


def section(text: str) -> str | None:
    """What stands between the marks of the README, or None where there are none."""
    match = re.search(f"{re.escape(START)}\n(.*?)\n?{re.escape(END)}", text, re.DOTALL)
    return None if match is None else match[1].strip()


if __name__ == "__main__":
    print(table())
