"""What an expectation may say, and how it is put in words."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.gallery import parse
from tests.workload.stories import source, task

PHASE = 'for = "1s", every = "10ms", hold = "1ms"'


def expecting(keys: str, stack: str = 'frames = ["who", "what+0x8/0x10 [mod]"]') -> str:
    """A scenario with one expectation, of these keys."""
    return source(task("a", PHASE), f"[[expect]]\n{keys}\n", stack=stack)


def expectation(keys: str) -> Expectation:
    """The expectation of these keys."""
    (one,) = parse(expecting(keys)).expect
    return one


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("records = 1", r"missing required field `at` - at `\$\.expect\[0\]`$"),
        ("at = 60", r"at = 60 has no unit: write a string such as '300ms' - at `\$\.expect\[0\]`$"),
        ('at = "1m"', r"at = '1m' must be a number and a unit \(us, ms, s, min, h\), such as '300ms' - at"),
        ('at = "9999h"', r"at = '9999h' is longer than a year"),
        ('at = "1s"\nblames = "who"', r"unknown field `blames` - at `\$\.expect\[0\]`$"),
        ('at = "1s"\nthreshold = 1000', r"threshold = 1000 has no unit"),
        ('at = "1s"\nsince = "1s"', r"since = '1s' must stand beside the `threshold` that is written then"),
        ('at = "1s"\nthreshold = "1s"\nsince = 5', r"since = 5 has no unit"),
        ('at = "1s"\nthreshold = "1s"\nsince = "2s"', r"since = '2s' lies behind at = '1s' - at `\$\.expect\[0\]`$"),
        ('at = "1s"\nrecords = -1', r"records = -1 must lie from 0 to 4096, what the ring holds"),
        ('at = "1s"\nrecords = 4097', r"records = 4097 must lie from 0 to 4096"),
        ('at = "1s"\nrecords = "3"', r"Expected `int \| table`, got `str` - at `\$\.expect\[0\]\.records`$"),
        (
            'at = "1s"\nrecords = { min = 5, max = 4 }',
            r"records = \{ min = 5, max = 4 \} must lie from 0 to 4096, .*max",
        ),
        ('at = "1s"\nrecords = { max = 5000 }', r"records = \{ min = 0, max = 5000 \} must lie from 0 to 4096"),
        (
            'at = "1s"\nrecords = {}',
            r"records = \{ min = 0, max = 4096 \} always holds: narrow it, or want a `ts` - at",
        ),
        ('at = "1s"\nrecords = { most = 5 }', r"unknown field `most` - at `\$\.expect\[0\]\.records`$"),
        ('at = "1s"\nts = 5', r"ts = 5 has no unit"),
        (
            'at = "1s"\nts = []',
            r"Expected `int \| float \| str \| table \| null`, got `array` - at `\$\.expect\[0\]\.ts`$",
        ),
        ('at = "1s"\nts = { min = 5 }', r"ts\.min = 5 has no unit: .* - at `\$\.expect\[0\]`$"),
        ('at = "1s"\nts = { min = "5s", max = "4s" }', r"ts\.min = '5s' is above ts\.max = '4s'"),
        ('at = "1s"\nts = { least = "5s" }', r"unknown field `least` - at `\$\.expect\[0\]\.ts`$"),
        ('at = "1s"\nrecords = 0\nts = "1s"', r"ts goes with records: leave it out where there are to be none"),
        ('at = "1s"\nts = "1s"\nrecords = { max = 0 }', r"ts goes with records"),
        ('at = "1s"\ncall_site = "whom"', r"expect\[0\]: call_site = 'whom' must be a symbol of the stacks' frames"),
        ('at = "1s"\ncall_site = ""', r"call_site = '' must be a symbol"),
        ('at = "1s"\ncall_site = "what+0x8/0x10"', r"must be a symbol .*, without offset and module$"),
    ],
)
def test_refusals(keys: str, words: str) -> None:
    """What an expectation may not say is refused with its place, what was wanted and what came."""
    with pytest.raises(PinnerfsError) as caught:
        parse(expecting(keys))
    assert re.search(words, str(caught.value))


def test_one_table_where_several_may_be() -> None:
    """[expect] in place of [[expect]] is answered with how to write it."""
    text = expecting('at = "1s"').replace("[[expect]]", "[expect]")
    with pytest.raises(PinnerfsError, match=r"at `\$\.expect`: write \[\[expect\]\] instead of \[expect\]$"):
        parse(text)


def test_a_scenario_expects_nothing_unless_it_says_so() -> None:
    """Expectations may be left out."""
    assert parse(source(task("a", PHASE))).expect == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('at = "1s"', "at 1s: at least 1 record"),
        ('at = "1s"\nrecords = 1', "at 1s: 1 record"),
        ('at = "1s"\nrecords = 0', "at 1s: no records"),
        ('at = "2min"\nrecords = 12\ncall_site = "what"', "at 2min: 12 records of what"),
        ('at = "1s"\nrecords = { min = 2 }', "at 1s: at least 2 records"),
        ('at = "1s"\nrecords = { min = 1, max = 20 }', "at 1s: 1 to 20 records"),
        ('at = "1s"\nrecords = { max = 1 }', "at 1s: 0 to 1 records"),
        ('at = "1s"\nrecords = 2\nts = "400ms"', "at 1s: 2 records, each ts 400ms"),
        ('at = "1s"\nts = { min = "1s" }', "at 1s: at least 1 record, each ts 1s to 100h"),
        ('at = "1s"\nthreshold = "5ms"\nrecords = 0', "at 1s, threshold 5ms since the start: no records"),
        ('at = "1s"\nrecords = {}\nts = "1s"', "at 1s: at least 0 records, each ts 1s"),
        ('at = "9s"\nthreshold = "5ms"\nsince = "5s"', "at 9s, threshold 5ms since 5s: at least 1 record"),
    ],
)
def test_words(keys: str, words: str) -> None:
    """An expectation is put in words, as it stands in the file."""
    one = expectation(keys)
    assert f"{one.when()}: {one.wanted()}" == words
