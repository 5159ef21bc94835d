"""Which rules are in force, and which of them a request meets."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.clock import ManualClock
from pinnerfs.debugfs.inject import Faults, cma_files, file_of
from pinnerfs.scenario.faults import MAX_RULES, Fault

FILES = ("longterm_pinner", "threshold")


@dataclass
class _Caller:
    """A caller that counts how often its name and its process are looked up."""

    uid: int = 0
    process: int = 7
    name: str = "cat"
    looked_up: list[str] = field(default_factory=list)

    @property
    def comm(self) -> str:
        self.looked_up.append("comm")
        return self.name

    @property
    def pid(self) -> int:
        self.looked_up.append("pid")
        return self.process


def _faults(*lines: str, seed: int = 1, planned: tuple[Fault, ...] = (), clock: ManualClock | None = None) -> Faults:
    faults = Faults(planned, seed, FILES, (clock or ManualClock()).now)
    if lines:
        faults.write("\n".join(lines))
    return faults


def _ask(faults: Faults, op: str = "read", file: str = "longterm_pinner", caller: _Caller | None = None) -> str | None:
    """Return the line of the rule that a request meets."""
    rule = faults.fault(op, file, caller or _Caller())
    return None if rule is None else rule.text


def _hidden(faults: Faults, caller: _Caller | None = None) -> bool:
    """Return whether a caller finds the directory missing."""
    return faults.fault("lookup", "", caller or _Caller()) is not None


def _fired(faults: Faults, count: int = 30) -> str:
    return "".join("x" if _ask(faults) else "." for _ in range(count))


def test_a_rule_matches_by_all_its_filters() -> None:
    """A rule hits a request only if operation, file, user, process and name are its own."""
    line = "add,op=read,file=longterm_pinner,errno=EIO,uid=5,comm=cat,pid=7"
    faults = _faults(line)
    assert _ask(faults, caller=_Caller(uid=5)) == line
    assert _ask(faults, "open", caller=_Caller(uid=5)) is None
    assert _ask(faults, file="threshold", caller=_Caller(uid=5)) is None
    assert _ask(faults) is None
    assert _ask(faults, caller=_Caller(uid=5, process=8)) is None
    assert _ask(faults, caller=_Caller(uid=5, name="dd")) is None
    assert faults.text() == f"{line} fired=1\n"


def test_a_rule_without_filters() -> None:
    """A rule without `op` and `file` hits all operations on all files; `cut` hits reads."""
    faults = _faults("add,cut", "add,errno=EIO")
    for file in FILES:
        assert [_ask(faults, op, file) for op in ("open", "read", "write")] == [
            "add,errno=EIO",
            "add,cut",
            "add,errno=EIO",
        ]


def test_a_name_is_only_read_for_a_rule_with_one() -> None:
    """The name and the process of a caller cost a look into /proc, so they are looked up only where they decide."""
    caller = _Caller()
    faults = _faults("add,op=read,errno=EIO", "add,op=write,uid=1,pid=7,comm=cat,errno=EPERM")
    assert _ask(faults, caller=caller) is not None
    assert _ask(faults, "write", caller=caller) is None
    assert caller.looked_up == []
    caller.uid = 1
    assert _ask(faults, "write", caller=caller) is not None
    assert caller.looked_up == ["pid", "comm"]


def test_the_first_rule_that_fires_wins() -> None:
    """A rule with `times` lets later rules have the requests that it no longer hits."""
    faults = _faults("add,op=read,errno=EIO,times=2", "add,errno=EPERM")
    assert [_ask(faults) for _ in range(3)] == ["add,op=read,errno=EIO,times=2"] * 2 + ["add,errno=EPERM"]
    assert faults.text() == "add,op=read,errno=EIO,times=2 fired=2\nadd,errno=EPERM fired=1\n"


def test_missing_is_about_the_directory() -> None:
    """A rule `missing` hides the directory and all in it from callers that match; open files can be used."""
    faults = _faults("add,missing,uid=5")
    assert faults.may_hide
    for op, file in (("lookup", ""), ("lookup", "threshold"), ("opendir", ""), ("open", "threshold")):
        rule = faults.fault(op, file, _Caller(uid=5))
        assert rule is not None and rule.number == errno.ENOENT
        assert faults.fault(op, file, _Caller()) is None
    assert [_ask(faults, op, caller=_Caller(uid=5)) for op in ("read", "write")] == [None] * 2
    assert faults.text() == "add,missing,uid=5 fired=4\n"
    other = _faults("add,errno=ENOENT")
    assert not other.may_hide and not _hidden(other)


def test_removing_all_rules() -> None:
    """After `removeall` requests need not ask; the same write can add new rules."""
    faults = _faults("add,errno=EIO", "add,missing")
    assert faults.active and faults.may_hide
    faults.write("removeall\n")
    assert not faults.active and not faults.may_hide
    assert faults.text() == "" and _ask(faults) is None
    faults.write("add,errno=EIO\nremoveall\nadd,cut\n")
    assert faults.text() == "add,cut fired=0\n"


def test_files_of_areas() -> None:
    """A rule hits a file in cma/ only if it names it."""
    files = [*FILES, *cma_files(["cma-camera"])]
    faults = Faults([], 0, files, ManualClock().now)
    faults.write("add,errno=EPERM\nadd,missing\nadd,file=cma/cma-camera/used,errno=EIO")
    assert _ask(faults, file="cma/cma-camera/used") == "add,file=cma/cma-camera/used,errno=EIO"
    assert _ask(faults, file="cma/cma-camera/free") is None
    assert file_of("/cma/cma-camera/used") == "cma/cma-camera/used"
    assert [file_of(path) for path in ("/page_pinner", "/page_pinner/a")] == ["", "a"]
    assert [file_of(path) for path in ("/", "/cma", "/.pinnerfs/do")] == [None] * 3
    with pytest.raises(ValueError, match="this kernel has only longterm_pinner, threshold, cma/cma-camera/alloc, "):
        faults.write("add,file=cma/camera/used,errno=EIO")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("add,cut\nadd,missing,op=read", "line 2: op does not go with missing"),
        ("add,file=failure_tracking,cut", "file = 'failure_tracking': this kernel has only longterm_pinner, threshold"),
        ("add,cut\n" * MAX_RULES, "too many rules: wanted at most 256"),
    ],
)
def test_a_bad_write_changes_nothing(text: str, reason: str) -> None:
    """A write with a bad line, a file that this kernel lacks, or too many rules adds none of its rules."""
    faults = _faults("add,op=write,errno=EIO")
    with pytest.raises(ValueError, match=f"^{reason}"):
        faults.write(text)
    assert faults.text() == "add,op=write,errno=EIO fired=0\n"


def test_many_lines_that_remove() -> None:
    """The limit is for the rules in force, however many lines a write has."""
    faults = _faults(*("add,cut\n" * MAX_RULES + "removeall\n").splitlines() * 3, "add,errno=EIO")
    assert faults.text() == "add,errno=EIO fired=0\n"


def test_the_chance_is_drawn_from_the_seed() -> None:
    """The same seed, rules and requests give the same faults, on every machine; `removeall` starts again."""
    rule = "add,errno=EIO,chance=30"
    faults = _faults(rule)
    first = _fired(faults)
    assert first == THIRTY_DRAWS
    assert _fired(faults) != first
    faults.write(f"removeall\n{rule}")
    assert _fired(faults) == first
    assert _fired(_faults(rule, seed=2)) != first
    assert 0.28 < _fired(_faults(rule), 10_000).count("x") / 10_000 < 0.32


def test_other_rules_do_not_change_a_draw() -> None:
    """A draw depends on the rule, not on its place among others; equal rules draw differently."""
    rule = "add,op=read,errno=EIO,chance=30"
    assert _fired(_faults("add,op=open,errno=EPERM,chance=30", rule)) == _fired(_faults(rule))
    faults = _faults(rule, rule)
    assert _fired(faults, 10_000).count("x") > 4500  # 51 % in the long run
    first, second = (int(line.rpartition("=")[2]) for line in faults.text().splitlines())
    assert second < first


# Thirty draws of 30 percent with the seed 1.
THIRTY_DRAWS = ".........xx.x.x.x..x.xx....x.."


def test_planned_rules() -> None:
    """A scenario's rule comes into force when the clock reaches its moment, as if it were written then."""
    clock = ManualClock()
    planned = (
        Fault(at="20s", removeall=True),
        Fault(at="10s", errno="EIO"),
        Fault(at="30s", missing=True),
        Fault(at="10s", cut=True),
    )
    faults = _faults(planned=planned, clock=clock)
    assert faults.active and faults.may_hide  # requests must ask, and the kernel must not keep names
    assert faults.text() == "" and _ask(faults) is None
    clock.advance(9_999_999)
    assert _ask(faults) is None
    clock.advance(1)
    assert _ask(faults) == "add,errno=EIO"
    assert faults.text() == "add,errno=EIO fired=1\nadd,cut fired=0\n"
    clock.advance(10_000_000)
    assert _ask(faults) is None and faults.active
    assert not _hidden(faults)
    clock.advance(10_000_000)
    assert _hidden(faults)
    faults.write("removeall")
    assert not faults.active and not faults.may_hide


def test_a_live_rule_comes_after_planned_ones_that_are_due() -> None:
    """Rules are in the order in which they come into force, whenever requests look at them."""
    clock = ManualClock()
    faults = _faults(planned=(Fault(at="10s", errno="EIO"),), clock=clock)
    clock.advance(10_000_000)
    faults.write("add,errno=EPERM")
    assert faults.text() == "add,errno=EIO fired=0\nadd,errno=EPERM fired=0\n"
    faults.write("removeall")
    assert faults.text() == ""


def test_a_planned_rule_for_a_file_of_another_kernel() -> None:
    """A scenario is for every kernel: a rule for a file that this one lacks never fires."""
    faults = _faults(planned=(Fault(file="failure_tracking", errno="EIO"),))
    assert faults.text() == "add,file=failure_tracking,errno=EIO fired=0\n"


@dataclass
class _Model:
    """A rule as a plain record, and how often it fired."""

    op: str | None
    file: str | None
    uid: int | None
    times: int | None
    error: str
    fired: int = 0

    def line(self) -> str:
        pairs = {"op": self.op, "file": self.file, "errno": self.error, "times": self.times, "uid": self.uid}
        return ",".join(["add", *(f"{key}={value}" for key, value in pairs.items() if value is not None)])

    def hits(self, op: str, file: str, uid: int) -> bool:
        pairs = ((self.op, op), (self.file, file), (self.uid, uid))
        return all(wanted in (None, came) for wanted, came in pairs) and self.fired != self.times


_RULES = st.builds(
    _Model,
    st.sampled_from([None, "open", "read", "write"]),
    st.sampled_from([None, *FILES]),
    st.sampled_from([None, 0, 5]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["EIO", "EPERM", "ENOMEM"]),
)
_REQUESTS = st.tuples(st.sampled_from(["open", "read", "write"]), st.sampled_from(FILES), st.sampled_from([0, 5]))


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
            op, file, uid = step
            hit = next((rule for rule in model if rule.hits(op, file, uid)), None)
            met = faults.fault(op, file, _Caller(uid=uid))
            assert (met and met.number) == (hit and getattr(errno, hit.error))
            if hit:
                hit.fired += 1
        assert faults.text() == "".join(f"{rule.line()} fired={rule.fired}\n" for rule in model)
        assert faults.active == bool(model)
