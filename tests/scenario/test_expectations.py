"""The check of expectations, and their description in words."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.gallery import parse
from tests.workload.stories import source, task

PHASE = 'for = "1s", every = "10ms", hold = "1ms"'


def expecting(keys: str, stack: str = 'frames = ["who", "what+0x8/0x10 [mod]"]') -> str:
    """Return a scenario with one expectation that has these keys."""
    return source(task("a", PHASE), f"[[expect]]\n{keys}\n", stack=stack)


def expectation(keys: str) -> Expectation:
    """Return the expectation with these keys."""
    (one,) = parse(expecting(keys)).expect
    return one


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("records = 1", "expect 1: the key 'at' is missing"),
        ("at = 60", "expect 1: at = 60 has no unit: write a string such as '300ms'"),
        ('at = "1m"', "expect 1: at = '1m' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
        ('at = "9999h"', "expect 1: at = '9999h' is longer than a year"),
        (
            'at = "1s"\nblames = "who"',
            (
                "expect 1: unknown key 'blames': the keys are at, kernel, file, kind, threshold, since, call_site, "
                "records, ts, count, mapcount, allocs"
            ),
        ),
        ('at = "1s"\nthreshold = 1000', "expect 1: threshold = 1000 has no unit: write a string such as '300ms'"),
        ('at = "1s"\nsince = "1s"', "expect 1: since = '1s' is when `threshold` is written: add the `threshold`"),
        ('at = "1s"\nthreshold = "1s"\nsince = 5', "expect 1: since = 5 has no unit: write a string such as '300ms'"),
        ('at = "1s"\nthreshold = "1s"\nsince = "2s"', "expect 1: since = '2s' is after at = '1s'"),
        (
            'at = "1s"\nrecords = -1',
            "expect 1: records = -1 must be from 0 to 4096, the size of the ring, with min at most max",
        ),
        (
            'at = "1s"\nrecords = 4097',
            "expect 1: records = 4097 must be from 0 to 4096, the size of the ring, with min at most max",
        ),
        ('at = "1s"\nrecords = "3"', "expect 1: records = '3' is a string: it must be an integer or a table"),
        (
            'at = "1s"\nrecords = { min = 5, max = 4 }',
            (
                "expect 1: records = { min = 5, max = 4 } must be from 0 to 4096, the size of the ring, with min "
                "at most max"
            ),
        ),
        (
            'at = "1s"\nrecords = { max = 5000 }',
            (
                "expect 1: records = { min = 0, max = 5000 } must be from 0 to 4096, the size of the ring, with "
                "min at most max"
            ),
        ),
        (
            'at = "1s"\nrecords = {}',
            "expect 1: records = { min = 0, max = 4096 } is always true: narrow it, or add a `ts`",
        ),
        ('at = "1s"\nrecords = { most = 5 }', "expect 1, records: unknown key 'most': the keys are min, max"),
        ('at = "1s"\nts = 5', "expect 1: ts = 5 has no unit: write a string such as '300ms'"),
        (
            'at = "1s"\nts = []',
            "expect 1: ts = [] is an array: it must be a string or a table",
        ),
        ('at = "1s"\nts = { min = 5 }', "expect 1: ts.min = 5 has no unit: write a string such as '300ms'"),
        ('at = "1s"\nts = { min = "5s", max = "4s" }', "expect 1: ts.min = '5s' is above ts.max = '4s'"),
        ('at = "1s"\nts = { least = "5s" }', "expect 1, ts: unknown key 'least': the keys are min, max"),
        ('at = "1s"\nrecords = 0\nts = "1s"', "expect 1: ts is about records, and there must be none: leave it out"),
        (
            'at = "1s"\nts = "1s"\nrecords = { max = 0 }',
            "expect 1: ts is about records, and there must be none: leave it out",
        ),
        (
            'at = "1s"\ncall_site = "whom"',
            (
                "expect 1: call_site = 'whom' must be a symbol of the stacks' frames, without offset and module; "
                "did you mean 'who'?"
            ),
        ),
        (
            'at = "1s"\nkernel = "pixel-5.1"',
            (
                "expect 1: kernel = 'pixel-5.1' must be one of 'introduced', 'android12-5.10-early', 'android12-5.10', "
                "'pixel-5.10', 'android13-5.10-buffer', 'android14-5.15', 'android14-6.1', 'android15-6.6'; "
                "did you mean 'pixel-5.10'?"
            ),
        ),
        (
            'at = "1s"\nfile = "buffers"',
            (
                "expect 1: file = 'buffers' must be one of 'longterm_pinner', 'alloc_contig_failed', 'buffer'; "
                "did you mean 'buffer'?"
            ),
        ),
        ('at = "1s"\nkind = "GET"', "expect 1: kind = 'GET' must be one of 'DETECT', 'FREE', 'PUT'"),
        (
            'at = "1s"\nkernel = "android14-6.1"\nfile = "longterm_pinner"',
            "expect 1: file = 'longterm_pinner': kernel android14-6.1 has 'buffer'",
        ),
        (
            'at = "1s"\nkernel = "android14-6.1"\nthreshold = "1s"',
            "expect 1: threshold = '1s': kernel android14-6.1 has no threshold",
        ),
        (
            'at = "1s"\nkernel = "android12-5.10"\nkind = "FREE"',
            "expect 1: kind = 'FREE': kernel android12-5.10 has no kinds of records in longterm_pinner",
        ),
        (
            'at = "1s"\nkernel = "pixel-5.10"\nkind = "FREE"',
            "expect 1: kind = 'FREE': kernel pixel-5.10 has only 'PUT' in longterm_pinner",
        ),
        (
            'at = "1s"\nkernel = "introduced"\nmapcount = 1',
            "expect 1: mapcount: kernel introduced has none in longterm_pinner",
        ),
        (
            'at = "1s"\nkernel = "android14-6.1"\nts = "1s"',
            (
                "expect 1: ts: kernel android14-6.1 has a boot time and no duration in these records of buffer: "
                'add kind = "PUT"'
            ),
        ),
        (
            'at = "1s"\nkernel = "android14-6.1"\nkind = "DETECT"\nts = "1s"',
            "expect 1: ts: kernel android14-6.1 has a boot time and no duration in these records of buffer",
        ),
        (
            'at = "1s"\ncount = -1',
            "expect 1: count = -1 must be from 0 to 2147483647, with min at most max",
        ),
        (
            'at = "1s"\nmapcount = { min = 2, max = 1 }',
            "expect 1: mapcount = { min = 2, max = 1 } must be from 0 to 2147483647, with min at most max",
        ),
        ('at = "1s"\nrecords = 0\ncount = 1', "expect 1: count is about records, and there must be none: leave it out"),
        ('at = "1s"\ncall_site = ""', "expect 1: call_site is empty: it must be a symbol, or leave it out"),
        (
            'at = "1s"\ncall_site = "what+0x8/0x10"',
            "expect 1: call_site = 'what+0x8/0x10' must be a symbol of the stacks' frames, without offset and module",
        ),
    ],
)
def test_refusals(keys: str, words: str) -> None:
    """A wrong expectation is refused with its place, what was wanted and what came."""
    with pytest.raises(PinnerfsError) as caught:
        parse(expecting(keys))
    assert re.sub(r"^scenario:[0-9]+: ", "", str(caught.value)) == words


def test_one_table_where_several_may_be() -> None:
    """[expect] in place of [[expect]] is answered with how to write it."""
    text = expecting('at = "1s"').replace("[[expect]]", "[expect]")
    with pytest.raises(PinnerfsError, match=r"write \[\[expect\]\] instead of \[expect\]$"):
        parse(text)


def test_a_scenario_expects_nothing_unless_it_says_so() -> None:
    """Expectations are optional."""
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
        ('at = "9s"\nkernel = "pixel-5.10"\nrecords = 2', "at 9s on pixel-5.10: 2 records"),
        ('at = "9s"\nfile = "buffer"\nkind = "PUT"\nts = "1s"', "at 9s: at least 1 PUT record in buffer, each ts 1s"),
        (
            'at = "9s"\ncount = 2\nmapcount = { min = 1 }',
            "at 9s: at least 1 record, each count 2, each mapcount 1 or more",
        ),
        ('at = "9s"\ncount = { max = 3 }', "at 9s: at least 1 record, each count 0 to 3"),
    ],
)
def test_words(keys: str, words: str) -> None:
    """An expectation is described with the quantities as the file has them."""
    one = expectation(keys)
    assert f"{one.when()}: {one.wanted()}" == words
