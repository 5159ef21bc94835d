"""The place of a mistake: its line, and the names of its tables."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse

SOURCE = """\
format = 1
name = "story"
description = "for a test"

[memory]
size = "64MiB"
[[memory.region]]
name = "normal"
size = "32MiB"
[[memory.region]]  # the second
name = "cma"
size = "16MiB"

[stack.s]
frames = ["who"]
[stack."t"]
frames = ["what"]

[[task]]
name = "first"
stack = "s"
region = "normal"
[[task.phase]]
for = "1s"
every = "10ms"
hold = "1ms"

[[task]]
stack = "s"
region = "normal"
name = "second"
phase = [
    { for = "1s" },
    { for = "1s", every = "10ms", hold = "5ms" },
]
[[task]]
name = "third"
stack = "s"
region = "normal"

[[task.phase]]
for = "1s"

[[task.phase]]
repeat = 7
every = "10ms"
hold = { dist = "uniform", min = "1ms", max = "2ms" }

[[expect]]
at = "1s"
records = 0
"""


def _line(text: str) -> int:
    return SOURCE[: SOURCE.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("format = 1", "format = 2", ""),
        ("format = 1", 'format = 1; seed = ""'.replace("; ", "\n"), ""),
        ('size = "64MiB"', "size = 64", "memory: "),
        ('name = "cma"', 'nam = "cma"', "region 2: "),
        ('size = "16MiB"', "size = 16", 'region "cma": '),
        ('["what"]', '["what is this"]', 'stack "t": '),
        ('name = "first"', 'name = "first"\norder = 30', 'task "first": '),
        ('hold = "1ms"', 'hld = "1ms"', 'task "first", phase 1: '),
        ("repeat = 7", "repeat = 0", 'task "third", phase 2: '),
        ('min = "1ms"', 'mn = "1ms"', 'task "third", phase 2, hold: '),
        ('at = "1s"', 'at = "1"', "expect 1: "),
    ],
)
def test_positions(old: str, new: str, place: str) -> None:
    """A message names the line of the key, and the tables that it is in."""
    message = _refusal(SOURCE.replace(old, new))
    line = _line(old) + new.count("\n")
    assert message.startswith(f"scenario:{line}: {place}"), message


@pytest.mark.parametrize(
    ("old", "new", "header", "place"),
    [
        # A key that is missing is told by its table, and an inline table by the key that it belongs to.
        ('name = "cma"\n', "", "[[memory.region]]  # the second", "region 2: "),
        ('frames = ["what"]', "", '[stack."t"]', 'stack "t": '),
        ('hold = "1ms"', "", '[[task.phase]]\nfor = "1s"\nevery', 'task "first": phase 1 must have'),
        ('hold = "5ms"', "hold = 5", "phase = [", 'task "second", phase 2: '),
        ("[[expect]]", "[[expects]]", "[[expect]]", "unknown key 'expects'"),
        ("[[task.phase]]\nfor", "[task.phase]\nfor", "[[task.phase]]\nfor", 'task "first": phase is a table'),
    ],
)
def test_positions_of_tables(old: str, new: str, header: str, place: str) -> None:
    """Where no line sets the key, the message has the line of the table's header."""
    assert _refusal(SOURCE.replace(old, new, 1)).startswith(f"scenario:{_line(header)}: {place}")


def test_no_line_rather_than_a_wrong_one() -> None:
    """Where headers and tables differ in number, as by a header in a string, the message names the table alone."""
    text = SOURCE.replace('"for a test"', '"""\\\n[[task]] # for a test"""').replace('hold = "1ms"', "hold = 1")
    assert _refusal(text).startswith('task "first", phase 1: ', len("scenario: "))


def test_the_lines_of_a_file_with_carriage_returns() -> None:
    """Lines that end as on Windows count as others do."""
    message = _refusal(SOURCE.replace("repeat = 7", "repeat = 0").replace("\n", "\r\n"))
    assert re.match(rf'scenario:{_line("repeat = 7")}: task "third", phase 2: ', message)


def test_a_limit_has_the_line_of_its_task() -> None:
    """A limit names the line of the task that asks most."""
    message = _refusal(SOURCE.replace('name = "third"', 'name = "third"\ninstances = 16383'))
    line = _line('name = "third"') + 1
    assert message == (
        f'scenario:{line}: task "third" needs 16383 instances, of 16385 for all tasks '
        "(limit 16384; raise it with --limit instances=N)"
    )


def _refusal(text: str) -> str:
    with pytest.raises(PinnerfsError) as caught:
        parse(text)
    return str(caught.value)
