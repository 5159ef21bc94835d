"""Keys and types, compared with the schema."""

from __future__ import annotations

import pytest

from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, task


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[task]]", "[task]", "task is a table: it must be an array of tables: write [[task]] instead of [task]"),
        (
            f"[{{ {PHASE} }}]",
            f"{{ {PHASE} }}",
            'task "a": phase is a table: it must be an array of tables: write [[task.phase]] instead of [task.phase]',
        ),
        ('flags = ["uptodate", "lru"]', "flags = {}", 'region "normal": flags is a table: it must be an array'),
    ],
)
def test_one_table_where_several_may_be(old: str, new: str, words: str) -> None:
    """[task] in place of [[task]] is answered with how to write it; other arrays have no such hint."""
    assert refusal(source(task("a", PHASE)).replace(old, new)) == words


@pytest.mark.parametrize(
    ("value", "came"),
    [
        ('"x"', "seed = 'x' is a string"),
        ("true", "seed = true is a boolean"),
        ("1.5", "seed = 1.5 is a float"),
        ("[1]", "seed is an array"),
        ("{}", "seed is a table"),
        ("1979-05-27", "seed = 1979-05-27 is a date-time"),
        ("07:32:00", "seed = 07:32:00 is a date-time"),
    ],
)
def test_wrong_types(value: str, came: str) -> None:
    """A value of a wrong type is refused in the words of TOML, with the value."""
    assert refusal(source(task("a", PHASE), top=f"seed = {value}")) == f"{came}: it must be an integer"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("race = true", "race = true is a boolean: it must be a float"),
        ("duration = true", "duration = true is a boolean: it must be a string"),
        ("expect = [1]", "expect: entry 1 = 1 is an integer: it must be a table"),
    ],
)
def test_what_was_wanted(keys: str, words: str) -> None:
    """The wanted types are those of TOML, without the null of a default."""
    assert refusal(source(task("a", PHASE), top=keys)) == words


def test_an_entry_of_a_wrong_type() -> None:
    """An entry of an array is counted from 1."""
    words = refusal(source(task("a", PHASE)).replace('"uptodate", "lru"', '"uptodate", 3'))
    assert words == 'region "normal", flags: entry 2 = 3 is an integer: it must be a string'


def test_an_integer_of_thousands_of_digits() -> None:
    """An integer too long to be written in decimal is refused, too."""
    assert "seed = 0xffff" in refusal(source(task("a", PHASE), top=f"seed = 0x{'f' * 9000}"))


def test_a_stack_without_a_name() -> None:
    """[stack] in place of [stack.NAME] is answered with how to write it."""
    words = refusal(source(task("a", PHASE)).replace("[stack.s]", "[stack]"))
    assert words == "stack: frames is an array: it must be a table: write [stack.NAME] above the keys of a stack"
