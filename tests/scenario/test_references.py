"""What the tables of a scenario say about each other."""

from __future__ import annotations

import pytest

from pinnerfs import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import alloc, source, story, task


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task("a", PHASE), task("a", PHASE)], "two tasks have the name 'a'"),
        (
            [task("a", 'for = "1s"')],
            'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`',
        ),
        ([task("a")], 'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`'),
        ([task("a", PHASE, share="b")], "task \"a\": share = 'b': this scenario has no other task"),
        ([task("a", PHASE), task("b", PHASE, share="c")], "task \"b\": share = 'c' must be one of 'a'"),
        (
            [task("a", PHASE), task("b", PHASE, share="b")],
            "task \"b\": share = 'b' is the task itself: it must be another task",
        ),
        ([task("a", PHASE, share="a")], "task \"a\": share = 'a' is the task itself: it must be another task"),
        (
            [task("a", PHASE), task("b", PHASE, share="a"), task("c", PHASE, share="b")],
            "task \"c\": share = 'b' must be a task with pages of its own, but that task shares, too",
        ),
        (
            [task("a", PHASE), task("b", PHASE, share="a", pages=1)],
            "task \"b\": share = 'a' takes another task's pages: leave out region, pages, order, pick and pfn",
        ),
        (
            [task("a", PHASE), task("b", PHASE, share="a", region="cma")],
            "task \"b\": share = 'a' takes another task's pages: leave out region, pages, order, pick and pfn",
        ),
    ],
)
def test_refusals_between_tasks(tasks: list[str], words: str) -> None:
    """Tasks that do not fit together are refused with their names."""
    assert refusal(source(*tasks)) == words


@pytest.mark.parametrize("pfn", [4096, 4096 + 8192 - 16])
def test_pages_at_given_frames(pfn: int) -> None:
    """`pfn` can place the pages of all instances anywhere in the region."""
    (one,) = story(task("a", PHASE, pages=2, order=2, instances=2, pfn=pfn)).task
    assert one.pfn == pfn


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"pfn": 4095},
            (
                "task \"a\": pfn = 4095 places its pages at frames 4095 to 4095, outside of region 'normal' (4096 "
                "to 12287)"
            ),
        ),
        (
            {"pfn": 12287, "instances": 2},
            (
                "task \"a\": pfn = 12287 places its pages at frames 12287 to 12288, outside of region 'normal' "
                "(4096 to 12287)"
            ),
        ),
        (
            {"pfn": 12284, "region": "cma"},
            (
                "task \"a\": pfn = 12284 places its pages at frames 12284 to 12284, outside of region 'cma' (12288 "
                "to 16383)"
            ),
        ),
        (
            {"pfn": 4098, "order": 2},
            'task "a": pfn = 4098 must be a multiple of 4: pages of order 2 are aligned to their size',
        ),
        (
            {"pfn": 4096, "pick": "scattered"},
            "task \"a\": pfn = 4096 places the pages side by side: leave out pick = 'scattered'",
        ),
    ],
)
def test_refused_frames(keys: dict[str, object], words: str) -> None:
    """`pfn` must leave room for all pages in the region, aligned to their order."""
    assert refusal(source(task("a", PHASE, **keys))) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            source(task("a", PHASE), memory='[memory]\nsize = "64MiB"\nregion = []\n'),
            "task \"a\": region = 'normal': this scenario has no region",
        ),
        (
            source(task("a", PHASE)).replace('[stack.s]\nframes = ["who"]\n', "[stack]\n"),
            "task \"a\": stack = 's': this scenario has no stack",
        ),
    ],
)
def test_a_name_of_something_that_the_scenario_lacks(text: str, words: str) -> None:
    """Where there is no name to choose from, the message says so."""
    assert refusal(text) == words


ALLOC = 'for = "1s", every = "10ms"'


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"area": "are"}, "area = 'are' must be one of 'area'; did you mean 'area'?"),
        ({"stack": "t"}, "stack = 't' must be one of 's'"),
        ({"pages": 4097}, "pages = 4097 is more than area 'area' has: 4096"),
        ({"pages": 0}, "pages = 0 must be at least 1"),
        ({"align": 19}, "align = 19 must be from 0 to 18"),
        ({"align": -1}, "align = -1 must be from 0 to 18"),
        ({"retries": -1}, "retries = -1 must be from 0 to 1000"),
        ({"retries": 1001}, "retries = 1001 must be from 0 to 1000"),
        ({"start": "1m"}, "start = '1m' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
        (
            {"hold": "1s"},
            "unknown key 'hold': the keys are name, area, stack, pages, phase, start, align, retries, no_warn",
        ),
    ],
)
def test_refusals_of_allocs(keys: dict[str, object], words: str) -> None:
    """A mistake in an alloc is one line that names the alloc, the value and what was wanted."""
    text = source(alloc("a", ALLOC, **keys), top="task = []")
    if "stack" in keys:
        text = text.replace('stack = "s"\n', "", 1)
    assert refusal(text) == f'alloc "a": {words}'


def test_an_alloc_needs_an_area_of_the_scenario() -> None:
    """A region of migratetype CMA is an area only if it has `cma`."""
    text = source(alloc("a", ALLOC), top="task = []").replace(', cma = "area"', "")
    assert refusal(text) == "alloc \"a\": area = 'area': this scenario has no CMA area"


def test_an_alloc_has_no_path_of_a_pin() -> None:
    """The frames of `via` are those of get_user_pages."""
    text = source(alloc("a", ALLOC), top="task = []", stack='via = "slow"\nframes = ["who"]')
    assert refusal(text) == ("alloc \"a\": stack = 's' has `via`, the path of a pin: wanted a stack without it")


def test_two_allocs_have_two_names() -> None:
    """A live alloc and an expectation find an alloc by its name."""
    assert refusal(source(alloc("a", ALLOC), alloc("a", ALLOC), top="task = []")) == "two allocs have the name 'a'"


def test_an_alloc_must_allocate() -> None:
    """An alloc of pauses alone would do nothing."""
    words = 'alloc "a": an alloc must have a phase in which something arrives, with `every`, `gap` or `rate`'
    assert refusal(source(alloc("a", 'for = "1s"'), top="task = []")) == words


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            'allocs = { failed = 1 }\nkind = "PUT"',
            "kind is about records, and allocs is not: write an [[expect]] for each",
        ),
        (
            "allocs = { got = 1 }\nrecords = 0",
            "records is about records, and allocs is not: write an [[expect]] for each",
        ),
        ("allocs = {}", "allocs has no number: it must have one or both of `got` and `failed`"),
        ('allocs = { name = "b", got = 1 }', "allocs.name = 'b' must be one of 'a'"),
        (
            "allocs = { got = -1 }",
            "allocs.got = -1 must be from 0 to 2147483647, with min at most max",
        ),
        (
            "allocs = { failed = { min = 2, max = 1 } }",
            "allocs.failed = { min = 2, max = 1 } must be from 0 to 2147483647, with min at most max",
        ),
    ],
)
def test_refusals_of_expected_outcomes(keys: str, words: str) -> None:
    """An expectation of outcomes is about an alloc that exists, and about nothing else."""
    text = source(alloc("a", ALLOC), f'[[expect]]\nat = "1s"\n{keys}\n', top="task = []")
    assert refusal(text).removeprefix("expect 1: ").removeprefix("expect 1, allocs: ") == words


def test_outcomes_are_expected_of_allocs_alone() -> None:
    """Without an alloc, no outcome can come."""
    text = source(task("a", PHASE), '[[expect]]\nat = "1s"\nallocs = { failed = 0 }\n')
    assert refusal(text) == "expect 1: allocs: this scenario has no alloc"


LONGTERM = "FOLL_PIN|FOLL_LONGTERM"


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (
            [task("a", PHASE, foll=LONGTERM, region="cma", pfn=12288)],
            (
                "task \"a\": pfn = 12288: FOLL_PIN|FOLL_LONGTERM moves the pages out of region 'cma', which is CMA: "
                "leave out pfn"
            ),
        ),
        (
            [task("a", PHASE, region="cma"), task("b", PHASE, share="a", foll=LONGTERM)],
            (
                "task \"b\": share = 'a' holds its pages in CMA, and FOLL_PIN|FOLL_LONGTERM cannot move pages out of "
                "CMA while they are pinned: share a task outside of CMA"
            ),
        ),
        (
            [task("a", PHASE, foll="FOLL_GET|FOLL_LONGTERM")],
            (
                "task \"a\": foll = 'FOLL_GET|FOLL_LONGTERM' must be one of 'FOLL_GET', 'FOLL_PIN', "
                "'FOLL_PIN|FOLL_LONGTERM', 'none'; did you mean 'FOLL_PIN|FOLL_LONGTERM'?"
            ),
        ),
    ],
)
def test_pins_that_leave_cma(tasks: list[str], words: str) -> None:
    """Pages that FOLL_LONGTERM moves have no place of their own in CMA."""
    assert refusal(source(*tasks)) == words


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ('migratetype = "Unmovable"', "and no region is Movable: add one"),
        ('migratetype = "Movable"', "one hold takes 2048 frames, and region 'normal' has 1024"),
    ],
)
def test_pins_that_leave_cma_need_room(other: str, words: str) -> None:
    """The pages go to the first Movable region, which must have room for a hold."""
    regions = f'{{ name = "normal", size = "4MiB", {other} }}, {{ name = "cma", size = "16MiB", migratetype = "CMA" }}'
    memory = f'[memory]\nsize = "64MiB"\nregion = [{regions}]\n'
    text = source(task("a", PHASE, foll=LONGTERM, region="cma", pages=2048), memory=memory)
    assert (
        refusal(text)
        .removeprefix("task \"a\": FOLL_PIN|FOLL_LONGTERM moves the pages out of region 'cma', which is CMA")
        .lstrip(":, ")
        == words
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "release_stack = 'gone' must be one of 's'"),
        ("s", "release_stack = 's' has `via`, the path of a pin: wanted a stack without it"),
    ],
)
def test_a_release_stack_is_a_stack_without_via(name: str, words: str) -> None:
    """The stack of a release must exist, and have no frames of get_user_pages."""
    text = source(task("t", PHASE, release_stack=name), stack='via = "slow"\nframes = ["who"]')
    assert refusal(text) == f'task "t": {words}'


@pytest.mark.parametrize("directory", ["area", "cma-area"])
def test_a_fault_in_the_directory_of_an_area(directory: str) -> None:
    """The directory's name depends on the kernel."""
    fault = f'[[fault]]\nfile = "cma/{directory}/used"\nerrno = "EIO"\n'
    assert parse(source(task("t", PHASE), fault)).fault[0].file == f"cma/{directory}/used"


def test_a_fault_needs_an_area_of_the_scenario() -> None:
    """A rule about a file of an area that the scenario does not have is refused."""
    text = source(task("t", PHASE), '[[fault]]\nfile = "cma/ara/used"\nerrno = "EIO"\n')
    assert refusal(text) == (
        "fault 1: file = 'cma/ara/used' must be one of 'cma/area/FILE', 'cma/cma-area/FILE'; "
        "did you mean 'cma/area/FILE'?"
    )
    without = text.replace(', cma = "area"', "")
    assert refusal(without) == "fault 1: file = 'cma/ara/used': this scenario has no CMA area"
