"""The scenario behind a case: the pins of its setup, with the holds, pages and stacks that were recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.cases import RECORDED, Case, load
from tests.oracle.hints import hints

__all__ = ["SLOT", "Layout", "Pin", "pins_of", "pins_shown", "recorded_pins", "scenario"]

SLOT = 100  # seconds from one pin to the next: longer than any hold that was recorded

RECORD = re.compile(
    r"Page pinned ts (\d+) us count \d+\n"
    r"PFN (\d+) Block \d+ type (\w+) Flags 0x[0-9a-f]+\(([a-z0-9_|]*)\)\n((?: .+\n)+)\n"
)
# What get_user_pages_fast leaves in the kernel that answered, called by its driver's ioctl.
FRAMES = (
    "try_grab_folio+0x120/0x270",
    "internal_get_user_pages_fast+0x57f/0xae0",
    "get_user_pages_fast+0x1f/0x40",
    "pph_grab.isra.0+0x114/0x130",
    "pph_ioctl+0x1d8/0x270",
    "__x64_sys_ioctl+0x3f8/0x8c0",
    "x64_sys_call+0x920/0x9a0",
    "do_syscall_64+0x2f/0x50",
    "entry_SYSCALL_64_after_hwframe+0x4b/0xb5",
)
FLAGS = ("referenced", "uptodate", "mappedtodisk", "swapbacked")
# The first pageblock of frames whose numbers have so many digits, and their blocks' numbers three fewer.
FIRST_BLOCK = {4: 4, 5: 60, 6: 300}
BLOCKS = 400
FRAMES_OF_BLOCK = 1024
MADE_UP = 8  # pins that are made up, over and over


@dataclass(frozen=True)
class Pin:
    """A pin of one page: how long in µs, on which page or one whose number has so many digits, its flags and stack."""

    hold: int
    digits: int = 6
    flags: tuple[str, ...] = FLAGS
    frames: tuple[str, ...] = FRAMES
    pfn: int | None = None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        # toybox rev and tac turn text around.
        return [value, "\n".join(line[::-1] for line in value.split("\n"))]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return []


def recorded_pins(case: Case) -> list[Pin]:
    """The pins whose records the case shows in full, oldest first: each once, in the order of their appearance."""
    return pins_shown(case.stdout, case.ops)


def pins_shown(*values: Any) -> list[Pin]:
    """The same of texts, or of what holds texts."""
    seen: dict[str, Pin] = {}
    for text in _texts(values):
        for match in RECORD.finditer(text):
            hold, pfn, _, flags, frames = match.groups()
            key = f"{hold} {pfn} {flags}"
            symbols = tuple(line[1:] for line in frames.splitlines())
            seen.setdefault(key, Pin(int(hold), len(pfn), tuple(flags.split("|")), symbols, int(pfn)))
    return list(reversed(seen.values()))


def _deep() -> Case:
    """The case that shows the record with the deep stack, which the cases `lt.deep.` read as well."""
    return next(case for case in load(RECORDED) if case.name == "lt.deep-stack")


def pins_of(case: Case) -> tuple[Pin, ...]:
    """The pins of the setup, oldest first. Where not every record is shown the rest is made up, all alike."""
    if case.name.startswith("lt.deep."):
        return tuple(recorded_pins(_deep()))
    shown = recorded_pins(case)
    whole = shown and len(shown) >= case.long_pins
    if case.shell is not None and len(shown) != case.long_pins and (case.auto or case.long_pins <= MADE_UP):
        shown = list(reversed(_hinted(case)))
    elif whole:
        return tuple(shown)
    left = case.long_pins - len(shown)
    made_up = [Pin(case.hold_ms * 1000 + 367 + 7 * number) for number in range(max(MADE_UP, left))]
    if left > MADE_UP and len(shown) == 1:
        # A full ring: a task for each of its pins would take long to read in. The one that is shown is the oldest.
        assert case.long_pins % MADE_UP == 0
        return (*shown, *made_up[: MADE_UP - 1])
    return (*made_up[:left], *shown) if shown else tuple(made_up[:MADE_UP])


def _hinted(case: Case) -> list[Pin]:
    """The newest pins as far as the answer lets them be known, the newest first."""
    known = hints(case)
    pins = []
    for number in range(min(case.long_pins, MADE_UP, max(len(known.holds), len(known.pfns)))):
        pin = Pin(case.hold_ms * 1000 + 200 + 7 * number)
        if number < len(known.holds):
            pin = replace(pin, hold=known.holds[number])
        if number < len(known.pfns):
            pin = replace(pin, pfn=known.pfns[number], digits=len(str(known.pfns[number])))
        if number < len(known.flags):
            pin = replace(pin, flags=tuple(flag for flag in known.flags[number] if flag))
        pins.append(pin)
    return pins


class Layout:
    """The memory and the stacks that pins need: a pageblock for each kind of page, a stack for each call chain."""

    def __init__(self, pins: Iterable[Pin]) -> None:
        self._flags: dict[int, tuple[str, ...]] = {}  # by block
        self._others: dict[tuple[int, tuple[str, ...]], int] = {}  # the block of such digits and flags
        self._stacks: list[tuple[str, ...]] = []
        for pin in pins:
            self._place(pin)
            if pin.frames not in self._stacks:
                self._stacks.append(pin.frames)

    def _place(self, pin: Pin) -> None:
        """See to a block for a pin: its own page's, unless pages of other flags have that one."""
        if pin.pfn is not None and self._flags.setdefault(pin.pfn // FRAMES_OF_BLOCK, pin.flags) == pin.flags:
            return
        if (pin.digits, pin.flags) not in self._others:
            block = FIRST_BLOCK[pin.digits]
            while block in self._flags:
                block += 1
            self._others[pin.digits, pin.flags] = block
            self._flags[block] = pin.flags

    def _has_own(self, pin: Pin) -> bool:
        return pin.pfn is not None and self._flags.get(pin.pfn // FRAMES_OF_BLOCK) == pin.flags

    def stack(self, pin: Pin) -> str:
        """The key of a task that does this pin."""
        return f'stack = "s{self._stacks.index(pin.frames)}"'

    def region(self, pin: Pin) -> str:
        """The key that says where its pages lie."""
        if self._has_own(pin):
            return f'region = "r{(pin.pfn or 0) // FRAMES_OF_BLOCK}"'
        return f'region = "r{self._others[pin.digits, pin.flags]}"'

    def page(self, pin: Pin) -> str:
        """The keys that say which page it is: its own, or any of a region."""
        return f"{self.region(pin)}\npfn = {pin.pfn}" if self._has_own(pin) else self.region(pin)

    def tables(self) -> list[str]:
        """What comes before the tasks."""
        tables = [
            'format = 1\nname = "oracle"\ndescription = "the pins of a recorded case"',
            f'[memory]\nsize = "{BLOCKS * 4}MiB"',
        ]
        at = 0
        for number, (block, flags) in enumerate(sorted(self._flags.items())):
            if block > at:
                tables.append(f'[[memory.region]]\nname = "between{number}"\nsize = "{(block - at) * 4}MiB"')
            tables.append(f'[[memory.region]]\nname = "r{block}"\nsize = "4MiB"\nflags = {_strings(flags)}')
            at = block + 1
        return tables + [f"[stack.s{n}]\nframes = {_strings(frames)}" for n, frames in enumerate(self._stacks)]


def scenario(pins: tuple[Pin, ...]) -> str:
    """A scenario in which these pins happen one a `SLOT`, over and over: pin number n % len(pins) in slot n."""
    layout = Layout(pins)
    tasks = [
        f'[[task]]\nname = "pin{number}"\n{layout.stack(pin)}\n{layout.page(pin)}\n'
        f'start = "{number * SLOT}s"\n'
        f'[[task.phase]]\nrepeat = 1000000000\nevery = "{len(pins) * SLOT}s"\nhold = "{pin.hold}us"'
        for number, pin in enumerate(pins)
    ]
    return "\n\n".join([*layout.tables(), *tasks]) + "\n"


def _strings(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names if name) + "]"
