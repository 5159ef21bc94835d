"""Budgets for a report: conditions under which a CI job fails."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from pinnerfs.report import units
from pinnerfs.report.selection import Totals
from pinnerfs.scenario.quantities import parse_time

__all__ = ["Budget", "parse_budget"]

_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
_TIMES = ("max", "p99")


class Budget(NamedTuple):
    """A condition on a total. Times are µs."""

    field: str
    operator: str
    value: int

    def why_unknown(self, totals: Totals) -> str | None:
        """Return why nothing tells whether the condition is true; None if something does."""
        if not totals.records or getattr(totals, self.field) is not None:
            return None
        what = "names functions" if self.field == "refused" else "has a duration"
        return f"no record that counts {what}, so a budget for {self.field} cannot be checked"

    def broken(self, totals: Totals) -> str | None:
        """Return the condition that is true with these totals, in words; None if it is false or has no value."""
        value: int | None = getattr(totals, self.field)
        if value is None or not _OPERATORS[self.operator](value, self.value):
            return None
        as_text = units.duration if self.field in _TIMES else str
        return f"{self.field} is {as_text(value)}, and the budget fails if it is {self.operator} {as_text(self.value)}"


def parse_budget(text: str) -> Budget:
    """Return the budget of a text such as "max > 1s". Raise ValueError for any other text."""
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(.*?)\s*", text)
    if match is None or match[1] not in Totals.__struct_fields__:
        fields = ", ".join(Totals.__struct_fields__)
        raise ValueError(
            f"{text!r}: wanted FIELD OP VALUE, such as 'max > 1s'; "
            f"FIELD is one of {fields}; OP is one of {', '.join(_OPERATORS)}"
        )
    field, operation, value = match.groups()
    if field in _TIMES:
        return Budget(field, operation, parse_time(field, value))
    if re.fullmatch(r"[0-9]{1,18}", value, re.ASCII) is None:
        raise ValueError(f"{text!r}: wanted a whole number for {field}, such as '{field} > 0'")
    return Budget(field, operation, int(value))
