"""The table of what a user-space file system cannot imitate: data beside the cases, and the page's copy of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pinnerfs
from tests.oracle.forms import Answered

__all__ = ["CAVEATS", "END", "START", "Caveat", "judge", "section", "table"]

START, END = "<!-- caveats -->", "<!-- /caveats -->"
PAGE = Path(pinnerfs.__file__).parent / "fuse" / "README.md"


@dataclass(frozen=True)
class Caveat:
    """What differs, in words; and where: as caveats.toml has it."""

    what: str
    why: str
    answer: str
    case: str = ".*"
    recorded: str = ""
    gives: str = ""

    def covers(self, case: str, answer: Answered) -> bool:
        """Whether an answer of a case is among those that it speaks of."""
        return (
            re.fullmatch(self.case, case) is not None
            and re.fullmatch(self.answer, answer.name, re.DOTALL) is not None
            and re.search(self.recorded, answer.recorded) is not None
        )


def _load() -> list[Caveat]:
    data = tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())
    return [
        Caveat(what=caveat["what"], why=caveat["why"], **where)
        for caveat in data["caveat"]
        for where in caveat["where"]
    ]


CAVEATS = _load()


def judge(case: str, answers: Iterable[Answered]) -> tuple[list[str], list[Caveat]]:
    """What is wrong with a case, and the caveats that excuse it.

    An answer that differs must be covered by a caveat, which says what came instead. Of the answers that a caveat
    covers in a case some must differ (a descriptor opened with O_PATH has every call answered alike).
    """
    wrong: list[str] = []
    used: dict[Caveat, bool] = {}
    for answer in answers:
        caveat = next((caveat for caveat in CAVEATS if caveat.covers(case, answer)), None)
        if caveat is not None:
            used[caveat] = used.get(caveat, False) or not answer.same
        if answer.same:
            continue
        if caveat is None:
            wrong.append(f"{answer.name}: recorded {answer.recorded}, got {answer.got}")
        elif not re.search(caveat.gives, answer.got):
            wrong.append(f"{answer.name}: {caveat.gives!r} is what the caveat {caveat.what!r} says, got {answer.got}")
    wrong += [f"as recorded, so this is no longer true: {caveat}" for caveat, differed in used.items() if not differed]
    return wrong, [caveat for caveat, differed in used.items() if differed]


def table() -> str:
    """The table in Markdown."""
    data = tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())
    lines = ["| what differs | why |", "|---|---|"]
    lines += [f"| {caveat['what']} | {caveat['why']} |" for caveat in data["caveat"]]
    return "\n".join(lines)


def section(text: str) -> str | None:
    """What stands between the marks of the page, or None where there are none."""
    match = re.search(f"{re.escape(START)}\n(.*?)\n?{re.escape(END)}", text, re.DOTALL)
    return None if match is None else match[1].strip()


if __name__ == "__main__":
    print(table())
