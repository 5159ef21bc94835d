"""The rules of faults: the grammar of their lines, and the same rules as tables of a scenario."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.scenario.faults import ERRNOS, FILES, MAX_RULES, OPERATIONS, Rule, parse_rules
from pinnerfs.scenario.gallery import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, task

KEYS = "the keys are op, file, errno, delay, missing, cut, chance, times, uid, comm, pid"


def _toml(keys: Mapping[str, str | int | bool], at: str = "") -> str:
    """Return a scenario with these keys in a [[fault]] table."""
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in keys.items()]
    return source(task("a", PHASE)) + "\n".join(["\n[[fault]]", at, *lines]) + "\n"


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("add,errno=EIO", {"errno": "EIO"}),
        (
            "add,op=read,file=longterm_pinner,errno=EIO,chance=10",
            {"op": "read", "file": "longterm_pinner", "errno": "EIO", "chance": 10},
        ),
        ("add,op=open,delay=2s", {"op": "open", "delay": "2s"}),
        ("add,errno=EWOULDBLOCK,delay=1h", {"errno": "EWOULDBLOCK", "delay": "1h"}),
        ("add,delay=1us,cut", {"delay": "1us", "cut": True}),
        ("add,op=read,cut,times=3", {"op": "read", "cut": True, "times": 3}),
        ("add,missing,uid=0,comm=a b,pid=4194304", {"missing": True, "uid": 0, "comm": "a b", "pid": 4194304}),
        ("removeall", {"removeall": True}),
    ],
)
def test_a_rule_as_a_line_and_as_a_table(line: str, keys: dict[str, str | int | bool]) -> None:
    """A line and a table with the same keys make the same rule, and the rule shows as that line."""
    (rule,) = parse_rules(f" {line}\n")
    (fault,) = parse(_toml(keys, 'at = "90s"')).fault
    assert rule == Rule(**keys)  # type: ignore[arg-type]
    assert rule.text == fault.text == line
    assert fault.moment == 90_000_000
    assert parse(_toml(keys)).fault[0].moment == 0


def test_the_order_of_the_keys_is_free() -> None:
    """A rule is shown with its keys in one order, and without a chance of 100 percent."""
    (rule,) = parse_rules("add,pid=7,chance=100,cut,op=read")
    assert rule.text == "add,op=read,cut,pid=7"


def test_several_lines() -> None:
    """Lines are added in their order; empty lines and blanks around a line do not count."""
    rules = parse_rules("\n add,cut\n\nremoveall \n\tadd,errno=EIO")
    assert [rule.text for rule in rules] == ["add,cut", "removeall", "add,errno=EIO"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"op": "lookup", "cut": True}, "op = 'lookup' must be one of open, read, write"),
        ({"op": "READ", "errno": "EIO"}, "op = 'READ' must be one of open, read, write"),
        (
            {"file": "longterm", "errno": "EIO"},
            "file = 'longterm' must be one of longterm_pinner, threshold, alloc_contig_failed, failure_tracking, "
            "buffer, buffer_size, or cma/DIRECTORY/FILE; did you mean 'longterm_pinner'?",
        ),
        (
            {"file": "cma/a/size", "errno": "EIO"},
            "file = 'cma/a/size' must be cma/DIRECTORY/FILE with a FILE of alloc, ",
        ),
        ({"file": "cma//used", "errno": "EIO"}, "file = 'cma//used' must be cma/DIRECTORY/FILE with a FILE of alloc, "),
        (
            {"errno": "EI0"},
            "errno = 'EI0' is unknown: it must be a name such as 'EIO'; did you mean 'EIO'?",
        ),
        ({"errno": "5"}, "errno = '5' is unknown: it must be a name such as 'EIO'"),
        ({"delay": "2"}, "delay = '2' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
        ({"delay": "0s"}, "delay = '0s' must be from 1us to 1h"),
        ({"delay": "61min"}, "delay = '61min' must be from 1us to 1h"),
        ({"cut": True, "chance": 0}, "chance = 0 must be from 1 to 100"),
        ({"cut": True, "chance": 101}, "chance = 101 must be from 1 to 100"),
        ({"cut": True, "times": 0}, "times = 0 must be from 1 to 9223372036854775807"),
        ({"cut": True, "uid": 4294967295}, "uid = 4294967295 must be from 0 to 4294967294"),
        ({"cut": True, "pid": 0}, "pid = 0 must be from 1 to 4194304"),
        ({"cut": True, "comm": ""}, "comm = '' must have 1 to 15 bytes, as /proc/PID/comm has"),
        ({"cut": True, "comm": "sixteen_letters_"}, "comm = 'sixteen_letters_' must have 1 to 15 bytes, "),
        ({"op": "read"}, "the rule does nothing: it must have one of errno, delay, missing and cut"),
        ({"errno": "EIO", "cut": True}, "cut does not go with errno: a rule has one of errno, missing and cut"),
        ({"missing": True, "cut": True}, "cut does not go with missing: a rule has one of errno, missing and cut"),
        ({"missing": True, "delay": "1s"}, "delay does not go with missing, which hides the directory page_pinner"),
        ({"missing": True, "times": 3}, "times does not go with missing, which hides the directory page_pinner"),
        ({"op": "write", "cut": True}, "op = 'write' does not go with cut: only reads are cut"),
    ],
)
def test_a_bad_rule(keys: dict[str, str | int | bool], reason: str) -> None:
    """A line and a table with the same mistake are refused with the same reason."""
    words = ",".join(["add", *(key if value is True else f"{key}={value}" for key, value in keys.items())])
    with pytest.raises(ValueError) as refused:
        parse_rules(words)
    assert str(refused.value).startswith(reason)
    assert refusal(_toml(keys)) == f"fault 1: {refused.value}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the text has no rule: wanted add,errno=EIO or the like, or removeall"),
        (" \n\n", "the text has no rule: wanted add,errno=EIO or the like, or removeall"),
        ("remove", "'remove' must begin with add, or be removeall"),
        ("removeall,errno=EIO", "'removeall,errno=EIO' must begin with add, or be removeall"),
        ("add", "the rule does nothing: it must have one of errno, delay, missing and cut"),
        ("add,errno=EIO,errno=EPERM", "errno is given twice"),
        ("add,errno", "'errno' must be errno=VALUE"),
        ("add,cut=1", "'cut=1' must be cut, without a value"),
        ("add,cut,", f"unknown key '': {KEYS}"),
        ("add, cut", f"unknown key ' cut': {KEYS}; did you mean 'cut'?"),
        ("add,at=5s,cut", f"unknown key 'at': {KEYS}"),
        ("add,removeall", f"unknown key 'removeall': {KEYS}"),
        ("add,cut,chance=٣", "chance = '٣' must be a whole number"),
        ("add,cut,times=-1", "times = '-1' must be a whole number"),
        ("add,cut,times=" + "9" * 5000, "times = '9999"),
        ("add,cut,uid=root", "uid = 'root' must be a whole number"),
        ("add,cut,comm=\x1b[m", r"comm = '\x1b[m' must have printable characters and no comma"),
        ("add,errno=ENOSYS", "errno = 'ENOSYS' is not possible: FUSE takes it for an unsupported operation"),
        ("add,cut\nadd,op=open", "line 2: the rule does nothing: it must have one of errno, delay, missing and cut"),
    ],
)
def test_a_bad_line(text: str, reason: str) -> None:
    """A bad line is refused with what was wanted and what came; among others, with its number."""
    with pytest.raises(ValueError) as refused:
        parse_rules(text)
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("keys", "at", "reason"),
    [
        ({"removeall": True, "cut": True}, "", "removeall removes all rules: leave out cut"),
        ({"cut": True, "comm": "a,b"}, "", "comm = 'a,b' must have printable characters and no comma"),
        ({"cut": True}, "at = 5", "at = 5 has no unit: write a string such as '300ms'"),
        ({"cut": 1}, "", "cut = 1 is an integer: it must be a boolean"),
        ({"cut": True, "chance": "10"}, "", "chance = '10' is a string: it must be an integer"),
        ({"cut": True, "pid": True}, "", "pid = true is a boolean: it must be an integer"),
        ({"ernno": "EIO"}, "", f"unknown key 'ernno': {KEYS.replace('are ', 'are removeall, ')}, at; did you mean"),
    ],
)
def test_a_bad_table(keys: dict[str, str | int | bool], at: str, reason: str) -> None:
    """A table is refused for what a line cannot say."""
    assert refusal(_toml(keys, at)).startswith(f"fault 1: {reason}")


def test_too_many_faults() -> None:
    """A scenario has at most as many faults as there can be rules in force."""
    text = source(task("a", PHASE))
    assert len(parse(text + "[[fault]]\ncut = true\n" * MAX_RULES).fault) == MAX_RULES
    words = f"fault has {MAX_RULES + 1} entries: it must have at most {MAX_RULES}"
    assert refusal(text + "[[fault]]\ncut = true\n" * (MAX_RULES + 1)) == words


def test_the_files_are_those_of_all_kernels() -> None:
    """A rule can name each file that a kernel has in page_pinner/."""
    assert {file for kernel in GENERATIONS.values() for file in kernel.files} <= {*FILES}


def test_the_errnos_have_numbers() -> None:
    """A rule knows the number of its errno; a rule without one has 0."""
    assert [rule.number for rule in parse_rules("add,errno=EIO\nadd,cut")] == [errno.EIO, 0]
    assert all(0 < number < 1000 for number in ERRNOS.values())  # the range that FUSE accepts


RULES = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(OPERATIONS),
        "file": st.sampled_from([*FILES, "cma/reserved/alloc"]),
        "errno": st.sampled_from(sorted(ERRNOS)),
        "delay": st.sampled_from(["1us", "2 s", "0.5h"]),
        "missing": st.just(True),
        "cut": st.just(True),
        "chance": st.integers(1, 100),
        "times": st.integers(1, (1 << 63) - 1),
        "uid": st.integers(0, (1 << 32) - 2),
        "comm": st.text(st.characters(codec="utf-8", exclude_characters=","), min_size=1, max_size=15),
        "pid": st.integers(1, 1 << 22),
    },
)


@given(RULES)
def test_every_rule_reads_back(keys: dict[str, str | int | bool]) -> None:
    """Whatever rule is accepted, its line is the same rule."""
    try:
        rule = Rule(**keys)  # type: ignore[arg-type]
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert rule.text.isprintable()
    if rule.text == rule.text.strip():  # a name can end in a blank, and a line cannot
        assert parse_rules(rule.text) == [rule]


WORDS = st.sampled_from(["add", "removeall", "errno=EIO", "op=read", "cut", "missing", "delay=1s", "times=2", "uid=x"])


@given(st.one_of(st.text(), st.lists(st.lists(WORDS, max_size=4).map(",".join), max_size=4).map("\n".join)))
def test_any_text(text: str) -> None:
    """Any text is refused with a reason, or its rules read back as the same rules."""
    try:
        rules = parse_rules(text)
    except ValueError as error:
        assert str(error)
    else:
        assert parse_rules("\n".join(rule.text for rule in rules)) == rules
