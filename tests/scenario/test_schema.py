"""The tables of a scenario file, and the refusals of wrong values."""

from __future__ import annotations

import pytest

from pinnerfs.scenario.gallery import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, story, task


def test_defaults() -> None:
    """Keys that are left out have the documented values."""
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
                "unknown key 'sede': the keys are format, name, description, memory, stack, task, alloc, expect, "
                "fault, seed, duration, threshold, race, culprit, cpus; did you mean 'seed'?"
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
        ("format = 1", "format = 1\nrace = 2", "race = 2 must be from 0 to 1"),
        # memory
        ('size = "64MiB"', "size = 64", "memory: size = 64 has no unit: write a string such as '64MiB'"),
        (
            'size = "64MiB"',
            'size = "1MiB"',
            "memory: size = '1MiB' must be a multiple of 4096KiB (one pageblock)",
        ),
        (
            'size = "64MiB"',
            'size = "0B"',
            "memory: size = '0B' is 0: it must be a multiple of 4096KiB (one pageblock)",
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
        ('name = "cma"', 'name = "normal"', "two regions have the name 'normal'"),
        (
            '"16MiB"',
            '"17MiB"',
            "region \"cma\": size = '17MiB' must be a multiple of 4096KiB (one pageblock)",
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
                "pages, order, pick, share, pfn, release, release_stack, mapped, unmap"
            ),
        ),
        (
            'name = "a"',
            'name = "a"\nunmap = "5"',
            (
                "task \"a\": unmap = '5' must be a number and a unit (us, ms, s, min, h), such as '300ms', "
                "or 'with-release', or 'never'"
            ),
        ),
        (
            'name = "a"',
            'name = "a"\nmapped = false\nunmap = "5ms"',
            "task \"a\": unmap = '5ms' goes with mapped = true: leave out one of the two",
        ),
        ('name = "a"', 'name = "a"\nmapped = 1', 'task "a": mapped = 1 is an integer: it must be a boolean'),
        ('name = "a"', 'name = "a"\ninstances = 0', 'task "a": instances = 0 must be at least 1'),
        ('name = "a"', 'name = "a"\nstart = 5', "task \"a\": start = 5 has no unit: write a string such as '300ms'"),
        (
            'name = "a"',
            'name = "a"\nfoll = "GET"',
            "task \"a\": foll = 'GET' must be one of 'FOLL_GET', 'FOLL_PIN', 'FOLL_PIN|FOLL_LONGTERM', 'none'",
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
        ('hold = "1ms"', "hold = [1]", 'task "a", phase 1: hold = [1] is an array: it must be a string or a table'),
        (', hold = "1ms"', "", 'task "a": phase 1 must have a `hold`'),
    ],
)
def test_refusals(old: str, new: str, words: str) -> None:
    """A wrong value is refused with its place, what was wanted and what came."""
    text = source(task("a", PHASE))
    assert text.count(old) == 1
    assert refusal(text.replace(old, new)) == words


def test_a_scenario_without_tasks() -> None:
    """A scenario can have no tasks."""
    assert parse(source(top="task = []")).task == []
