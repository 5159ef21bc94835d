"""Expectations of a scenario, checked against its records on a virtual clock."""

from __future__ import annotations

import pytest

from pinnerfs.check import ExpectationReport, check_expectations, check_seeds
from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from pinnerfs.sweep.points import ranges
from tests.workload.stories import source, task

# Two call sites: `slow` holds a page for 400 ms each second, from 0 s on, and `slower` for 700 ms every two seconds.
TASKS = [
    task("often", 'for = "1h", every = "1s", hold = "400ms"'),
    task("seldom", 'for = "1h", every = "2s", hold = "700ms"').replace('stack = "s"', 'stack = "t"'),
    '[stack.t]\nframes = ["slower+0x8/0x10 [mod]"]\n',
]


def report(*expectations: str) -> ExpectationReport:
    """Return the report on these expectations, each given as its keys."""
    tables = [f"[[expect]]\n{keys}\n" for keys in expectations]
    return check_expectations(parse(source(*TASKS, *tables, stack='frames = ["slow", "common"]')))


def result(keys: str) -> tuple[bool, str]:
    """Return whether a single expectation was met, and what came."""
    (one,) = report(keys).results
    return one.met, one.came


@pytest.mark.parametrize(
    ("keys", "met", "came"),
    [
        # The number of records.
        ("records = 9", True, "9 records, ts 400000us to 700000us"),
        ("records = 8", False, "9 records, ts 400000us to 700000us"),
        ("records = 10", False, "9 records, ts 400000us to 700000us"),
        ("records = { min = 9, max = 9 }", True, "9 records, ts 400000us to 700000us"),
        ("records = { min = 10 }", False, "9 records, ts 400000us to 700000us"),
        ("records = { max = 8 }", False, "9 records, ts 400000us to 700000us"),
        ("", True, "9 records, ts 400000us to 700000us"),
        # Whether a call site has records.
        ('call_site = "slow"', True, "6 of 9 records, ts 400000us"),
        ('call_site = "slower"\nrecords = 3', True, "3 of 9 records, ts 700000us"),
        ('call_site = "slower"\nrecords = 0', False, "3 of 9 records, ts 700000us"),
        ('call_site = "common"\nrecords = 6', True, "6 of 9 records, ts 400000us"),
        # Durations, of all records or of a call site's; both bounds are included.
        ('ts = { min = "400ms", max = "700ms" }', True, "9 records, ts 400000us to 700000us"),
        ('ts = { min = "400001us", max = "700ms" }', False, "9 records, ts 400000us to 700000us"),
        ('ts = { max = "699999us" }', False, "9 records, ts 400000us to 700000us"),
        ('ts = "400ms"', False, "9 records, ts 400000us to 700000us"),
        ('ts = "400ms"\ncall_site = "slow"', True, "6 of 9 records, ts 400000us"),
        # All of them must be met.
        ('ts = "400ms"\ncall_site = "slow"\nrecords = 5', False, "6 of 9 records, ts 400000us"),
        # Another threshold, from the start or from a later moment.
        ('threshold = "400ms"', True, "3 records, ts 700000us"),
        ('threshold = "400ms"\ncall_site = "slow"\nrecords = 0', True, "none of 3 records"),
        ('threshold = "400ms"\ncall_site = "slow"', False, "none of 3 records"),
        ('threshold = "1s"', False, "no records"),
        ('threshold = "1s"\ncall_site = "slow"', False, "no records"),
        ('threshold = "1s"\nts = "5s"\nrecords = { max = 3 }', True, "no records"),
        ('threshold = "300ms"\nsince = "3s"', True, "4 records, ts 400000us to 700000us"),
        ('threshold = "400ms"\nsince = "4500ms"', True, "1 record, ts 700000us"),
        ('threshold = "400ms"\nsince = "5900ms"\nrecords = 0', True, "no records"),
    ],
)
def test_each_kind(keys: str, met: bool, came: str) -> None:
    """An expectation is met or not, and the result says what came either way."""
    assert result(f'at = "5900ms"\n{keys}') == (met, came)


PAGES = task("gpu", 'for = "1h", every = "1s", hold = "400ms"', release="put_page", unmap="with-release")


@pytest.mark.parametrize(
    ("keys", "met", "came"),
    [
        ('kernel = "introduced"', False, "no records"),
        ('kernel = "pixel-5.10"\nfile = "alloc_contig_failed"\ncount = 0', True, "2 records, count 0"),
        ('kernel = "pixel-5.10"\nfile = "alloc_contig_failed"\nkind = "FREE"', True, "2 of 2 records"),
        ('kernel = "pixel-5.10"\nfile = "alloc_contig_failed"\nkind = "PUT"', False, "none of 2 records"),
        ('file = "alloc_contig_failed"\nmapcount = 0', True, "2 records, mapcount 0"),
        ('file = "alloc_contig_failed"\nmapcount = { min = 1 }', False, "2 records, mapcount 0"),
        ('kernel = "android14-6.1"\nrecords = 0', True, "no records"),
    ],
)
def test_on_other_kernels(keys: str, met: bool, came: str) -> None:
    """An expectation is played on its own kernel, or on the given one, and looks at its file and kind."""
    scenario = parse(source(PAGES, f'[[expect]]\nat = "2s"\n{keys}\n'))
    (one,) = check_expectations(scenario, kernel="pixel-5.10").results
    assert (one.met, one.came) == (met, came)


def test_the_references_of_a_page() -> None:
    """`count` and `mapcount` are about each record, as `ts` is."""
    held = task("held", 'for = "1h", every = "1s", hold = "400ms"')
    twice = task("twice", 'for = "1h", every = "1s", hold = "350ms"', share="held")
    scenario = parse(source(held, twice, '[[expect]]\nat = "900ms"\ncount = { min = 2, max = 9 }\nmapcount = 1\n'))
    (one,) = check_expectations(scenario, kernel="android12-5.10").results
    assert (one.met, one.came) == (True, "1 record, ts 350000us, count 3, mapcount 1")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ('threshold = "1s"', "expect 1: threshold = '1s': kernel android14-6.1 has no threshold"),
        ('file = "longterm_pinner"', "expect 1: file = 'longterm_pinner': kernel android14-6.1 has 'buffer'"),
    ],
)
def test_a_kernel_that_cannot_show_it(keys: str, reason: str) -> None:
    """Nothing is played, and the reason names the expectation and the kernel."""
    scenario = parse(source(PAGES, f'[[expect]]\nat = "2s"\n{keys}\n'))
    with pytest.raises(PinnerfsError) as caught:
        check_expectations(scenario, kernel="android14-6.1")
    assert (str(caught.value), caught.value.exit_status) == (reason, 2)


def test_the_moment_is_included() -> None:
    """A check at a moment includes the records of that moment."""
    assert result('at = "400ms"')[0]
    assert not result('at = "399999us"')[0]


def test_a_threshold_clears_the_records_of_its_moment() -> None:
    """A release at the moment of the write happens before the write, so its record is cleared."""
    assert result('at = "500ms"\nthreshold = "1ms"\nsince = "400ms"') == (False, "no records")
    assert result('at = "500ms"\nthreshold = "1ms"\nsince = "399999us"') == (True, "1 record, ts 400000us")


def test_expectations_do_not_disturb_each_other() -> None:
    """Results come in the order of the file, and each is the same as if its expectation were alone."""
    several = [
        'at = "9s"\nrecords = 14',
        'at = "3s"\nthreshold = "400ms"\nrecords = 2',
        'at = "1s"\nrecords = 2',
        'at = "9s"\nthreshold = "400ms"\nsince = "3s"\nrecords = 2',
        'at = "1s"\nthreshold = "400ms"\nrecords = 9',
    ]
    together = report(*several)
    assert [one.met for one in together.results] == [True, True, True, False, False]
    assert [(one.met, one.came) for one in together.results] == [result(keys) for keys in several]


def test_the_time_played() -> None:
    """A scenario is played once for each threshold that is written, up to the last moment under it."""
    assert report('at = "2s"', 'at = "5s"').played == 5_000_000
    assert report('at = "2s"', 'at = "5s"\nthreshold = "1s"', 'at = "3s"\nthreshold = "1s"').played == 7_000_000
    assert report('at = "0s"').played == 0


def test_a_full_ring() -> None:
    """Overwritten records do not count."""
    storm = task("storm", 'repeat = 5000, every = "1ms", hold = "400ms"')
    (one,) = check_expectations(parse(source(storm, '[[expect]]\nat = "10s"\nrecords = 4096\n'))).results
    assert (one.met, one.came) == (True, "4096 records, ts 400000us")


# How often the page is held for more than 300 ms in 10 s depends on the seed.
RANDOM = task("t", 'for = "1h", every = "1s", hold = { dist = "uniform", min = "0ms", max = "600ms" }')


def test_each_seed() -> None:
    """An expectation is met if it is with each seed. Otherwise the result tells what came with the first that fails."""
    scenario = parse(source(RANDOM, '[[expect]]\nat = "10s"\nrecords = { min = 4, max = 7 }\n[[expect]]\nat = "10s"\n'))
    alone = {seed: check_expectations(scenario, seed=seed) for seed in range(30)}
    failing = tuple(seed for seed, one in alone.items() if not one.results[0].met)
    assert 2 <= len(failing) < 30
    found = check_seeds(scenario, range(30))
    few, any_ = found.results
    first = alone[failing[0]].results[0]
    assert (few.met, few.numbers, few.failing_seeds) == (False, first.numbers, failing)
    assert few.came == f"{first.came} with seed {failing[0]}; {len(failing)} of 30 seeds fail: {ranges(failing)}"
    assert (any_.met, any_.came, any_.failing_seeds) == (True, "that with 30 seeds", ())
    assert found.played == 300_000_000
    (one, _) = check_seeds(scenario, failing[:1]).results
    assert one.came == f"{first.came} with seed {failing[0]}; 1 of 1 seed fails"
