"""The cases whose calls tell a story of pins: each is played by a scenario of its own, and asked as the recorder did.

A case's function gets a Stage and returns an answer for each of its calls, with the keys of the recorded one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.oracle.cases import RECORDED_BY, Case, Op
from tests.oracle.scenarios import RECORD, Layout, Pin, pins_shown
from tests.oracle.world import World

__all__ = ["TOLD", "answers_of"]

# A world of this kernel with this scenario, for one use.
OpenWorld = Callable[[str, str], AbstractContextManager[World]]

MS, S = 1000, 1_000_000  # in µs


@dataclass(frozen=True)
class Hold:
    """A pin's hold: from when on, in µs; further keys of its task; how many of them, one each `every` µs."""

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


def in_turn(pins: Iterable[Pin], start: int = 0, every: int = S) -> list[Hold]:
    """One after the other."""
    return [Hold(pin, start + number * every) for number, pin in enumerate(pins)]


class Like:
    """What hangs on the machine: any text of this form."""

    def __init__(self, form: str) -> None:
        self._form = form

    def __eq__(self, other: object) -> bool:
        return re.fullmatch(self._form, str(other)) is not None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Like({self._form!r})"


class Stage:
    """A world for one case, the recorded pins, and the way that the recorder looked at the files."""

    def __init__(self, case: Case, kernel: str, open_world: OpenWorld) -> None:
        self.case, self.kernel, self._open_world = case, kernel, open_world

    def pins(self, *calls: int) -> list[Pin]:
        """The pins whose records these answers show, the oldest first; those of all answers if none is named."""
        return pins_shown([self.case.ops[call] for call in calls] if calls else self.case.ops)

    def play(self, holds: Iterable[Hold], ask: Callable[[World], list[Op]]) -> list[Op]:
        """What `ask` finds in a world where these holds take place."""
        holds = list(holds)
        layout = Layout(hold.pin for hold in holds)
        tasks = [hold.task(f"task{number}", layout) for number, hold in enumerate(holds)]
        with self._open_world(self.kernel, "\n\n".join([*layout.tables(), *tasks]) + "\n") as world:
            answers = ask(world)
            log = world.log()
            assert "Traceback" not in log and "ERROR" not in log, log
        return answers

    def counted(self, record: str, count: int) -> str:
        """A record whose pins must have been this many, in the form of a lone one."""
        if self.kernel == RECORDED_BY:
            return record
        assert f" us count {count}\n" in record
        return record.replace(f" us count {count}\n", " us count 1\n")


def until(world: World, moment: int) -> None:
    """Let the time come, in µs since the start; everything of that moment happens."""
    world.write(".pinnerfs/advance", f"{moment - int((world.path / '.pinnerfs' / 'clock').read_text())}us")


def _longterm(world: World) -> Path:
    return world.path / "page_pinner" / "longterm_pinner"


def records(world: World) -> list[str]:
    """What the file says, a text a record."""
    found = []
    fd = os.open(_longterm(world), os.O_RDONLY)
    while text := os.read(fd, 4096):
        found.append(text.decode())
    os.close(fd)
    return found


def shown(found: list[str], first: int | None = None) -> Op:
    """Records in the form of an answer: how many, and the texts of the first."""
    return {"n": len(found), "ret": found[:first]}


def heads(found: list[str]) -> Op:
    """The same, of each only its first line."""
    return {"n": len(found), "ret": [text.split("\n")[0] for text in found]}


def deltas(found: list[str]) -> list[int]:
    """The durations, in µs."""
    return [int(text.split()[3]) for text in found]


def _read(world: World, name: str, size: int) -> list[Op]:
    """The answers of open, read and close."""
    fd = os.open(world.path / "page_pinner" / name, os.O_RDONLY)
    text = os.read(fd, size).decode()
    os.close(fd)
    return [{"ret": fd}, {"ret": len(text), "data": text}, {"ret": None}]


def short_then_long(stage: Stage) -> list[Op]:
    """Three holds of 5 ms, the file read; three of 80 ms, the file read to its end."""
    pins = stage.pins()
    short = [replace(pin, hold=5 * MS) for pin in pins]

    def ask(world: World) -> list[Op]:
        world.threshold("50000")
        until(world, 10 * S)
        answers = _read(world, "longterm_pinner", 4096)
        until(world, 20 * S)
        opened, *_, closed = _read(world, "longterm_pinner", 4096)
        texts = [*records(world), ""]
        return [*answers, opened, *({"ret": len(text), "data": text} for text in texts), closed]

    return stage.play([*in_turn(short), *in_turn(pins, 10 * S)], ask)


def near_threshold(stage: Stage) -> list[Op]:
    """Forty holds over a threshold of 150 µs, and two that are not."""
    recorded = stage.case.ops[0]["ret"]

    def ask(world: World) -> list[Op]:
        world.threshold("150")
        until(world, 40 * S)
        found = deltas(records(world))[::-1]
        return [{"ret": [[slept, delta] for (slept, _), delta in zip(recorded, found, strict=True)]}]

    holds = [Pin(delta) for _, delta in recorded]
    return stage.play(in_turn([*holds[:20], Pin(149), Pin(150), *holds[20:]], every=S // 2), ask)


def _equal(stage: Stage, threshold: int, long: dict[int, int], all_: dict[int, int], looked_for: range) -> list[Op]:
    """1500 holds twice: of these durations, so many each; at a threshold, and at 0."""

    def count(found: list[int], wanted: Iterable[int]) -> list[int]:
        return [len(found), min(found), *(found.count(delta) for delta in wanted)]

    def holds(durations: dict[int, int], start: int) -> list[Hold]:
        return [
            Hold(Pin(duration), start, repeat=many, every=1000 + number)
            for number, (duration, many) in enumerate(durations.items())
        ]

    def ask(world: World) -> list[Op]:
        world.threshold(str(threshold))
        until(world, 100 * S)
        above = deltas(records(world))
        world.threshold("0")
        until(world, 200 * S)
        every = deltas(records(world))
        reference = looked_for if threshold == 3 else (1, 2, 3, 60)
        return [
            {"ret": count(above, range(threshold - 1, threshold + 3) if threshold == 3 else looked_for)},
            {"ret": count(every, reference), "sorted20": sorted(every)[:20]},
        ]

    for durations in (long, all_):
        assert sum(durations.values()) == 1500
    return stage.play([*holds(long, 0), *holds(all_, 100 * S)], ask)


def equal_threshold(stage: Stage) -> list[Op]:
    """Under a threshold of 60 µs there were pins of exactly 60, and none was recorded."""
    reference = {2: 109, 3: 249, 30: 639, 60: 1, 67: 200, 90: 302}
    return _equal(stage, 60, reference, reference, range(60, 63))


def equal_threshold_of_3(stage: Stage) -> list[Op]:
    """The same with a threshold of 3 µs, under which pins of 3 were common."""
    long = {2: 400, 3: 311, 4: 182, 5: 69, 9: 538}
    return _equal(stage, 3, long, {1: 1, 2: 540, 3: 412, 4: 27, 5: 11, 9: 509}, range(1, 6))


def th_minus1(stage: Stage) -> list[Op]:
    """A threshold of -1 records every release, be its pin ever so short."""
    pins = stage.pins()

    def ask(world: World) -> list[Op]:
        world.threshold("18446744073709551615")
        until(world, 10 * S)
        found = records(world)
        opened = _read(world, "longterm_pinner", 4096)[0]
        texts = {"ret": [str(delta) for delta in deltas(found)]}
        return [*_read(world, "threshold", 100), opened, {"ret": len(found)}, texts, {"ret": found}]

    return stage.play(in_turn(pins), ask)


def th_int64min(stage: Stage) -> list[Op]:
    """The lowest threshold reads back as such, and records every release."""
    holds = [int(head.split()[3]) for head in stage.case.ops[3]["ret"]]

    def ask(world: World) -> list[Op]:
        world.threshold(str(1 << 63))
        until(world, 10 * S)
        return [*_read(world, "threshold", 99), heads(records(world))]

    return stage.play(in_turn(Pin(hold) for hold in reversed(holds)), ask)


def held(stage: Stage) -> list[Op]:
    """Two pages are held; each is recorded when it is released, and not before."""
    first, second = stage.pins(2)

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        answers: list[Op] = []
        for moment in (20 * MS, first.hold, second.hold):
            until(world, moment)
            answers.append({"ret": records(world)})
        return answers

    return stage.play([Hold(first), Hold(second)], ask)


def never_released(stage: Stage) -> list[Op]:
    """What is pinned for ever is never recorded."""

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        until(world, 3600 * S)
        return [shown(records(world))]

    return stage.play([Hold(Pin(0), keys='release = "never"\npages = 2')], ask)


def pin_twice(stage: Stage) -> list[Op]:
    """A second pin takes the mark over; the first release is recorded with it, the second finds nothing to record."""
    second, third = stage.pins(1)[0], stage.pins(3)[1]
    released = 40 * MS + second.hold

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        answers = []
        for moment in (50 * MS, released, 80 * MS, 5 * S):
            until(world, moment)
            found = records(world)
            answers.append(shown([*found[:-1], *(stage.counted(text, 2) for text in found[-1:])]))
        return answers

    return stage.play(
        [Hold(replace(second, hold=80 * MS)), Hold(second, 40 * MS, 'share = "task0"'), Hold(third, 4 * S)], ask
    )


def put_page(stage: Stage) -> list[Op]:
    """A plain put_page is not seen."""

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        until(world, S)
        return [shown(records(world))]

    return stage.play([Hold(Pin(20 * MS), keys='release = "put_page"\npages = 2')], ask)


def put_page_then_pin(stage: Stage) -> list[Op]:
    """After a put_page the page is pinned anew, which is measured from then on."""
    (pin,) = stage.pins()

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        until(world, S)
        # The mark of the first pin stayed, so the books count two.
        return [shown([stage.counted(text, 2) for text in records(world)])]

    # The first takes all pages of the block, so the second meets one of them.
    first = Hold(replace(pin, hold=20 * MS), keys='release = "put_page"\npages = 1024')
    return stage.play([first, Hold(pin, 50 * MS)], ask)


def _pinned_by(stage: Stage, keys: list[str]) -> list[Op]:
    """Each call: two pages for 20 ms; `keys` say how they are taken."""
    given = [stage.pins(call) or [Pin(20 * MS), Pin(20 * MS)] for call in range(len(stage.case.ops))]
    holds = [
        Hold(pin, call * 10 * S + number * S, keys[call])
        for call, pins in enumerate(given)
        for number, pin in enumerate(pins)
    ]

    def ask(world: World) -> list[Op]:
        answers = []
        for call in range(len(given)):
            world.threshold("1000")
            until(world, (call + 1) * 10 * S - S)
            answers.append(shown(records(world)))
        return answers

    return stage.play(holds, ask)


def foll_pin(stage: Stage) -> list[Op]:
    """pin_user_pages and unpin_user_page twice, then get_user_pages."""
    return _pinned_by(stage, ['foll = "FOLL_PIN"', 'foll = "FOLL_PIN"', ""])


def any_page(stage: Stage) -> list[Op]:
    """Pages that are unmapped meanwhile, or belong to a file, are recorded as all others."""
    return _pinned_by(stage, ["", ""])


def huge_page(stage: Stage) -> list[Op]:
    """One reference to a page of order 9 is 512 records, all of the head page."""
    pin = stage.pins(1)[0]
    # `head` belongs to a compound page: the region does not say it.
    page = replace(pin, flags=tuple(flag for flag in pin.flags if flag != "head"))

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        until(world, S)
        found = records(world)
        (pfn,) = {text.split()[8] for text in found}
        assert pfn.isdecimal()
        # On a device the time goes on between the first record and the last: how many are alike hangs on it.
        return [{"ret": Like(r"\d+\n")}, shown(found, 6), {"ret": [len(found), Like(r"\d+")]}]

    return stage.play([Hold(page, keys="order = 9")], ask)


def _overflow(stage: Stage, call: int, pins: int) -> tuple[Op, list[str]]:
    """So many holds, of which the newest and the oldest that are left have the recorded durations."""
    op = stage.case.ops[call]
    newest, oldest = op["deltas_first5"], op["deltas_last5"]
    page = pins_shown(op["first"], op["last"])[0]
    kept = min(pins, 4096)
    # Oldest first: what must have gone, what is left of the oldest, the middle, the newest.
    middle = kept - 10
    holds = [Hold(replace(page, hold=900 * MS), repeat=pins - kept)] if pins > kept else []
    start = (pins - kept) * S
    holds += in_turn((replace(page, hold=delta) for delta in reversed(oldest)), start)
    holds.append(Hold(replace(page, hold=800 * MS), start + 5 * S, repeat=middle))
    holds += in_turn((replace(page, hold=delta) for delta in reversed(newest)), start + (5 + middle) * S)
    # Two records at each end are shown whole: their pages may differ in flags.
    for shown_, place in ((pins_shown(op["first"]), -2), (pins_shown(op["last"]), -11)):
        for number, pin in enumerate(shown_):
            index = len(holds) + place + number
            holds[index] = replace(holds[index], pin=pin)
    texts: list[str] = []
    extra = 0

    def ask(world: World) -> list[Op]:
        nonlocal extra
        world.threshold("1000")
        until(world, (pins + 10) * S)
        fd = os.open(_longterm(world), os.O_RDONLY)
        while text := os.read(fd, 4096):
            texts.append(text.decode())
        extra = len(os.read(fd, 4096))
        os.close(fd)
        return []

    stage.play(holds, ask)
    answer = {
        "n": len(texts),
        "first": texts[:2],
        "last": texts[-2:],
        "extra_read_after_eof": extra,
        "deltas_first5": deltas(texts[:5]),
        "deltas_last5": deltas(texts[-5:]),
    }
    return answer, texts


def overflow(stage: Stage) -> list[Op]:
    """5000 records into a ring of 4096: those that are left are the last, newest first."""
    answer, texts = _overflow(stage, 0, 5000)
    op = stage.case.ops[0]
    wanted = [*op["deltas_first5"], *[800 * MS] * 4086, *op["deltas_last5"]]
    return [answer, {"ret": deltas(texts) == wanted, "n": len(texts)}]


def overflow_edges(stage: Stage) -> list[Op]:
    """The same with about as many as the ring holds, and twice as many."""
    counts = [int(op["call"].split()[0]) for op in stage.case.ops]
    return [_overflow(stage, call, pins)[0] for call, pins in enumerate(counts)]


def kernel_users(stage: Stage) -> list[Op]:
    """Six pins by an execve, told by their innermost frames."""
    ((frames, many),) = stage.case.ops[0]["ret"].items()
    symbols = [*frames.split(" < "), "do_execveat_common"]
    pin = Pin(7, frames=tuple(f"{symbol}+0x10/0x20" for symbol in symbols))

    def ask(world: World) -> list[Op]:
        world.threshold("18446744073709551615")
        until(world, 100 * S)
        users: dict[str, int] = {}
        for text in records(world):
            user = " < ".join(line.split("+")[0].strip() for line in text.split("\n")[2:6])
            users[user] = users.get(user, 0) + 1
        return [{"ret": users}]

    return stage.play([Hold(pin, repeat=many)], ask)


def concurrent(stage: Stage) -> list[Op]:
    """Every read of a reader meets new records, and each of its 1800 is whole."""
    wanted = stage.case.ops[0]["ret"]["records_read"]

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        read = malformed = 0
        while read < wanted:
            fd = os.open(_longterm(world), os.O_RDONLY)
            for _ in range(50):
                world.write(".pinnerfs/advance", "1s")
                text = os.read(fd, 4096).decode()
                read += bool(text)
                malformed += RECORD.fullmatch(text) is None
            os.close(fd)
        return [{"ret": {"records_read": read, "malformed": malformed}}]

    return stage.play([Hold(Pin(5 * MS), repeat=10_000)], ask)


def threshold_at_release(stage: Stage) -> list[Op]:
    """The threshold in force at the release decides, whatever it was meanwhile."""
    (lowered,) = (int(head.split()[3]) for head in stage.case.ops[1]["ret"])

    def ask(world: World) -> list[Op]:
        answers = []
        for start, before, after in ((0, "5000000", "5000000"), (10, "5000000", "1000"), (20, "1000", "5000000")):
            world.threshold(before)
            until(world, start * S + 10 * MS)
            if after != before:
                world.threshold(after)
            until(world, start * S + S)
            answers.append(heads(records(world)))
        return answers

    return stage.play([Hold(Pin(20 * MS)), Hold(Pin(lowered), 10 * S), Hold(Pin(20 * MS), 20 * S)], ask)


def default_threshold(stage: Stage) -> list[Op]:
    """Nobody has written a threshold: 299 ms are not long, one and a half seconds are."""
    (long,) = (int(head.split()[3]) for head in stage.case.ops[1]["ret"])

    def ask(world: World) -> list[Op]:
        until(world, S)
        before = heads(records(world))
        until(world, 20 * S)
        return [before, heads(records(world))]

    return stage.play([Hold(Pin(299 * MS)), Hold(Pin(300 * MS), 5 * S), Hold(Pin(long), 10 * S)], ask)


def release_order(stage: Stage) -> list[Op]:
    """Pages 0, 1 and 2 are released in the order 2, 0, 1; a page is told by how many digits its number has."""
    pages = (4, 5, 6)
    holds = {2: 10, 0: 20, 1: 30}

    def ask(world: World) -> list[Op]:
        world.threshold("1000")
        until(world, S)
        numbers = [re.findall(r"PFN (\d+)", text)[0] for text in records(world)]
        return [{"ret": [pages.index(len(number)) for number in numbers]}]

    return stage.play([Hold(Pin(holds[page] * MS, digits)) for page, digits in enumerate(pages)], ask)


def second_pin_restarts_clock(stage: Stage) -> list[Op]:
    """The second pin of a page starts its clock anew, and the first release takes the mark."""

    def ask(world: World) -> list[Op]:
        world.threshold("5000")
        answers = []
        for moment in (12 * MS, S):
            until(world, moment)
            answers.append(heads(records(world)))
        return answers

    return stage.play([Hold(Pin(20 * MS)), Hold(Pin(100), 10 * MS, 'share = "task0"')], ask)


TOLD: dict[str, Callable[[Stage], list[Op]]] = {
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


def answers_of(case: Case, kernel: str, open_world: OpenWorld) -> list[Op]:
    """Play a case's story, and answer its calls."""
    return TOLD[case.name](Stage(case, kernel, open_world))
