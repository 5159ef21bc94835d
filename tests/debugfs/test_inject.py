"""The rules of `.pinnerfs/inject`: their grammar, the choice of a rule, and their chance."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.debugfs.inject import MAX_RULES, Fault, Faults, parse_rules

RECORDS = "page_pinner/longterm_pinner"
THRESHOLD = "page_pinner/threshold"
PATHS = ("page_pinner", RECORDS, THRESHOLD)


def _faults(*lines: str, seed: int = 1) -> Faults:
    faults = Faults(seed, PATHS)
    if lines:
        faults.write("\n".join(lines))
    return faults


def _ask(
    faults: Faults, op: str = "read", path: str = RECORDS, uid: int = 0, pid: int = 7, comm: str = "cat"
) -> Fault | None:
    return faults.decide(op, path, uid, pid, lambda: comm)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("add,errno=EIO", Fault(errno.EIO)),
        ("add,errno=EWOULDBLOCK", Fault(errno.EAGAIN)),
        ("add,op=read,file=longterm_pinner,errno=EIO,chance=100", Fault(errno.EIO)),
        ("add,delay=2s", Fault(delay=2_000_000)),
        ("add,delay=1h", Fault(delay=3_600_000_000)),
        ("add,delay=1us,errno=EINTR", Fault(errno.EINTR, 1)),
        ("add,cut", Fault(cut=True)),
        ("add,cut,op=read", Fault(cut=True)),
        (" add,errno=ENOMEM,uid=0,pid=7,comm=cat,times=1 ", Fault(errno.ENOMEM)),
        ("add,file=page_pinner,errno=EIO", Fault(errno.EIO)),
        ("add,file=page_pinner/longterm_pinner,errno=EIO", Fault(errno.EIO)),
    ],
)
def test_a_rule_and_its_fault(line: str, fault: Fault) -> None:
    """A read of longterm_pinner by root's cat, of pid 7, gets the fault of the rule."""
    assert _ask(_faults(line)) == fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rule: wanted a line such as add,op=read,errno=EIO, or removeall"),
        (" \n\n", "no rule: wanted a line such as add,op=read,errno=EIO, or removeall"),
        ("remove", "'remove' is no command: wanted add,... or removeall"),
        ("removeall,errno=EIO", "'removeall' is no command: wanted add,... or removeall"),
        ("add", "actions given: none; wanted one of errno, delay, missing, cut, or errno with delay"),
        ("add,op=read", "actions given: none; wanted one of errno, delay, missing, cut, or errno with delay"),
        (
            "add,errno=EIO,cut",
            "actions given: errno and cut; wanted one of errno, delay, missing, cut, or errno with delay",
        ),
        (
            "add,delay=1s,missing",
            "actions given: delay and missing; wanted one of errno, delay, missing, cut, or errno with delay",
        ),
        ("add,errno=EIO,errno=EPERM", "errno is given twice"),
        ("add,errno", "'errno': wanted errno=VALUE"),
        ("add,cut=1", "'cut=1': wanted cut"),
        (
            "add,errno=EIO,",
            "'' is unknown: wanted some of op, file, errno, delay, missing, cut, chance, times, uid, pid, comm",
        ),
        (
            "add,size=1",
            "'size=1' is unknown: wanted some of op, file, errno, delay, missing, cut, chance, times, uid, pid, comm",
        ),
        ("add,errno=EOI", "errno='EOI' is unknown: wanted a name such as EIO"),
        ("add,errno=5", "errno='5' is unknown: wanted a name such as EIO"),
        ("add,op=lookup,errno=EIO", "op='lookup' is unknown: wanted one of open, read, write"),
        ("add,op=READ,errno=EIO", "op='READ' is unknown: wanted one of open, read, write"),
        (
            "add,file=longterm,errno=EIO",
            "file='longterm' is not here: wanted a name or a path of "
            "page_pinner, page_pinner/longterm_pinner, page_pinner/threshold",
        ),
        ("add,errno=EIO,chance=0", "chance='0': wanted a whole number from 1 to 100"),
        ("add,errno=EIO,chance=101", "chance='101': wanted a whole number from 1 to 100"),
        ("add,errno=EIO,chance=٣", "chance='٣': wanted a whole number from 1 to 100"),
        ("add,errno=EIO,times=0", "times='0': wanted a whole number from 1 to 9223372036854775807"),
        ("add,errno=EIO,times=-1", "times='-1': wanted a whole number from 1 to 9223372036854775807"),
        ("add,errno=EIO,uid=root", "uid='root': wanted a whole number from 0 to 4294967294"),
        ("add,errno=EIO,pid=0", "pid='0': wanted a whole number from 1 to 4194304"),
        ("add,errno=EIO,comm=", "comm='': wanted 1 to 15 bytes, as in /proc/PID/comm"),
        ("add,errno=EIO,comm=sixteen_letters_", "comm='sixteen_letters_': wanted 1 to 15 bytes, as in /proc/PID/comm"),
        ("add,delay=0s", "delay='0s': wanted 1us to 1h"),
        ("add,delay=61min", "delay='61min': wanted 1us to 1h"),
        ("add,delay=2", "delay = '2' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
        ("add,cut,op=write", "op=write does not go with cut: only a read is cut"),
        ("add,missing,op=open", "op does not go with missing: what is missing is missing for every operation"),
        ("add,missing,times=3", "times does not go with missing: what is missing is missing for every operation"),
        ("add,comm=\x1b[m,cut", r"'add,comm=\x1b[m,cut': wanted printable characters"),
        (
            "add,cut\nadd,op=open",
            "line 2: actions given: none; wanted one of errno, delay, missing, cut, or errno with delay",
        ),
        ("\n".join(["add,cut"] * (MAX_RULES + 1)), "258 rules: wanted at most 256"),
    ],
)
def test_a_bad_rule_adds_nothing(text: str, reason: str) -> None:
    """A write with a bad line is refused with the reason, and changes nothing."""
    faults = _faults("add,op=write,errno=EIO")
    with pytest.raises(ValueError) as refused:
        faults.write(text)
    assert str(refused.value) == reason
    assert faults.text() == "add,op=write,errno=EIO fired=0\n"


def test_what_a_rule_does_not_match() -> None:
    """A rule leaves alone other operations, files, users, processes and names, and everything in .pinnerfs/."""
    faults = _faults("add,op=read,file=longterm_pinner,errno=EIO,uid=5,pid=7,comm=cat")
    assert _ask(faults, uid=5) == Fault(errno.EIO)
    assert _ask(faults, "open", uid=5) is None
    assert _ask(faults, path=THRESHOLD, uid=5) is None
    assert _ask(faults, uid=0) is None
    assert _ask(faults, uid=5, pid=8) is None
    assert _ask(faults, uid=5, comm="dd") is None
    everything = _faults("add,errno=EIO", "add,missing")
    for op in ("open", "read", "write", "lookup"):
        for path in ("", ".pinnerfs", ".pinnerfs/inject", ".pinnerfs/threshold"):
            assert _ask(everything, op, path) is None


def test_the_name_of_the_caller_is_read_only_if_it_matters() -> None:
    """The name of the caller costs a look into /proc: it is read only where all other filters match."""
    asked: list[str] = []

    def comm() -> str:
        asked.append("comm")
        return "cat"

    faults = _faults("add,op=read,errno=EIO", "add,op=write,uid=1,comm=cat,errno=EPERM")
    assert faults.decide("read", RECORDS, 0, 7, comm) == Fault(errno.EIO)
    assert faults.decide("write", RECORDS, 0, 7, comm) is None
    assert asked == []
    assert faults.decide("write", RECORDS, 1, 7, comm) == Fault(errno.EPERM)
    assert asked == ["comm"]


def test_the_first_rule_that_fires_wins() -> None:
    """Later rules get the requests that the earlier ones do not match or no longer hit."""
    faults = _faults("add,op=read,errno=EIO,times=2", "add,errno=EPERM")
    assert [_ask(faults) for _ in range(3)] == [Fault(errno.EIO), Fault(errno.EIO), Fault(errno.EPERM)]
    assert _ask(faults, "write") == Fault(errno.EPERM)
    assert faults.text() == "add,op=read,errno=EIO,times=2 fired=2\nadd,errno=EPERM fired=2\n"


def test_a_missing_directory() -> None:
    """A missing directory answers ENOENT to the lookup and the open of itself and of all in it, and to nothing else."""
    faults = _faults("add,missing,file=page_pinner")
    assert faults.missing
    for path in PATHS:
        assert _ask(faults, "lookup", path) == _ask(faults, "open", path) == Fault(errno.ENOENT)
    # What is open already can be read.
    assert _ask(faults, "read") is _ask(faults, "write") is None
    file = _faults("add,missing,file=threshold")
    assert [_ask(file, "lookup", path) for path in PATHS] == [None, None, Fault(errno.ENOENT)]
    assert not _faults("add,errno=ENOENT").missing


def test_other_rules_leave_lookups_alone() -> None:
    """A rule without an operation matches open, read and write."""
    faults = _faults("add,errno=EIO")
    assert [_ask(faults, op) for op in ("open", "read", "write")] == [Fault(errno.EIO)] * 3
    assert _ask(faults, "lookup") is None


def test_removing_all_rules() -> None:
    """After `removeall` there are no rules; it can be followed by new ones in the same write."""
    faults = _faults("add,errno=EIO")
    assert faults
    faults.write("removeall\n")
    assert not faults and faults.text() == "" and _ask(faults) is None
    faults.write("add,errno=EIO\nremoveall\nadd,cut\n")
    assert faults.text() == "add,cut fired=0\n"


def test_the_chance_is_drawn_from_the_seed() -> None:
    """The same seed, rules and requests give the same faults, on every machine; `removeall` starts anew."""
    rule = "add,errno=EIO,chance=30"

    def fired(faults: Faults, count: int = 30) -> str:
        return "".join("x" if _ask(faults) else "." for _ in range(count))

    faults = _faults(rule)
    first = fired(faults)
    assert first == FIRST
    assert fired(faults) != first
    faults.write(f"removeall\n{rule}")
    assert fired(faults) == first
    assert fired(_faults(rule, seed=2)) != first
    assert fired(_faults("add,op=open,errno=EPERM", rule)) != first
    assert 0.28 < fired(_faults(rule), 10_000).count("x") / 10_000 < 0.32
    # A larger chance hits all that a smaller one hits.
    more = fired(_faults(rule.replace("30", "60")))
    assert all(b == "x" for a, b in zip(first, more, strict=True) if a == "x")


# Thirty draws of 30 % with the seed 1.
FIRST = "..x.x..xx..x.xx..xxx.x...xxxxx"


@dataclass
class _Model:
    """A rule as a plain record, and how often it fired."""

    op: str | None
    file: str | None
    uid: int | None
    times: int | None
    error: str
    fired: int = field(default=0)

    def line(self) -> str:
        filters = {"op": self.op, "file": self.file, "uid": self.uid, "times": self.times, "errno": self.error}
        return ",".join(["add", *(f"{key}={value}" for key, value in filters.items() if value is not None)])

    def hits(self, op: str, path: str, uid: int) -> bool:
        inside = self.file is None or f"/{path}/".find(f"/{self.file}/") >= 0
        return inside and self.op in (None, op) and self.uid in (None, uid) and self.fired != self.times


_RULES = st.builds(
    _Model,
    st.sampled_from([None, "open", "read", "write"]),
    st.sampled_from([None, "page_pinner", "threshold", RECORDS]),
    st.sampled_from([None, 0, 5]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["EIO", "EPERM", "ENOMEM"]),
)
_REQUESTS = st.tuples(
    st.sampled_from(["open", "read", "write", "lookup"]),
    st.sampled_from([*PATHS, ".pinnerfs/do"]),
    st.sampled_from([0, 5]),
)


@given(st.lists(st.one_of(_RULES, _REQUESTS, st.just("removeall")), max_size=40))
def test_against_a_sequential_model(steps: list[_Model | tuple[str, str, int] | str]) -> None:
    """Whatever is added, removed and asked: the first rule that matches and has times left fires."""
    faults = _faults()
    model: list[_Model] = []
    for step in steps:
        if isinstance(step, str):
            faults.write(step)
            model.clear()
        elif isinstance(step, _Model):
            rule = _Model(step.op, step.file, step.uid, step.times, step.error)
            faults.write(rule.line())
            model.append(rule)
        else:
            op, path, uid = step
            hit = next((rule for rule in model if rule.hits(op, path, uid)), None)
            if op == "lookup" or path not in PATHS:
                hit = None
            answer = _ask(faults, op, path, uid)
            assert answer == (Fault(getattr(errno, hit.error)) if hit else None)
            if hit:
                hit.fired += 1
        assert faults.text() == "".join(f"{rule.line()} fired={rule.fired}\n" for rule in model)


_WORDS = st.sampled_from(
    ["add", "removeall", "errno=EIO", "op=read", "cut", "missing", "delay=1s", "times=2", "chance=5"]
)


@given(st.one_of(st.text(), st.lists(st.lists(_WORDS, max_size=4).map(",".join), max_size=4).map("\n".join)))
def test_any_text(text: str) -> None:
    """A write is refused with one printable line and changes nothing, or its rules read back as the same rules."""
    faults = _faults("add,cut")
    before = faults.text()
    try:
        faults.write(text)
    except ValueError as error:
        assert str(error).isprintable() and faults.text() == before
    else:
        shown = [line.rsplit(" ", 1)[0] for line in faults.text().splitlines()]
        if shown:
            again = _faults(*shown)
            assert again.text() == faults.text()
            assert all(rule is not None for rule in parse_rules("\n".join(shown), PATHS))
