"""The cases whose calls tell a story of pins: each is played by a scenario of its own, and asked as the recorder did.

A case's function gets a Replay and returns an answer for each of its calls, with the keys of the recorded one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.oracle.cases import RECORDED_BY, Case, Op
from tests.oracle.sandbox import Sandbox
from tests.oracle.scenarios import RECORD, Layout, Pin, pins_shown

__all__ = ["CUSTOM_SCENARIOS", "play"]

# A sandbox of this kernel with this scenario, for one use.
OpenSandbox = Callable[[str, str], AbstractContextManager[Sandbox]]

MS, S = 1000, 1_000_000  # in µs


@dataclass(frozen=True)
class Hold:
    """A pin's hold: from when on, in µs; extra keys of its task; how many of them, one each `every` µs."""

    pin: Pin
    at: int = 0
    keys: str = ""
    repeat: int = 1
    every: int = S

    def task(self, name: str, layout: Layout) -> str:
        """Its task; one that shares another's pages has no region of its own."""
        region = "" if "share" in self.keys else layout.region(self.pin)
        hold = "" if '"never"' in self.keys else f'\nhold = "{self.pin.hold}us"'
        return (
            f'[[task]]\nname = "{name}"\n{layout.stack(self.pin)}\n{region}\n{self.keys}\nstart = "{self.at}us"\n'
            f'[[task.phase]]\nrepeat = {self.repeat}\nevery = "{self.every}us"{hold}\n'
            '[[task.phase]]\nfor = "8000h"'
        )


def sequence(pins: Iterable[Pin], start: int = 0, every: int = S) -> list[Hold]:
    """One after the other."""
    return [Hold(pin, start + number * every) for number, pin in enumerate(pins)]


class Matching:
    """What hangs on the machine: any text of this form."""

    def __init__(self, form: str) -> None:
        self._form = form

    def __eq__(self, other: object) -> bool:
        return re.fullmatch(self._form, str(other)) is not None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Matching({self._form!r})"


class Replay:
    """A sandbox for one case, the recorded pins, and the way that the recorder looked at the files."""

    def __init__(self, case: Case, kernel: str, open_sandbox: OpenSandbox) -> None:
        self.case, self.kernel, self._open_sandbox = case, kernel, open_sandbox

    def pins(self, *calls: int) -> list[Pin]:
        """The pins whose records these answers show, the oldest first; those of all answers if none is named."""
        return pins_shown([self.case.ops[call] for call in calls] if calls else self.case.ops)

    def run(self, holds: Iterable[Hold], observe: Callable[[Sandbox], list[Op]]) -> list[Op]:
        """What `observe` finds in a sandbox where these holds take place."""
        holds = list(holds)
        layout = Layout(hold.pin for hold in holds)
        tasks = [hold.task(f"task{number}", layout) for number, hold in enumerate(holds)]
        with self._open_sandbox(self.kernel, "\n\n".join([*layout.tables(), *tasks]) + "\n") as sandbox:
            answers = observe(sandbox)
            log = sandbox.log()
            assert "Traceback" not in log and "ERROR" not in log, log
        return answers

    def with_count_1(self, record: str, count: int) -> str:
        """A record whose pins must have been this many, in the form of a lone one."""
        if self.kernel == RECORDED_BY:
            return record
        assert f" us count {count}\n" in record
        return record.replace(f" us count {count}\n", " us count 1\n")


def advance_to(sandbox: Sandbox, moment: int) -> None:
    """Let the time come, in µs since the start; everything of that moment happens."""
    sandbox.write(".pinnerfs/advance", f"{moment - int((sandbox.path / '.pinnerfs' / 'clock').read_text())}us")


def _longterm(sandbox: Sandbox) -> Path:
    return sandbox.path / "page_pinner" / "longterm_pinner"


def read_records(sandbox: Sandbox) -> list[str]:
    """What the file says, a text a record."""
    found = []
    fd = os.open(_longterm(sandbox), os.O_RDONLY)
    while text := os.read(fd, 4096):
        found.append(text.decode())
    os.close(fd)
    return found


def as_answer(found: list[str], first: int | None = None) -> Op:
    """Records in the form of an answer: how many, and the texts of the first."""
    return {"n": len(found), "ret": found[:first]}


def first_lines(found: list[str]) -> Op:
    """The same, of each only its first line."""
    return {"n": len(found), "ret": [text.split("\n")[0] for text in found]}


def durations(found: list[str]) -> list[int]:
    """The durations, in µs."""
    return [int(text.split()[3]) for text in found]


def _read(sandbox: Sandbox, name: str, size: int) -> list[Op]:
    """The answers of open, read and close."""
    fd = os.open(sandbox.path / "page_pinner" / name, os.O_RDONLY)
    text = os.read(fd, size).decode()
    os.close(fd)
    return [{"ret": fd}, {"ret": len(text), "data": text}, {"ret": None}]


def short_then_long(replay: Replay) -> list[Op]:
    """Three holds of 5 ms, the file read; three of 80 ms, the file read to its end."""
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
    """Forty holds over a threshold of 150 µs, and two that are not."""
    recorded = replay.case.ops[0]["ret"]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("150")
        advance_to(sandbox, 40 * S)
        found = durations(read_records(sandbox))[::-1]
        return [{"ret": [[slept, delta] for (slept, _), delta in zip(recorded, found, strict=True)]}]

    holds = [Pin(delta) for _, delta in recorded]
    return replay.run(sequence([*holds[:20], Pin(149), Pin(150), *holds[20:]], every=S // 2), observe)


def _equal(replay: Replay, threshold: int, long: dict[int, int], all_: dict[int, int], looked_for: range) -> list[Op]:
    """1500 holds twice: of these durations, so many each; at a threshold, and at 0."""

    def count(found: list[int], wanted: Iterable[int]) -> list[int]:
        return [len(found), min(found), *(found.count(delta) for delta in wanted)]

    def holds(durations: dict[int, int], start: int) -> list[Hold]:
        return [
            Hold(Pin(duration), start, repeat=many, every=1000 + number)
            for number, (duration, many) in enumerate(durations.items())
        ]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold(str(threshold))
        advance_to(sandbox, 100 * S)
        above = durations(read_records(sandbox))
        sandbox.threshold("0")
        advance_to(sandbox, 200 * S)
        every = durations(read_records(sandbox))
        reference = looked_for if threshold == 3 else (1, 2, 3, 60)
        return [
            {"ret": count(above, range(threshold - 1, threshold + 3) if threshold == 3 else looked_for)},
            {"ret": count(every, reference), "sorted20": sorted(every)[:20]},
        ]

    for durations in (long, all_):
        assert sum(durations.values()) == 1500
    return replay.run([*holds(long, 0), *holds(all_, 100 * S)], observe)


def equal_threshold(replay: Replay) -> list[Op]:
    """Under a threshold of 60 µs there were pins of exactly 60, and none was recorded."""
    reference = {2: 109, 3: 249, 30: 639, 60: 1, 67: 200, 90: 302}
    return _equal(replay, 60, reference, reference, range(60, 63))


def equal_threshold_of_3(replay: Replay) -> list[Op]:
    """The same with a threshold of 3 µs, under which pins of 3 were common."""
    long = {2: 400, 3: 311, 4: 182, 5: 69, 9: 538}
    return _equal(replay, 3, long, {1: 1, 2: 540, 3: 412, 4: 27, 5: 11, 9: 509}, range(1, 6))


def th_minus1(replay: Replay) -> list[Op]:
    """A threshold of -1 records every release, be its pin ever so short."""
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
    """The lowest threshold reads back as such, and records every release."""
    holds = [int(head.split()[3]) for head in replay.case.ops[3]["ret"]]

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold(str(1 << 63))
        advance_to(sandbox, 10 * S)
        return [*_read(sandbox, "threshold", 99), first_lines(read_records(sandbox))]

    return replay.run(sequence(Pin(hold) for hold in reversed(holds)), observe)


def held(replay: Replay) -> list[Op]:
    """Two pages are held; each is recorded when it is released, and not before."""
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
    """What is pinned for ever is never recorded."""

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, 3600 * S)
        return [as_answer(read_records(sandbox))]

    return replay.run([Hold(Pin(0), keys='release = "never"\npages = 2')], observe)


def pin_twice(replay: Replay) -> list[Op]:
    """A second pin takes the mark over; the first release is recorded with it, the second finds nothing to record."""
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
    """A plain put_page is not seen."""

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        return [as_answer(read_records(sandbox))]

    return replay.run([Hold(Pin(20 * MS), keys='release = "put_page"\npages = 2')], observe)


def put_page_then_pin(replay: Replay) -> list[Op]:
    """After a put_page the page is pinned anew, which is measured from then on."""
    (pin,) = replay.pins()

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        # The mark of the first pin stayed, so the books count two.
        return [as_answer([replay.with_count_1(text, 2) for text in read_records(sandbox)])]

    # The first takes all pages of the block, so the second meets one of them.
    first = Hold(replace(pin, hold=20 * MS), keys='release = "put_page"\npages = 1024')
    return replay.run([first, Hold(pin, 50 * MS)], observe)


def _pinned_by(replay: Replay, keys: list[str]) -> list[Op]:
    """Each call: two pages for 20 ms; `keys` say how they are taken."""
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
    """pin_user_pages and unpin_user_page twice, then get_user_pages."""
    return _pinned_by(replay, ['foll = "FOLL_PIN"', 'foll = "FOLL_PIN"', ""])


def any_page(replay: Replay) -> list[Op]:
    """Pages that are unmapped meanwhile, or belong to a file, are recorded as all others."""
    return _pinned_by(replay, ["", ""])


def huge_page(replay: Replay) -> list[Op]:
    """One reference to a page of order 9 is 512 records, all of the head page."""
    pin = replay.pins(1)[0]
    # `head` belongs to a compound page: the region does not say it.
    page = replace(pin, flags=tuple(flag for flag in pin.flags if flag != "head"))

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        found = read_records(sandbox)
        (pfn,) = {text.split()[8] for text in found}
        assert pfn.isdecimal()
        # On a device the time goes on between the first record and the last: how many are alike hangs on it.
        return [{"ret": Matching(r"\d+\n")}, as_answer(found, 6), {"ret": [len(found), Matching(r"\d+")]}]

    return replay.run([Hold(page, keys="order = 9")], observe)


def _overflow(replay: Replay, call: int, pins: int) -> tuple[Op, list[str]]:
    """So many holds, of which the newest and the oldest that are left have the recorded durations."""
    op = replay.case.ops[call]
    newest, oldest = op["deltas_first5"], op["deltas_last5"]
    page = pins_shown(op["first"], op["last"])[0]
    kept = min(pins, 4096)
    # Oldest first: what must have gone, what is left of the oldest, the middle, the newest.
    middle = kept - 10
    holds = [Hold(replace(page, hold=900 * MS), repeat=pins - kept)] if pins > kept else []
    start = (pins - kept) * S
    holds += sequence((replace(page, hold=delta) for delta in reversed(oldest)), start)
    holds.append(Hold(replace(page, hold=800 * MS), start + 5 * S, repeat=middle))
    holds += sequence((replace(page, hold=delta) for delta in reversed(newest)), start + (5 + middle) * S)
    # Two records at each end are shown whole: their pages may differ in flags.
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
    """5000 records into a ring of 4096: those that are left are the last, newest first."""
    answer, texts = _overflow(replay, 0, 5000)
    op = replay.case.ops[0]
    wanted = [*op["deltas_first5"], *[800 * MS] * 4086, *op["deltas_last5"]]
    return [answer, {"ret": durations(texts) == wanted, "n": len(texts)}]


def overflow_edges(replay: Replay) -> list[Op]:
    """The same with about as many as the ring holds, and twice as many."""
    counts = [int(op["call"].split()[0]) for op in replay.case.ops]
    return [_overflow(replay, call, pins)[0] for call, pins in enumerate(counts)]


def kernel_users(replay: Replay) -> list[Op]:
    """Six pins by an execve, told by their innermost frames."""
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
    """Every read of a reader meets new records, and each of its 1800 is whole."""
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
    """The threshold in force at the release decides, whatever it was meanwhile."""
    (lowered,) = (int(head.split()[3]) for head in replay.case.ops[1]["ret"])

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
    """Nobody has written a threshold: 299 ms are not long, one and a half seconds are."""
    (long,) = (int(head.split()[3]) for head in replay.case.ops[1]["ret"])

    def observe(sandbox: Sandbox) -> list[Op]:
        advance_to(sandbox, S)
        before = first_lines(read_records(sandbox))
        advance_to(sandbox, 20 * S)
        return [before, first_lines(read_records(sandbox))]

    return replay.run([Hold(Pin(299 * MS)), Hold(Pin(300 * MS), 5 * S), Hold(Pin(long), 10 * S)], observe)


def release_order(replay: Replay) -> list[Op]:
    """Pages 0, 1 and 2 are released in the order 2, 0, 1; a page is told by how many digits its number has."""
    pages = (4, 5, 6)
    holds = {2: 10, 0: 20, 1: 30}

    def observe(sandbox: Sandbox) -> list[Op]:
        sandbox.threshold("1000")
        advance_to(sandbox, S)
        numbers = [re.findall(r"PFN (\d+)", text)[0] for text in read_records(sandbox)]
        return [{"ret": [pages.index(len(number)) for number in numbers]}]

    return replay.run([Hold(Pin(holds[page] * MS, digits)) for page, digits in enumerate(pages)], observe)


def second_pin_restarts_clock(replay: Replay) -> list[Op]:
    """The second pin of a page starts its clock anew, and the first release takes the mark."""

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
    "lt.equal-threshold.cma400file": equal_threshold_of_3,
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


def play(case: Case, kernel: str, open_sandbox: OpenSandbox) -> list[Op]:
    """Play a case's story, and answer its calls."""
    return CUSTOM_SCENARIOS[case.name](Replay(case, kernel, open_sandbox))
