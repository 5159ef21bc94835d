"""What a scenario file may say, and the words for what it may not."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from tests.workload.stories import source, story, task

PHASE = 'for = "1s", every = "10ms", hold = "1ms"'


def refusal(text: str) -> str:
    """The words with which a scenario is refused."""
    with pytest.raises(PinnerfsError) as caught:
        parse(text)
    return str(caught.value)


def test_defaults() -> None:
    """What a scenario leaves out has the documented value."""
    plain = story(task("a", PHASE))
    assert (plain.seed, plain.duration, plain.threshold, plain.race) == (0, None, "300ms", 0.0)
    assert plain.memory.pageblock_order == 10
    one = plain.task[0]
    assert (one.instances, one.start, one.foll) == (1, "0s", "FOLL_GET")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format = 1", "format = 2", r"format = 2 must be one of 1 - at `\$\.format`"),
        ("format = 1", "", r"missing required field `format`"),
        ('name = "story"', "", r"missing required field `name`"),
        ('name = "story"', 'name = ""', r": name is empty$"),
        ('name = "story"', 'name = "a\\nb"', r"name = 'a\\nb' must be a line of printable text"),
        ('"for a test"', '"a\\u001b[31mb"', r"description = 'a\\x1b\[31mb' must be a line of printable text"),
        ("[stack.s]", '[stack."\\t"]', r"a stack's name = '\\t' must be a line of printable text"),
        ('name = "cma"', 'name = "c\\rma"', r"name = 'c\\rma' must be .* - at `\$\.memory\.region\[1\]`"),
        ("format = 1", "format = 1\nsede = 4", r"unknown field `sede`"),
        ("format = 1", "format = 1\nseed = -1", r"seed = -1 must be a number of 64 bits"),
        ("format = 1", "format = 1\nseed = 18446744073709551616", r"must be a number of 64 bits"),
        ("format = 1", 'format = 1\nseed = "4"', r"Expected `int`, got `str` - at `\$\.seed`"),
        ("format = 1", 'format = 1\nduration = "0s"', r"duration = '0s' must be above 0"),
        ("format = 1", "format = 1\nduration = 60", r"duration = 60 has no unit: write a string such as '300ms'"),
        ("format = 1", "format = 1\nthreshold = 300000", r"threshold = 300000 has no unit"),
        ("format = 1", "format = 1\nrace = 1.5", r"race = 1.5 must lie from 0 to 1"),
        ("format = 1", "format = 1\nrace = nan", r"race = nan must lie from 0 to 1"),
        # memory
        ('size = "64MiB"', "size = 64", r"size = 64 has no unit: write a string such as '64MiB' - at `\$\.memory`"),
        ('size = "64MiB"', 'size = "1MiB"', r"size = '1MiB' must be a multiple of a pageblock, 4096KiB"),
        ('size = "64MiB"', 'size = "0B"', r"size = '0B' must be a multiple of a pageblock"),
        ('size = "64MiB"', 'size = "44MiB"', r"the regions hold 12288 frames, more than the 11264 of size = '44MiB'"),
        ('size = "64MiB"', 'size = "2TiB"', r"size = '2TiB' must be at most 1TiB"),
        ('size = "64MiB"', 'size = "9999999999999TiB"', r"must be at most 1TiB"),
        ("base_pfn = 4096", "base_pfn = 4097", r"base_pfn = 4097 must be a multiple of 1024"),
        ("base_pfn = 4096", "base_pfn = -1024", r"base_pfn = -1024 must be a multiple"),
        ("base_pfn = 4096", "pageblock_order = 19", r"pageblock_order = 19 must lie from 0 to 18"),
        ("base_pfn = 4096", "page_size = 4", r"unknown field `page_size` - at `\$\.memory`"),
        ('"CMA"', '"cma"', r"migratetype = 'cma' must be one of Unmovable, Movable, .* - at `\$\.memory\.region\[1\]`"),
        ('"lru"]', '"lur"]', r"flags has 'lur', which must be one of locked, .* - at `\$\.memory\.region\[0\]`"),
        ('"lru"]', '"lru"], zone = 4', r"zone = 4 must lie from 0 to 3"),
        ('name = "cma"', 'name = "normal"', r"two of region have the name 'normal' - at `\$\.memory`"),
        ('"16MiB"', '"17MiB"', r"size of region 'cma' = '17MiB' must be a multiple of a pageblock"),
        # stack
        ('frames = ["who"]', "", r"missing required field `frames` - at `\$\.stack\["),
        ('["who"]', '["who\\n"]', r"frames has 'who\\n', which must be a symbol"),
        ('["who"]', '[""]', r"frames has '', which must be a symbol"),
        ('["who"]', f'["{"w" * 201}"]', r"of at most 200 characters"),
        ('["who"]', '["who"]\nvia = "quick"', r"via = 'quick' must be one of 'slow', 'fast' - at `\$\.stack\["),
        ('["who"]', '["who"]\nsyscall = "a\\nb"', r"syscall = 'a\\nb' must be the name of a system call"),
        ('["who"]', '["who"]\nsyscall = ""', r"syscall = '' must be the name of a system call"),
        # task
        ('name = "a"', 'name = ""', r"name is empty - at `\$\.task\[0\]`"),
        ('name = "a"', 'name = "a\\u001b"', r"name = 'a\\x1b' must be a line of printable text - at `\$\.task\[0\]`"),
        ('name = "a"', 'name = "a"\nrate = "1/s"', r"unknown field `rate` - at `\$\.task\[0\]`"),
        ('name = "a"', 'name = "a"\ninstances = 0', r"instances = 0 must be at least 1 - at `\$\.task\[0\]`"),
        ('name = "a"', 'name = "a"\nstart = 5', r"start = 5 has no unit"),
        ('name = "a"', 'name = "a"\nfoll = "GET"', r"foll = 'GET' must be one of 'FOLL_GET', 'FOLL_PIN'"),
        ('name = "a"', 'name = "a"\npick = "any"', r"pick = 'any' must be one of 'contiguous', 'scattered'"),
        ('name = "a"', 'name = "a"\nrelease = "put"', r"release = 'put' must be one of 'put_user_page', .*'never'"),
        ('name = "a"', 'name = "a"\npages = 0', r"pages = 0 must lie from 1 to 262144"),
        ('name = "a"', 'name = "a"\norder = 19', r"order = 19 must lie from 0 to 18"),
        ('name = "a"', 'name = "a"\norder = -1', r"order = -1 must lie from 0 to 18"),
        ('name = "a"', 'name = "a"\norder = 11', r"task\[0\] 'a': order = 11 must not lie above the pageblock_order"),
        ('name = "a"', 'name = "a"\npages = 8193', r"a hold of 8193 frames is larger than region 'normal' \(8192\)"),
        ('name = "a"', 'name = "a"\npages = 17\norder = 9', r"a hold of 8704 frames is larger than region"),
        ('region = "normal"', "", r"must have a `region` for its pages, or `share` those of another"),
        ('region = "normal"', 'region = "dma"', r"task\[0\] 'a': region = 'dma' must be one of 'normal', 'cma'"),
        ('stack = "s"', 'stack = "t"', r"task\[0\] 'a': stack = 't' must be one of 's'"),
        ('name = "a"', 'name = "a"\nrelease = "never"', r"phase\[0\] must have no `hold`: its pins are never released"),
        # phase
        ("every", "evry", r"unknown field `evry` - at `\$\.task\[0\]\.phase\[0\]`"),
        ('for = "1s", ', "", r"a phase must have either `for` or `repeat` - at `\$\.task\[0\]\.phase\[0\]`"),
        ('for = "1s"', 'for = "1s", repeat = 4', r"a phase must have either `for` or `repeat`"),
        ('for = "1s"', 'for = "0s"', r"for = '0s' must be above 0"),
        (
            'for = "1s"',
            "for = 1",
            r"for = 1 has no unit: write a string such as '300ms' - at `\$\.task\[0\]\.phase\[0\]`",
        ),
        ('for = "1s"', "repeat = 0", r"repeat = 0 must lie from 1 to"),
        ('for = "1s"', "repeat = 1099511627777", r"repeat = 1099511627777 must lie from 1 to 1099511627776"),
        ('for = "1s"', 'repeat = "4"', r"Expected `int \| null`, got `str` - at `\$\.task\[0\]\.phase\[0\]\.repeat`"),
        ('every = "10ms"', 'every = "10ms", gap = "1ms"', r"must have one of `every`, `gap` or `rate`"),
        ('every = "10ms", ', "", r"must have one of `every`, `gap` or `rate`"),
        ('every = "10ms"', "every = 10", r"every = 10 has no unit"),
        ('every = "10ms"', 'every = "0us"', r"every = '0us' must be at least 1us"),
        ('every = "10ms"', "gap = 10", r"gap = 10 has no unit"),
        ('every = "10ms"', 'rate = "10"', r"rate = '10' must be a number and a unit \(/us, /ms, /s, /min, /h\)"),
        ('every = "10ms"', "rate = 10", r"rate = 10 has no unit: write a string such as '100/s'"),
        ('hold = "1ms"', "hold = 1", r"hold = 1 has no unit"),
        (
            'hold = "1ms"',
            'hold = { dist = "gauss" }',
            r"dist = 'gauss' must be one of 'uniform', .*phase\[0\]\.hold\.dist`",
        ),
        ('hold = "1ms"', 'hold = { dist = "normal", mean = "1us" }', r"missing required field `sd` - at `.*\.hold`"),
        (
            'hold = "1ms"',
            'hold = { dist = "exponential", mean = "1us", avg = 1 }',
            r"unknown field `avg` - at `.*hold`",
        ),
        ('hold = "1ms"', 'hold = { mean = "1us" }', r"missing required field `dist`"),
        ('hold = "1ms"', "hold = [1]", r"got `array` - at `\$\.task\[0\]\.phase\[0\]\.hold`"),
        (', hold = "1ms"', "", r"phase\[0\] must have a `hold` - at `\$\.task\[0\]`"),
    ],
)
def test_refusals(old: str, new: str, words: str) -> None:
    """What a scenario may not say is refused with its place, what was wanted and what came."""
    text = source(task("a", PHASE))
    assert text.count(old) == 1
    assert re.search(words, refusal(text.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[task]]", "[task]", r"got `table` - at `\$\.task`: write \[\[task\]\] instead of \[task\]$"),
        (
            f"[{{ {PHASE} }}]",
            f"{{ {PHASE} }}",
            r"- at `\$\.task\[0\]\.phase`: write \[\[task\.phase\]\] instead of \[task\.phase\]$",
        ),
        ('flags = ["uptodate", "lru"]', "flags = {}", r"got `table` - at `\$\.memory\.region\[0\]\.flags`$"),
    ],
)
def test_one_table_where_several_may_be(old: str, new: str, words: str) -> None:
    """Where one table stands for a list of tables, the refusal says how to write it; of other lists it does not."""
    assert re.search(words, refusal(source(task("a", PHASE)).replace(old, new)))


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ('frames = [""]', r"frames has '', .* - at `\$\.stack\['s'\]`$"),
        ('frames = "who"', r"Expected `array`, got `str` - at `\$\.stack\['s'\]\.frames`$"),
        ("", r"missing required field `frames` - at `\$\.stack\['s'\]`$"),
        ('frames = ["who"]\nvia = "v"', r"via = 'v' must be one of 'slow', 'fast' - at `\$\.stack\['s'\]\.via`$"),
    ],
)
def test_a_refused_stack_has_its_name(stack: str, words: str) -> None:
    """What is wrong with a stack is said of that stack, whichever others there are."""
    first = '[stack.a]\nframes = ["who"]\n'
    text = source(task("a", PHASE), stack=stack).replace("[stack.s]", f"{first}[stack.s]")
    assert re.search(words, refusal(text + '[stack.z]\nframes = ["who"]\n'))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task("a", PHASE), task("a", PHASE)], r"two of task have the name 'a'"),
        ([task("a", 'for = "1s"')], r"must have a phase in which something arrives"),
        ([task("a")], r"must have a phase in which something arrives"),
        ([task("a", PHASE), task("b", PHASE, share="c")], r"task\[1\] 'b': share = 'c' must name another task, of 'a'"),
        ([task("a", PHASE), task("b", PHASE, share="b")], r"share = 'b' must name another task, of 'a'"),
        ([task("a", PHASE, share="a")], r"share = 'a' must name another task, of none"),
        (
            [task("a", PHASE), task("b", PHASE, share="a"), task("c", PHASE, share="b")],
            r"task\[2\] 'c': share = 'b' must name a task with pages of its own",
        ),
        (
            [task("a", PHASE), task("b", PHASE, share="a", pages=1)],
            r"share = 'a' brings its pages: leave out region, pages, order, pick and pfn - at `\$\.task\[1\]`",
        ),
        ([task("a", PHASE), task("b", PHASE, share="a", region="cma")], r"share = 'a' brings its pages"),
    ],
)
def test_refusals_between_tasks(tasks: list[str], words: str) -> None:
    """What does not fit together is refused with the names of both."""
    assert re.search(words, refusal(source(*tasks)))


def test_a_scenario_without_tasks() -> None:
    """A device on which nothing happens is a scenario, too."""
    assert parse(source(top="task = []")).task == []


WEIGHTS = [
    ("{ put_user_page = 9, put_page = 1 }", {"put_user_page": 9, "put_page": 1}),
    ("{ free = 2, put_page = 1 }", {"put_page": 1, "free": 2}),  # in the schema's order, whatever the file's is
    ("{ put_page = 1000000 }", {"put_page": 1000000}),
    ('"free"', {"free": 1}),
]


@pytest.mark.parametrize(("release", "calls"), WEIGHTS)
def test_releases(release: str, calls: dict[str, int]) -> None:
    """A task releases its pages by one call, or by several with weights."""
    text = source(task("a", PHASE)).replace('name = "a"', f'name = "a"\nrelease = {release}')
    (one,) = parse(text).task
    assert [*one.releases.items()] == [*calls.items()]


@pytest.mark.parametrize(("foll", "call"), [("FOLL_GET", "put_user_page"), ("FOLL_PIN", "unpin_user_page")])
def test_the_release_that_goes_with_foll(foll: str, call: str) -> None:
    """A task that does not say how it releases its pages uses the call that goes with its pins."""
    (one,) = story(task("a", PHASE, foll=foll)).task
    assert one.releases == {call: 1}


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("{}", r"release has no call: it must have one or more of put_user_page, .*, free"),
        ("{ put_page = 0 }", r"release\.put_page = 0 must be a whole number from 1 to 1000000"),
        ("{ put_page = 1000001 }", r"release\.put_page = 1000001 must be a whole number from 1 to 1000000"),
        ("{ put_page = 1, never = 1 }", r"release\.never is not allowed: a task releases all of its holds or none"),
        ("{ put_user_pages = 1 }", r"'put_user_pages', which must be one of .*free; did you mean put_user_page\?"),
    ],
)
def test_refused_weights(release: str, words: str) -> None:
    """A table of releases that cannot be drawn from is refused."""
    text = source(task("a", PHASE)).replace('name = "a"', f'name = "a"\nrelease = {release}')
    assert re.search(words, refusal(text))


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
            r"pfn = 4095 places its pages at frames 4095 to 4095, outside of region 'normal' \(4096 to 12287",
        ),
        ({"pfn": 12287, "instances": 2}, r"frames 12287 to 12288, outside of region 'normal'"),
        ({"pfn": 12284, "region": "cma"}, r"outside of region 'cma' \(12288 to 16383\)"),
        ({"pfn": 4098, "order": 2}, r"pfn = 4098 must be a multiple of 4, the frames of a page of this order"),
        ({"pfn": 4096, "pick": "scattered"}, r"pfn = 4096 places all pages: leave out pick = 'scattered'"),
    ],
)
def test_refused_frames(keys: dict[str, object], words: str) -> None:
    """`pfn` must leave room for all pages in the region, aligned to their order."""
    assert re.search(words, refusal(source(task("a", PHASE, **keys))))
