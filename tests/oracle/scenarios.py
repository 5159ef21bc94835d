"""Build the scenario of a case: the pins of its setup, with the recorded holds, pages and stacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.cases import RECORDED, Case, load
from tests.oracle.partial_records import partial_records

__all__ = ["SLOT", "Layout", "Pin", "pins_of", "pins_shown", "recorded_pins", "scenario"]

SLOT = 100  # seconds from one pin to the next; longer than any recorded hold

RECORD = re.compile(
    r"Page pinned ts (\d+) us count \d+\n"
    r"PFN (\d+) Block \d+ type (\w+) Flags 0x[0-9a-f]+\(([a-z0-9_|]*)\)\n((?: .+\n)+)\n"
)
# The stack of get_user_pages_fast in the recorded kernel, called by the ioctl of its test driver.
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
# Number of digits of a PFN -> the first pageblock with such PFNs. Its block numbers have three digits fewer.
FIRST_BLOCK = {4: 4, 5: 60, 6: 300}
BLOCKS = 400
FRAMES_OF_BLOCK = 1024
INVENTED = 8  # invented pins, which repeat


@dataclass(frozen=True)
class Pin:
    """A pin of one page for `hold` µs. Without a `pfn`, any page whose PFN has that many digits will do."""

    hold: int
    digits: int = 6
    flags: tuple[str, ...] = FLAGS
    frames: tuple[str, ...] = FRAMES
    pfn: int | None = None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        # toybox rev prints lines from right to left.
        return [value, "\n".join(line[::-1] for line in value.split("\n"))]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return []


def recorded_pins(case: Case) -> list[Pin]:
    """Return the pins whose complete records are in the answers of a case, oldest first, without duplicates."""
    return pins_shown(case.stdout, case.ops)


def pins_shown(*values: Any) -> list[Pin]:
    """Return the pins whose complete records are in these texts, lists or dicts, oldest first."""
    seen: dict[str, Pin] = {}
    for text in _texts(values):
        for match in RECORD.finditer(text):
            hold, pfn, _, flags, frames = match.groups()
            key = f"{hold} {pfn} {flags}"
            symbols = tuple(line[1:] for line in frames.splitlines())
            seen.setdefault(key, Pin(int(hold), len(pfn), tuple(flags.split("|")), symbols, int(pfn)))
    return list(reversed(seen.values()))


def _deep_stack_case() -> Case:
    """Return the case whose answer has the record that the cases `lt.deep.` read."""
    return next(case for case in load(RECORDED) if case.name == "lt.deep-stack")


def pins_of(case: Case) -> tuple[Pin, ...]:
    """Return the pins of the setup, oldest first. Invent similar pins for those that no answer shows."""
    if case.name.startswith("lt.deep."):
        return tuple(recorded_pins(_deep_stack_case()))
    shown = recorded_pins(case)
    whole = shown and len(shown) >= case.long_pins
    if case.shell is not None and len(shown) != case.long_pins and (case.auto or case.long_pins <= INVENTED):
        shown = list(reversed(_partly_shown(case)))
    elif whole:
        return tuple(shown)
    left = case.long_pins - len(shown)
    invented = [Pin(case.hold_ms * 1000 + 367 + 7 * number) for number in range(max(INVENTED, left))]
    if left > INVENTED and len(shown) == 1:
        # The ring is full and the answer shows its oldest record. A task for each pin would take long to load.
        assert case.long_pins % INVENTED == 0
        return (*shown, *invented[: INVENTED - 1])
    return (*invented[:left], *shown) if shown else tuple(invented[:INVENTED])


def _partly_shown(case: Case) -> list[Pin]:
    """Return the newest pins that the answer shows in part, newest first. Invent the missing values."""
    partial = partial_records(case)
    pins = []
    for number in range(min(case.long_pins, INVENTED, max(len(partial.holds), len(partial.pfns)))):
        pin = Pin(case.hold_ms * 1000 + 200 + 7 * number)
        if number < len(partial.holds):
            pin = replace(pin, hold=partial.holds[number])
        if number < len(partial.pfns):
            pin = replace(pin, pfn=partial.pfns[number], digits=len(str(partial.pfns[number])))
        if number < len(partial.flags):
            pin = replace(pin, flags=tuple(flag for flag in partial.flags[number] if flag))
        pins.append(pin)
    return pins


class Layout:
    """The memory regions and stacks that pins need: a pageblock for each set of flags, a stack for each call chain."""

    def __init__(self, pins: Iterable[Pin]) -> None:
        self._flags: dict[int, tuple[str, ...]] = {}  # flags of each block
        self._shared_blocks: dict[tuple[int, tuple[str, ...]], int] = {}  # block for pins without a PFN
        self._stacks: list[tuple[str, ...]] = []
        for pin in pins:
            self._place(pin)
            if pin.frames not in self._stacks:
                self._stacks.append(pin.frames)

    def _place(self, pin: Pin) -> None:
        """Add a block for a pin. Use the block of its PFN, unless pages with other flags use it."""
        if pin.pfn is not None and self._flags.setdefault(pin.pfn // FRAMES_OF_BLOCK, pin.flags) == pin.flags:
            return
        if (pin.digits, pin.flags) not in self._shared_blocks:
            block = FIRST_BLOCK[pin.digits]
            while block in self._flags:
                block += 1
            self._shared_blocks[pin.digits, pin.flags] = block
            self._flags[block] = pin.flags

    def _has_own_block(self, pin: Pin) -> bool:
        return pin.pfn is not None and self._flags.get(pin.pfn // FRAMES_OF_BLOCK) == pin.flags

    def stack(self, pin: Pin) -> str:
        """Return the `stack` key for a task with this pin."""
        return f'stack = "s{self._stacks.index(pin.frames)}"'

    def region(self, pin: Pin) -> str:
        """Return the `region` key for a task with this pin."""
        if self._has_own_block(pin):
            return f'region = "r{(pin.pfn or 0) // FRAMES_OF_BLOCK}"'
        return f'region = "r{self._shared_blocks[pin.digits, pin.flags]}"'

    def page(self, pin: Pin) -> str:
        """Return the `region` and `pfn` keys for a task with this pin."""
        return f"{self.region(pin)}\npfn = {pin.pfn}" if self._has_own_block(pin) else self.region(pin)

    def tables(self) -> list[str]:
        """Return the TOML tables before the tasks."""
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
    """Return a scenario that repeats these pins, one per `SLOT`: pin n % len(pins) in slot n."""
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
