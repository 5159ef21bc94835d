"""What a scenario file may say, and the words for what it may not."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from tests.workload.stories import source, story, task

PHASE = 'for = "1s", every = "10ms", hold = "1ms"'


def refusal(text: str) -> str:
    """Return the message with which a scenario is refused, without the file and the line."""
    with pytest.raises(PinnerfsError) as caught:
        parse(text)
    return re.sub(r"^scenario(:[0-9]+)?: ", "", str(caught.value))


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
        ("format = 1", "format = 2", "format = 2 must be 1"),
        ("format = 1", "", "the key 'format' is missing"),
        ('name = "story"', "", "the key 'name' is missing"),
        ('name = "story"', 'name = ""', "name is empty"),
        ('name = "story"', 'name = "a\\nb"', r"name = 'a\nb' must be one line of printable text"),
        ('"for a test"', '"a\\u001b[31mb"', r"description = 'a\x1b[31mb' must be one line of printable text"),
        ("[stack.s]", '[stack."\\t"]', r"a stack's name = '\t' must be one line of printable text"),
        ('name = "cma"', 'name = "c\\rma"', "region \"c\\rma\": name = 'c\\rma' must be one line of printable text"),
        (
            "format = 1",
            "format = 1\nsede = 4",
            (
                "unknown key 'sede': the keys are format, name, description, memory, stack, task, expect, seed, "
                "duration, threshold, race; did you mean 'seed'?"
            ),
        ),
        ("format = 1", "format = 1\nseed = -1", "seed = -1 must be from 0 to 18446744073709551615"),
        (
            "format = 1",
            "format = 1\nseed = 18446744073709551616",
            "seed = 18446744073709551616 must be from 0 to 18446744073709551615",
        ),
        ("format = 1", 'format = 1\nseed = "4"', "seed = '4' is a string: it must be an integer"),
        ("format = 1", 'format = 1\nduration = "0s"', "duration = '0s' must be above 0"),
        ("format = 1", "format = 1\nduration = 60", "duration = 60 has no unit: write a string such as '300ms'"),
        (
            "format = 1",
            "format = 1\nthreshold = 300000",
            "threshold = 300000 has no unit: write a string such as '300ms'",
        ),
        ("format = 1", "format = 1\nrace = 1.5", "race = 1.5 must be from 0 to 1"),
        ("format = 1", "format = 1\nrace = nan", "race = nan must be from 0 to 1"),
        # memory
        ('size = "64MiB"', "size = 64", "memory: size = 64 has no unit: write a string such as '64MiB'"),
        (
            'size = "64MiB"',
            'size = "1MiB"',
            "memory: size = '1MiB' must be a multiple of 4096KiB (one pageblock), and not 0",
        ),
        (
            'size = "64MiB"',
            'size = "0B"',
            "memory: size = '0B' must be a multiple of 4096KiB (one pageblock), and not 0",
        ),
        (
            'size = "64MiB"',
            'size = "44MiB"',
            "memory: the regions have 12288 frames, more than the 11264 of size = '44MiB'",
        ),
        ('size = "64MiB"', 'size = "2TiB"', "memory: size = '2TiB' must be at most 1TiB"),
        ('size = "64MiB"', 'size = "9999999999999TiB"', "memory: size = '9999999999999TiB' must be at most 1TiB"),
        (
            "base_pfn = 4096",
            "base_pfn = 4097",
            "memory: base_pfn = 4097 must be a multiple of 1024 (one pageblock), below 1099511627776",
        ),
        (
            "base_pfn = 4096",
            "base_pfn = -1024",
            "memory: base_pfn = -1024 must be a multiple of 1024 (one pageblock), below 1099511627776",
        ),
        ("base_pfn = 4096", "pageblock_order = 19", "memory: pageblock_order = 19 must be from 0 to 18"),
        (
            "base_pfn = 4096",
            "page_size = 4",
            (
                "memory: unknown key 'page_size': the keys are size, region, base_pfn, pageblock_order; did you "
                "mean 'size'?"
            ),
        ),
        (
            '"CMA"',
            '"cma"',
            (
                "region \"cma\": migratetype = 'cma' must be one of Unmovable, Movable, Reclaimable, CMA, "
                "HighAtomic, Isolate"
            ),
        ),
        (
            '"lru"]',
            '"lur"]',
            (
                "region \"normal\": flags has 'lur', which must be one of locked, waiters, error, referenced, "
                "uptodate, dirty, lru, active, workingset, slab, owner_priv_1, arch_1, reserved, private, "
                "private_2, writeback, head, mappedtodisk, reclaim, swapbacked, unevictable, mlocked; did you "
                "mean 'lru'?"
            ),
        ),
        ('"lru"]', '"lru"], zone = 4', 'region "normal": zone = 4 must be from 0 to 3'),
        ('name = "cma"', 'name = "normal"', "memory: two regions have the name 'normal'"),
        (
            '"16MiB"',
            '"17MiB"',
            "region \"cma\": size = '17MiB' must be a multiple of 4096KiB (one pageblock), and not 0",
        ),
        # stack
        ('frames = ["who"]', "", "stack \"s\": the key 'frames' is missing"),
        (
            '["who"]',
            '["who\\n"]',
            (
                "stack \"s\": frames has 'who\\n', which is not a frame: write symbol or symbol+0x10/0x80, and add "
                "' [module]' if it is in a module"
            ),
        ),
        (
            '["who"]',
            '[""]',
            (
                "stack \"s\": frames has '', which is not a frame: write symbol or symbol+0x10/0x80, and add ' "
                "[module]' if it is in a module"
            ),
        ),
        (
            '["who"]',
            f'["{"w" * 201}"]',
            (f"stack \"s\": frames has '{'w' * 201}', which must have at most 200 characters"),
        ),
        ('["who"]', '["who"]\nvia = "quick"', "stack \"s\": via = 'quick' must be one of 'fast', 'slow'"),
        (
            '["who"]',
            '["who"]\nsyscall = "a\\nb"',
            "stack \"s\": syscall = 'a\\nb' must be the name of a system call, such as 'ioctl'",
        ),
        (
            '["who"]',
            '["who"]\nsyscall = ""',
            "stack \"s\": syscall = '' must be the name of a system call, such as 'ioctl'",
        ),
        # task
        ('name = "a"', 'name = ""', "task 1: name is empty"),
        ('name = "a"', 'name = "a\\u001b"', "task \"a\\x1b\": name = 'a\\x1b' must be one line of printable text"),
        (
            'name = "a"',
            'name = "a"\nrate = "1/s"',
            (
                "task \"a\": unknown key 'rate': the keys are name, stack, phase, instances, start, foll, region, "
                "pages, order, pick, share, pfn, release"
            ),
        ),
        ('name = "a"', 'name = "a"\ninstances = 0', 'task "a": instances = 0 must be at least 1'),
        ('name = "a"', 'name = "a"\nstart = 5', "task \"a\": start = 5 has no unit: write a string such as '300ms'"),
        (
            'name = "a"',
            'name = "a"\nfoll = "GET"',
            "task \"a\": foll = 'GET' must be one of 'FOLL_GET', 'FOLL_PIN', 'none'",
        ),
        ('name = "a"', 'name = "a"\npick = "any"', "task \"a\": pick = 'any' must be one of 'contiguous', 'scattered'"),
        (
            'name = "a"',
            'name = "a"\nrelease = "put"',
            (
                "task \"a\": release = 'put' must be one of 'free', 'never', 'put_page', 'put_user_page', "
                "'unpin_user_page'"
            ),
        ),
        ('name = "a"', 'name = "a"\npages = 0', 'task "a": pages = 0 must be from 1 to 262144'),
        ('name = "a"', 'name = "a"\norder = 19', 'task "a": order = 19 must be from 0 to 18'),
        ('name = "a"', 'name = "a"\norder = -1', 'task "a": order = -1 must be from 0 to 18'),
        ('name = "a"', 'name = "a"\norder = 11', 'task "a": order = 11 must be at most the pageblock_order, 10'),
        (
            'name = "a"',
            'name = "a"\npages = 8193',
            "task \"a\": one hold takes 8193 frames, and region 'normal' has 8192",
        ),
        (
            'name = "a"',
            'name = "a"\npages = 17\norder = 9',
            "task \"a\": one hold takes 8704 frames, and region 'normal' has 8192",
        ),
        (
            'region = "normal"',
            "",
            'task "a": a task must have a `region` for its pages, or `share` those of another task',
        ),
        (
            'region = "normal"',
            'region = "dma"',
            "task \"a\": region = 'dma' must be one of 'normal', 'cma'; did you mean 'cma'?",
        ),
        ('stack = "s"', 'stack = "t"', "task \"a\": stack = 't' must be one of 's'"),
        (
            'name = "a"',
            'name = "a"\nrelease = "never"',
            'task "a": phase 1 must have no `hold`: its pins are never released',
        ),
        # phase
        (
            "every",
            "evry",
            (
                "task \"a\", phase 1: unknown key 'evry': the keys are for, repeat, every, gap, rate, hold; did "
                "you mean 'every'?"
            ),
        ),
        ('for = "1s", ', "", 'task "a", phase 1: a phase must have one of `for` and `repeat`'),
        ('for = "1s"', 'for = "1s", repeat = 4', 'task "a", phase 1: a phase must have one of `for` and `repeat`'),
        ('for = "1s"', 'for = "0s"', "task \"a\", phase 1: for = '0s' must be above 0"),
        (
            'for = "1s"',
            "for = 1",
            "task \"a\", phase 1: for = 1 has no unit: write a string such as '300ms'",
        ),
        ('for = "1s"', "repeat = 0", 'task "a", phase 1: repeat = 0 must be from 1 to 1099511627776'),
        (
            'for = "1s"',
            "repeat = 1099511627777",
            'task "a", phase 1: repeat = 1099511627777 must be from 1 to 1099511627776',
        ),
        ('for = "1s"', 'repeat = "4"', "task \"a\", phase 1: repeat = '4' is a string: it must be an integer"),
        (
            'every = "10ms"',
            'every = "10ms", gap = "1ms"',
            'task "a", phase 1: a phase must have one of `every`, `gap` and `rate`; a pause has only `for`',
        ),
        (
            'every = "10ms", ',
            "",
            'task "a", phase 1: a phase must have one of `every`, `gap` and `rate`; a pause has only `for`',
        ),
        ('every = "10ms"', "every = 10", "task \"a\", phase 1: every = 10 has no unit: write a string such as '300ms'"),
        ('every = "10ms"', 'every = "0us"', "task \"a\", phase 1: every = '0us' must be at least 1us"),
        ('every = "10ms"', "gap = 10", "task \"a\", phase 1: gap = 10 has no unit: write a string such as '300ms'"),
        (
            'every = "10ms"',
            'rate = "10"',
            "task \"a\", phase 1: rate = '10' must be a number and a unit (/us, /ms, /s, /min, /h), such as '100/s'",
        ),
        ('every = "10ms"', "rate = 10", "task \"a\", phase 1: rate = 10 has no unit: write a string such as '100/s'"),
        ('hold = "1ms"', "hold = 1", "task \"a\", phase 1: hold = 1 has no unit: write a string such as '300ms'"),
        (
            'hold = "1ms"',
            'hold = { dist = "gauss" }',
            (
                "task \"a\", phase 1, hold: dist = 'gauss' must be one of 'uniform', 'exponential', 'normal', "
                "'lognormal', 'choice'"
            ),
        ),
        (
            'hold = "1ms"',
            'hold = { dist = "normal", mean = "1us" }',
            "task \"a\", phase 1, hold: the key 'sd' is missing",
        ),
        (
            'hold = "1ms"',
            'hold = { dist = "exponential", mean = "1us", avg = 1 }',
            "task \"a\", phase 1, hold: unknown key 'avg': the keys are dist, min, max, mean",
        ),
        (
            'hold = "1ms"',
            'hold = { mean = "1us" }',
            (
                "task \"a\", phase 1, hold: the key 'dist' is missing: it must be one of 'uniform', 'exponential', "
                "'normal', 'lognormal', 'choice'"
            ),
        ),
        ('hold = "1ms"', "hold = [1]", 'task "a", phase 1: hold is an array: it must be a string or a table'),
        (', hold = "1ms"', "", 'task "a": phase 1 must have a `hold`'),
    ],
)
def test_refusals(old: str, new: str, words: str) -> None:
    """What a scenario may not say is refused with its place, what was wanted and what came."""
    text = source(task("a", PHASE))
    assert text.count(old) == 1
    assert refusal(text.replace(old, new)) == words


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
    """Where one table stands for a list of tables, the refusal says how to write it; of other lists it does not."""
    assert refusal(source(task("a", PHASE)).replace(old, new)) == words


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (
            'frames = [""]',
            (
                "stack \"s\": frames has '', which is not a frame: write symbol or symbol+0x10/0x80, and add ' "
                "[module]' if it is in a module"
            ),
        ),
        ('frames = "who"', "stack \"s\": frames = 'who' is a string: it must be an array"),
        ("", "stack \"s\": the key 'frames' is missing"),
        ('frames = ["who"]\nvia = "v"', "stack \"s\": via = 'v' must be one of 'fast', 'slow'"),
    ],
)
def test_a_refused_stack_has_its_name(stack: str, words: str) -> None:
    """What is wrong with a stack is said of that stack, whichever others there are."""
    first = '[stack.a]\nframes = ["who"]\n'
    text = source(task("a", PHASE), stack=stack).replace("[stack.s]", f"{first}[stack.s]")
    assert refusal(text + '[stack.z]\nframes = ["who"]\n') == words


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task("a", PHASE), task("a", PHASE)], "two tasks have the name 'a'"),
        (
            [task("a", 'for = "1s"')],
            'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`',
        ),
        ([task("a")], 'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`'),
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
    """What does not fit together is refused with the names of both."""
    assert refusal(source(*tasks)) == words


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
        (
            "{}",
            (
                'task "a": release is an empty table: it must have one or more of put_user_page, '
                "unpin_user_page, put_page, free"
            ),
        ),
        ("{ put_page = 0 }", 'task "a": release.put_page = 0 must be from 1 to 1000000'),
        ("{ put_page = 1000001 }", 'task "a": release.put_page = 1000001 must be from 1 to 1000000'),
        (
            "{ put_page = 1, never = 1 }",
            'task "a": release.never is not allowed: a task releases all of its holds, or none',
        ),
        (
            "{ put_user_pages = 1 }",
            (
                "task \"a\": release has the unknown call 'put_user_pages': the calls are put_user_page, "
                "unpin_user_page, put_page, free; did you mean 'put_user_page'?"
            ),
        ),
    ],
)
def test_refused_weights(release: str, words: str) -> None:
    """A table of releases that cannot be drawn from is refused."""
    text = source(task("a", PHASE)).replace('name = "a"', f'name = "a"\nrelease = {release}')
    assert refusal(text) == words


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
    "frame",
    [
        "npu_ioctl",
        "npu_ioctl+0x50/0x80",
        "npu_ioctl [npu]",
        "npu_ioctl+0x0/0x1 [npu-core]",
        "__arm64_sys_ioctl",
        "copy_strings.isra.0+0x1c/0x2e0",
        "do_one.llvm.1234567",
        "$x.23",
        "vb2_ioctl_qbuf.cfi_jt",
    ],
)
def test_frames(frame: str) -> None:
    """A frame has the form in which a kernel prints it; offset and module may be left out."""
    assert parse(source(task("a", PHASE), stack=f'frames = ["{frame}"]')).stack["s"].frames == [frame]


@pytest.mark.parametrize(
    "frame",
    [
        "npu ioctl",
        "npu_ioctl+80/10",
        "npu_ioctl+0x50",
        "npu_ioctl+0x50/80",
        "npu_ioctl+0x5g/0x80",
        "x[npu]",
        "x [npu",
        "x [n pu]",
        "x  [npu]",
        " x",
        "x ",
        "0x12",
        "ioctl()",
        "ioctl\u00e4",
    ],
)
def test_what_is_no_frame(frame: str) -> None:
    """A frame in another form is refused with what a frame looks like."""
    words = refusal(source(task("a", PHASE), stack=f'frames = ["{frame}"]'))
    assert words == (
        f'stack "s": frames has {frame!r}, which is not a frame: '
        "write symbol or symbol+0x10/0x80, and add ' [module]' if it is in a module"
    )


@pytest.mark.parametrize("offset", ["0x80/0x80", "0x81/0x80", "0x0/0x0"])
def test_an_offset_beyond_the_size(offset: str) -> None:
    """An offset must be inside of its function."""
    words = refusal(source(task("a", PHASE), stack=f'frames = ["x+{offset}"]'))
    assert f"frames has 'x+{offset}', whose offset must be below its size" in words


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
    """The type that was wanted is one that TOML has; what a default would be is not among them."""
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
