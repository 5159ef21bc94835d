"""The scenario behind a case: the pins of its setup, with the holds, pages and stacks that were recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.oracle.cases import RECORDED, Case, load

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
FIRST_BLOCK = {4: 4, 5: 20, 6: 187}
BLOCKS = 400
# What xxd and hexdump show of the newest record's hold.
HOLDS = {"lt.tool.47": 5288, "lt.tool.57": 6010}
MADE_UP = 8  # pins that are made up, over and over


@dataclass(frozen=True)
class Pin:
    """A pin of one page: how long in µs, on a page whose number has so many digits, with which flags and stack."""

    hold: int
    digits: int = 6
    flags: tuple[str, ...] = FLAGS
    frames: tuple[str, ...] = FRAMES


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
            seen.setdefault(key, Pin(int(hold), len(pfn), tuple(flags.split("|")), symbols))
    return list(reversed(seen.values()))


def _deep() -> Case:
    """The case that shows the record with the deep stack, which the cases `lt.deep.` read as well."""
    return next(case for case in load(RECORDED) if case.name == "lt.deep-stack")


def pins_of(case: Case) -> tuple[Pin, ...]:
    """The pins of the setup, oldest first. Where not every record is shown they are made up, all alike."""
    name = case.name.removeprefix("further:")
    if name in HOLDS:
        return (Pin(HOLDS[name]),)
    shown = recorded_pins(_deep() if name.startswith("lt.deep.") else case)
    if case.auto and case.shell is not None and len(shown) != case.long_pins:
        shown = []
    if shown and len(shown) >= case.long_pins:
        return tuple(shown)
    made_up = [
        Pin(case.hold_ms * 1000 + 367 + 7 * number) for number in range(max(MADE_UP, case.long_pins - len(shown)))
    ]
    return (*made_up[: case.long_pins - len(shown)], *shown) if shown else tuple(made_up[:MADE_UP])


class Layout:
    """The memory and the stacks that pins need: a pageblock for each kind of page, a stack for each call chain."""

    def __init__(self, pins: Iterable[Pin]) -> None:
        self._regions: dict[tuple[int, tuple[str, ...]], int] = {}
        self._stacks: list[tuple[str, ...]] = []
        used = dict(FIRST_BLOCK)
        for pin in pins:
            kind = (pin.digits, pin.flags)
            if kind not in self._regions:
                self._regions[kind] = used[pin.digits]
                used[pin.digits] += 1
            if pin.frames not in self._stacks:
                self._stacks.append(pin.frames)

    def stack(self, pin: Pin) -> str:
        """The key of a task that does this pin."""
        return f'stack = "s{self._stacks.index(pin.frames)}"'

    def region(self, pin: Pin) -> str:
        """The key that says where its pages lie."""
        return f'region = "r{self._regions[pin.digits, pin.flags]}"'

    def tables(self) -> list[str]:
        """What comes before the tasks."""
        tables = [
            'format = 1\nname = "oracle"\ndescription = "the pins of a recorded case"',
            f'[memory]\nsize = "{BLOCKS * 4}MiB"',
        ]
        at = 0
        for number, ((_, flags), block) in enumerate(sorted(self._regions.items(), key=lambda item: item[1])):
            if block > at:
                tables.append(f'[[memory.region]]\nname = "between{number}"\nsize = "{(block - at) * 4}MiB"')
            tables.append(f'[[memory.region]]\nname = "r{block}"\nsize = "4MiB"\nflags = {_strings(flags)}')
            at = block + 1
        return tables + [f"[stack.s{n}]\nframes = {_strings(frames)}" for n, frames in enumerate(self._stacks)]


def scenario(pins: tuple[Pin, ...]) -> str:
    """A scenario in which these pins happen one a `SLOT`, over and over: pin number n % len(pins) in slot n."""
    layout = Layout(pins)
    tasks = [
        f'[[task]]\nname = "pin{number}"\n{layout.stack(pin)}\n{layout.region(pin)}\nstart = "{number * SLOT}s"\n'
        f'[[task.phase]]\nrepeat = 1000000000\nevery = "{len(pins) * SLOT}s"\nhold = "{pin.hold}us"'
        for number, pin in enumerate(pins)
    ]
    return "\n\n".join([*layout.tables(), *tasks]) + "\n"


def _strings(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names if name) + "]"
