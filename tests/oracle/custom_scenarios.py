"""Cases that need a scenario of their own, because their calls describe a sequence of pins.

The function of a case builds the scenario, reads the files as the recorder did, and returns one answer per call. An
answer has the keys of the recorded answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.oracle.cases import Case, Op
from tests.oracle.layouts import RECORD, pfn_of
from tests.oracle.sandbox import Sandbox
from tests.oracle.scenarios import Layout, Pin, pins_shown

__all__ = ["CUSTOM_SCENARIOS", "play"]

# Opens a sandbox; the arguments are a kernel and the text of a scenario.
OpenSandbox = Callable[[str, str], AbstractContextManager[Sandbox]]

MS, S = 1000, 1_000_000  # in µs


@dataclass(frozen=True)
class Hold:
    """A pin that starts `at` µs, `repeat` times, once every `every` µs; `keys` are further keys of its task."""

    pin: Pin
    at: int = 0
    keys: str = ""
    repeat: int = 1
    every: int = S

    def task(self, name: str, layout: Layout) -> str:
        """Return the TOML of the task. A task that shares the pages of another task has no region."""
        region = "" if "share" in self.keys else layout.region(self.pin)
        hold = "" if '"never"' in self.keys else f'\nhold = "{self.pin.hold}us"'
        mapped = "" if self.pin.mapped else "mapped = false\n"
        return (
            f'[[task]]\nname = "{name}"\nstack = {layout.stack(self.pin.frames)}\n{region}\n{self.keys}\n'
            f'{mapped}start = "{self.at}us"\n'
            f'[[task.phase]]\nrepeat = {self.repeat}\nevery = "{self.every}us"{hold}\n'
            '[[task.phase]]\nfor = "8000h"'
        )


def sequence(pins: Iterable[Pin], start: int = 0, every: int = S) -> list[Hold]:
    """Return holds of these pins that start one after the other."""
    return [Hold(pin, start + number * every) for number, pin in enumerate(pins)]


class Matching:
    """A value that equals any text of this form, for answers that depend on the machine."""

    def __init__(self, form: str) -> None:
        self._form = form

    def __eq__(self, other: object) -> bool:
        return re.fullmatch(self._form, str(other)) is not None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Matching({self._form!r})"


class Replay:
    """The replay of one case in a sandbox of its own."""

    def __init__(self, case: Case, open_sandbox: OpenSandbox) -> None:
        self.case, self._open_sandbox = case, open_sandbox

    def pins(self, *calls: int) -> list[Pin]:
        """Return the pins whose records these calls returned (all calls by default), oldest first."""
        return pins_shown([self.case.ops[call] for call in calls] if calls else self.case.ops)

    def run(self, holds: Iterable[Hold], observe: Callable[[Sandbox], list[Op]]) -> list[Op]:
        """Call `observe` in a sandbox whose scenario has these holds, and return its answers."""
        holds = list(holds)
        layout = Layout(hold.pin for hold in holds)
        tasks = [hold.task(f"task{number}", layout) for number, hold in enumerate(holds)]
        with self._open_sandbox(self.case.generation, "\n\n".join([*layout.tables(), *tasks]) + "\n") as sandbox:
            answers = observe(sandbox)
            log = sandbox.log()
            assert "Traceback" not in log and "ERROR" not in log, log
        return answers

    def with_count_1(self, record: str, count: int) -> str:
        """Check the count of a record of `introduced` and return the record with a count of 1.

        Only that kernel prints the number of pins. Return the records of others unchanged.
        """
        if self.case.generation != "introduced":
            return record
        assert f" us count {count}\n" in record
        return record.replace(f" us count {count}\n", " us count 1\n")


def advance_to(sandbox: Sandbox, moment: int) -> None:
    """Advance the clock to `moment`, in µs since the start."""
    sandbox.write(".pinnerfs/advance", f"{moment - int((sandbox.path / '.pinnerfs' / 'clock').read_text())}us")


def _longterm(sandbox: Sandbox) -> Path:
    return sandbox.path / "page_pinner" / "longterm_pinner"


def read_records(sandbox: Sandbox) -> list[str]:
    """Return the records of longterm_pinner, one text for each."""
    found = []
    fd = os.open(_longterm(sandbox), os.O_RDONLY)
    while text := os.read(fd, 4096):
        found.append(text.decode())
    os.close(fd)
    return found


def as_answer(found: list[str], first: int | None = None) -> Op:
    """Return the answer that has the number of the records and the text of the first ones."""
    return {"n": len(found), "ret": found[:first]}


def first_lines(found: list[str]) -> Op:
    """Return the answer that has the number of the records and the first line of each."""
    return {"n": len(found), "ret": [text.split("\n")[0] for text in found]}


def durations(found: list[str]) -> list[int]:
    """Return the durations of the records, in µs."""
    return [_duration(text) for text in found]


def _duration(record: str) -> int:
    match = re.match(r".* pinned (?:ts|for) (\d+) us", record)
    assert match is not None, record
    return int(match[1])


def _read(sandbox: Sandbox, name: str, size: int) -> list[Op]:
    """Return the answers of open, read and close."""
    fd = os.open(sandbox.path / "page_pinner" / name, os.O_RDONLY)
    text = os.read(fd, size).decode()
    os.close(fd)
    return [{"ret": fd}, {"ret": len(text), "data": text}, {"ret": None}]


def short_then_long(replay: Replay) -> list[Op]:
    """Pin three times for 5 ms and read once, then pin three times for 80 ms and read to the end."""
    pins = replay.pins()
    short = [replace(pin, hold=5 * MS) for pin in pins]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("50000")
        advance_to(sandbox, 10 * S)
        answers = _read(sandbox, "longterm_pinner", 4096)
        advance_to(sandbox, 20 * S)
        opened, *_, closed = _read(sandbox, "longterm_pinner", 4096)
        texts = [*read_records(sandbox), ""]
        return [*answers, opened, *({"ret": len(text), "data": text} for text in texts), closed]

    return replay.run([*sequence(short), *sequence(pins, 10 * S)], observe)


def near_threshold(replay: Replay) -> list[Op]:
    """Record forty holds above a threshold of 150 µs, and not the two holds at or below it."""
    recorded = replay.case.ops[0]["ret"]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("150")
        advance_to(sandbox, 40 * S)
        found = durations(read_records(sandbox))[::-1]
        return [{"ret": [[slept, delta] for (slept, _), delta in zip(recorded, found, strict=True)]}]

    holds = [Pin(delta) for _, delta in recorded]
    return replay.run(sequence([*holds[:20], Pin(149), Pin(150), *holds[20:]], every=S // 2), observe)


def _pins_as_counted(call: str, ret: list[int], least: Iterable[int]) -> dict[int, int]:
    """Return durations in µs and the number of pins of each, which the recorder counted so.

    `ret` has the number of pins, the shortest, and how many have each of the durations that `call` names at its end.
    `least` are durations that must occur.
    """
    total, shortest, *many = ret
    looked_for = [int(number) for number in call.split("== ")[1].split("/")]
    counts = {duration: count for duration, count in zip(looked_for, many, strict=True) if count}
    for duration in {shortest, *least} - counts.keys():
        assert duration not in looked_for
        counts[duration] = sum(value == duration for value in least) or 1
    longer = max(*looked_for, shortest, *least) + 10
    counts[longer] = total - sum(counts.values())
    return counts


def equal_threshold(replay: Replay) -> list[Op]:
    """A pin that lasts exactly as long as the threshold is not recorded.

    The recorder made 1500 short pins at a threshold, and then at threshold 0.
    """
    above, every = replay.case.ops
    match = re.match(r"threshold (\d+), (\d+) short pins", above["call"])
    assert match is not None
    threshold, pins = int(match[1]), int(match[2])
    long = _pins_as_counted(above["call"], above["ret"], ())
    long[threshold] = pins - above["ret"][0]
    all_ = _pins_as_counted(every["call"], every["ret"], every["sorted20"])

    def holds(counts: dict[int, int], start: int) -> list[Hold]:
        return [
            Hold(Pin(duration), start, repeat=many, every=1000 + number)
            for number, (duration, many) in enumerate(counts.items())
            if many
        ]

    def count(found: list[int], call: str) -> list[int]:
        return [len(found), min(found), *(found.count(int(number)) for number in call.split("== ")[1].split("/"))]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold(str(threshold))
        advance_to(sandbox, 100 * S)
        recorded = durations(read_records(sandbox))
        sandbox.threshold("0")
        advance_to(sandbox, 200 * S)
        found = durations(read_records(sandbox))
        return [
            {"ret": count(recorded, above["call"])},
            {"ret": count(found, every["call"]), "sorted20": sorted(found)[:20]},
        ]

    return replay.run([*holds(long, 0), *holds(all_, 100 * S)], observe)


def th_minus1(replay: Replay) -> list[Op]:
    """A threshold of -1 records every release, however short the pin was."""
    pins = replay.pins()

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("18446744073709551615")
        advance_to(sandbox, 10 * S)
        found = read_records(sandbox)
        opened = _read(sandbox, "longterm_pinner", 4096)[0]
        texts = {"ret": [str(delta) for delta in durations(found)]}
        return [*_read(sandbox, "threshold", 100), opened, {"ret": len(found)}, texts, {"ret": found}]

    return replay.run(sequence(pins), observe)


def th_int64min(replay: Replay) -> list[Op]:
    """The lowest threshold reads back unchanged and records every release."""
    holds = durations(replay.case.ops[3]["ret"])

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold(str(1 << 63))
        advance_to(sandbox, 10 * S)
        return [*_read(sandbox, "threshold", 99), first_lines(read_records(sandbox))]

    return replay.run(sequence(Pin(hold) for hold in reversed(holds)), observe)


def held(replay: Replay) -> list[Op]:
    """Each of two held pages is recorded at its release, not before."""
    first, second = replay.pins(2)

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        answers: list[Op] = []
        for moment in (20 * MS, first.hold, second.hold):
            advance_to(sandbox, moment)
            answers.append({"ret": read_records(sandbox)})
        return answers

    return replay.run([Hold(first), Hold(second)], observe)


def never_released(replay: Replay) -> list[Op]:
    """A page that stays pinned is never recorded."""

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, 3600 * S)
        return [as_answer(read_records(sandbox))]

    return replay.run([Hold(Pin(0), keys='release = "never"\npages = 2')], observe)


def pin_twice(replay: Replay) -> list[Op]:
    """A second pin overwrites the mark. The first release records it, and the second release records nothing."""
    second, third = replay.pins(1)[0], replay.pins(3)[1]
    released = 40 * MS + second.hold

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        answers = []
        for moment in (50 * MS, released, 80 * MS, 5 * S):
            advance_to(sandbox, moment)
            found = read_records(sandbox)
            answers.append(as_answer([*found[:-1], *(replay.with_count_1(text, 2) for text in found[-1:])]))
        return answers

    return replay.run(
        [Hold(replace(second, hold=80 * MS)), Hold(second, 40 * MS, 'share = "task0"'), Hold(third, 4 * S)], observe
    )


def put_page(replay: Replay) -> list[Op]:
    """A release by put_page is not recorded."""

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        return [as_answer(read_records(sandbox))]

    return replay.run([Hold(Pin(20 * MS), keys='release = "put_page"\npages = 2')], observe)


def put_page_then_pin(replay: Replay) -> list[Op]:
    """A pin after put_page restarts the measurement."""
    (pin,) = replay.pins()

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        # put_page leaves the mark of the first pin, so the count is 2.
        return [as_answer([replay.with_count_1(text, 2) for text in read_records(sandbox)])]

    # The first task takes all pages of the block, so the second task pins one of them again.
    first = Hold(replace(pin, hold=20 * MS), keys='release = "put_page"\npages = 1024')
    return replay.run([first, Hold(pin, 50 * MS)], observe)


def _pinned_by(replay: Replay, keys: list[str]) -> list[Op]:
    """Pin two pages for 20 ms at each call; `keys` has further keys of the tasks of each call."""
    given = [replay.pins(call) or [Pin(20 * MS), Pin(20 * MS)] for call in range(len(replay.case.ops))]
    holds = [
        Hold(pin, call * 10 * S + number * S, keys[call])
        for call, pins in enumerate(given)
        for number, pin in enumerate(pins)
    ]

    def observe(sandbox: Sandbox) -> list[Op]:
        answers = []
        for call in range(len(given)):
            sandbox.threshold("1000")
            advance_to(sandbox, (call + 1) * 10 * S - S)
            answers.append(as_answer(read_records(sandbox)))
        return answers

    return replay.run(holds, observe)


def foll_pin(replay: Replay) -> list[Op]:
    """Pin by pin_user_pages twice, then by get_user_pages."""
    return _pinned_by(replay, ['foll = "FOLL_PIN"', 'foll = "FOLL_PIN"', ""])


def any_page(replay: Replay) -> list[Op]:
    """Unmapped pages and pages of a file are recorded like all others."""
    return _pinned_by(replay, ["", ""])


def huge_page(replay: Replay) -> list[Op]:
    """The release of a page of order 9 writes 512 records, all for the head page."""
    pin = replay.pins(1)[0]
    # The scenario must not set `head`: the compound page implies it.
    page = replace(pin, flags=tuple(flag for flag in pin.flags if flag != "head"))

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        found = read_records(sandbox)
        assert len({pfn_of(text) for text in found}) == 1
        # On a device time passes between the first record and the last, so the number of equal records varies.
        return [{"ret": Matching(r"\d+\n")}, as_answer(found, 6), {"ret": [len(found), Matching(r"\d+")]}]

    return replay.run([Hold(page, keys="order = 9")], observe)


def _overflow(replay: Replay, call: int, pins: int) -> tuple[Op, list[str]]:
    """Return the answer and all records after this many holds.

    The newest holds have the recorded durations, and so have the oldest of those that the ring keeps.
    """
    op = replay.case.ops[call]
    newest, oldest = op["deltas_first5"], op["deltas_last5"]
    page = pins_shown(op["first"], op["last"])[0]
    kept = min(pins, 4096)
    # Oldest first: the overwritten records, the oldest that remain, the middle, the newest.
    middle = kept - 10
    holds = [Hold(replace(page, hold=900 * MS), repeat=pins - kept)] if pins > kept else []
    start = (pins - kept) * S
    holds += sequence((replace(page, hold=delta) for delta in reversed(oldest)), start)
    holds.append(Hold(replace(page, hold=800 * MS), start + 5 * S, repeat=middle))
    holds += sequence((replace(page, hold=delta) for delta in reversed(newest)), start + (5 + middle) * S)
    # The case has the whole text of two records at each end. Their pages may have other flags.
    for group, place in ((pins_shown(op["first"]), -2), (pins_shown(op["last"]), -11)):
        for number, pin in enumerate(group):
            index = len(holds) + place + number
            holds[index] = replace(holds[index], pin=pin)
    texts: list[str] = []
    extra = 0

    def observe(sandbox: Sandbox) -> list[Op]:
        nonlocal extra
        sandbox.threshold("1000")
        advance_to(sandbox, (pins + 10) * S)
        fd = os.open(_longterm(sandbox), os.O_RDONLY)
        while text := os.read(fd, 4096):
            texts.append(text.decode())
        extra = len(os.read(fd, 4096))
        os.close(fd)
        return []

    replay.run(holds, observe)
    answer = {
        "n": len(texts),
        "first": texts[:2],
        "last": texts[-2:],
        "extra_read_after_eof": extra,
        "deltas_first5": durations(texts[:5]),
        "deltas_last5": durations(texts[-5:]),
    }
    return answer, texts


def overflow(replay: Replay) -> list[Op]:
    """After 5000 records the ring has the last 4096, newest first."""
    answer, texts = _overflow(replay, 0, 5000)
    op = replay.case.ops[0]
    wanted = [*op["deltas_first5"], *[800 * MS] * 4086, *op["deltas_last5"]]
    return [answer, {"ret": durations(texts) == wanted, "n": len(texts)}]


def overflow_edges(replay: Replay) -> list[Op]:
    """The same with about 4096 records, and with twice as many."""
    counts = [int(op["call"].split()[0]) for op in replay.case.ops]
    return [_overflow(replay, call, pins)[0] for call, pins in enumerate(counts)]


def kernel_users(replay: Replay) -> list[Op]:
    """execve pins six pages; the answer counts the records by their innermost frames."""
    ((frames, many),) = replay.case.ops[0]["ret"].items()
    symbols = [*frames.split(" < "), "do_execveat_common"]
    pin = Pin(7, frames=tuple(f"{symbol}+0x10/0x20" for symbol in symbols))

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("18446744073709551615")
        advance_to(sandbox, 100 * S)
        users: dict[str, int] = {}
        for text in read_records(sandbox):
            user = " < ".join(line.split("+")[0].strip() for line in text.split("\n")[2:6])
            users[user] = users.get(user, 0) + 1
        return [{"ret": users}]

    return replay.run([Hold(pin, repeat=many)], observe)


def concurrent(replay: Replay) -> list[Op]:
    """Every record is complete when new records arrive before each read."""
    wanted = replay.case.ops[0]["ret"]["records_read"]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        read = malformed = 0
        while read < wanted:
            fd = os.open(_longterm(sandbox), os.O_RDONLY)
            for _ in range(50):
                sandbox.write(".pinnerfs/advance", "1s")
                text = os.read(fd, 4096).decode()
                read += bool(text)
                malformed += RECORD.fullmatch(text) is None
            os.close(fd)
        return [{"ret": {"records_read": read, "malformed": malformed}}]

    return replay.run([Hold(Pin(5 * MS), repeat=10_000)], observe)


def threshold_at_release(replay: Replay) -> list[Op]:
    """Only the threshold at the release matters, not the threshold at the pin."""
    (lowered,) = durations(replay.case.ops[1]["ret"])

    def observe(sandbox: Sandbox) -> list[Op]:
        answers = []
        for start, before, after in ((0, "5000000", "5000000"), (10, "5000000", "1000"), (20, "1000", "5000000")):
            sandbox.threshold(before)
            advance_to(sandbox, start * S + 10 * MS)
            if after != before:
                sandbox.threshold(after)
            advance_to(sandbox, start * S + S)
            answers.append(first_lines(read_records(sandbox)))
        return answers

    return replay.run([Hold(Pin(20 * MS)), Hold(Pin(lowered), 10 * S), Hold(Pin(20 * MS), 20 * S)], observe)


def default_threshold(replay: Replay) -> list[Op]:
    """The default threshold does not record a pin of 299 or 300 ms, but a pin of 1.5 s."""
    (long,) = durations(replay.case.ops[1]["ret"])

    def observe(sandbox: Sandbox) -> list[Op]:
        advance_to(sandbox, S)
        before = first_lines(read_records(sandbox))
        advance_to(sandbox, 20 * S)
        return [before, first_lines(read_records(sandbox))]

    return replay.run([Hold(Pin(299 * MS)), Hold(Pin(300 * MS), 5 * S), Hold(Pin(long), 10 * S)], observe)


def release_order(replay: Replay) -> list[Op]:
    """Pages 0, 1 and 2 are released in the order 2, 0, 1. The decimal digits of a PFN identify the page."""
    pages = (4, 5, 6)
    holds = {2: 10, 0: 20, 1: 30}

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        numbers = [pfn_of(text) for text in read_records(sandbox)]
        return [{"ret": [pages.index(len(str(number))) for number in numbers]}]

    return replay.run([Hold(Pin(holds[page] * MS, digits)) for page, digits in enumerate(pages)], observe)


def second_pin_restarts_clock(replay: Replay) -> list[Op]:
    """The second pin of a page restarts its clock, and the first release removes the mark."""

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("5000")
        answers = []
        for moment in (12 * MS, S):
            advance_to(sandbox, moment)
            answers.append(first_lines(read_records(sandbox)))
        return answers

    return replay.run([Hold(Pin(20 * MS)), Hold(Pin(100), 10 * MS, 'share = "task0"')], observe)


CUSTOM_SCENARIOS: dict[str, Callable[[Replay], list[Op]]] = {
    "lt.short-then-long": short_then_long,
    "lt.near-threshold": near_threshold,
    "lt.equal-threshold": equal_threshold,
    "lt.equal-threshold.cma400file": equal_threshold,
    "lt.th-minus1": th_minus1,
    "lt.th-int64min": th_int64min,
    "lt.held": held,
    "lt.never-released": never_released,
    "lt.pin-twice": pin_twice,
    "lt.pin-twice.hookpin": pin_twice,
    "lt.put_page": put_page,
    "lt.put_page-then-pin": put_page_then_pin,
    "lt.foll-pin": foll_pin,
    "lt.foll-pin.hookpin": foll_pin,
    "lt.unmapped": any_page,
    "lt.filemap": any_page,
    "lt.thp": huge_page,
    "lt.thp.hookpin": huge_page,
    "lt.overflow5000": overflow,
    "lt.overflow-edges": overflow_edges,
    "lt.kernel-users": kernel_users,
    "lt.concurrent": concurrent,
    "lt.threshold-at-release": threshold_at_release,
    "lt.default-threshold": default_threshold,
    "lt.release-order": release_order,
    "lt.second-pin-restarts-clock": second_pin_restarts_clock,
}


def play(case: Case, open_sandbox: OpenSandbox) -> list[Op]:
    """Run the scenario of a case and return the answers to its calls."""
    return CUSTOM_SCENARIOS[case.name](Replay(case, open_sandbox))
