"""Load caveats.toml, which lists what a FUSE file system cannot imitate, and print it for fuse/README.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pinnerfs
from tests.oracle.comparison import Comparison

__all__ = ["CAVEATS", "END", "START", "Caveat", "judge", "section", "table"]

START, END = "<!-- caveats -->", "<!-- /caveats -->"
PAGE = Path(pinnerfs.__file__).parent / "fuse" / "README.md"


@dataclass(frozen=True)
class Caveat:
    """A difference from a real kernel and the answers that show it; see caveats.toml for the fields."""

    what: str
    why: str
    answer: str
    case: str = ".*"
    recorded: str = ""
    gives: str = ""

    def covers(self, case: str, answer: Comparison) -> bool:
        """Return whether the caveat applies to an answer of a case."""
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


def judge(case: str, answers: Iterable[Comparison]) -> tuple[list[str], list[Caveat]]:
    """Return the failures of a case, and the caveats that apply to it.

    A caveat must cover each answer that differs, and state the answer that replaces it. If a caveat covers answers of a
    case, at least one of them must differ. Not all need to: calls on an O_PATH descriptor fail alike on both sides.
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
            wrong.append(f"{answer.name}: expected {caveat.gives!r} from the caveat {caveat.what!r}, got {answer.got}")
    wrong += [
        f"every answer is as recorded, so this caveat is no longer true: {caveat}"
        for caveat, differed in used.items()
        if not differed
    ]
    return wrong, [caveat for caveat, differed in used.items() if differed]


def table() -> str:
    """Return the table in Markdown."""
    data = tomllib.loads((Path(__file__).parent / "caveats.toml").read_text())
    lines = ["| what differs | why |", "|---|---|"]
    lines += [f"| {caveat['what']} | {caveat['why']} |" for caveat in data["caveat"]]
    return "\n".join(lines)


def section(text: str) -> str | None:
    """Return the text between the marks of the page, or None if it has no marks."""
    match = re.search(f"{re.escape(START)}\n(.*?)\n?{re.escape(END)}", text, re.DOTALL)
    return None if match is None else match[1].strip()


if __name__ == "__main__":
    print(table())
