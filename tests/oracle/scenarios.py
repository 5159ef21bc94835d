"""Build the scenario of a case: the pins of its setup, with the recorded holds, pages and stacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.oracle.cases import Case, recorded_case
from tests.oracle.layouts import RECORD, Freed, freed_shown, texts_of
from tests.oracle.partial_records import partial_records

__all__ = ["SLOT", "Layout", "Pin", "freed_of", "pins_of", "pins_shown", "recorded_pins", "scenario"]

SLOT = 100  # seconds from one pin to the next; longer than any recorded hold

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
    """A pin of one page for `hold` µs. Without a `pfn`, any page whose PFN has that many decimal digits will do."""

    hold: int
    digits: int = 6
    flags: tuple[str, ...] = FLAGS
    frames: tuple[str, ...] = FRAMES
    pfn: int | None = None
    kind: str = "anon"  # of the page: "anon" or "file"
    mapped: bool = True
    others: int = 0  # references that the page has beside the pin, its mapping, the page cache and the LRU batch

    @property
    def pages(self) -> tuple[tuple[str, ...], str]:
        """Return what the pages of a memory region have in common."""
        return self.flags, self.kind


def recorded_pins(case: Case) -> list[Pin]:
    """Return the pins whose complete records are in the answers of a case, oldest first, without duplicates."""
    return pins_shown(case.shown)


def pins_shown(*values: Any) -> list[Pin]:
    """Return the pins whose complete records are in these texts, lists or dicts, oldest first."""
    seen: dict[tuple[int, int, str], Pin] = {}
    for text in texts_of(values):
        for match in RECORD.finditer(text):
            hold, pfn, flags = int(match["hold"]), int(match["pfn"], 0), tuple(match["flags"].split("|"))
            frames = tuple(line[1:] for line in match["frames"].splitlines())
            pin = Pin(hold, len(str(pfn)), flags, frames, pfn)
            if match["count"] is not None:
                pin = _with_references(pin, int(match["count"]), int(match["mapcount"]), match["mapping"])
            seen.setdefault((hold, pfn, match["flags"]), pin)
    return list(reversed(seen.values()))


def _with_references(pin: Pin, count: int, mapcount: int, mapping: str) -> Pin:
    """Return the pin of a page with these values in its record."""
    in_cache, in_batch = mapping != "0x0", "lru" not in pin.flags
    others = count - 1 - mapcount - in_cache - in_batch
    return replace(pin, kind="file" if in_cache else "anon", mapped=mapcount > 0, others=max(0, others))


def freed_of(case: Case) -> tuple[Freed, ...]:
    """Return the pages that were freed before the case, oldest first, if the case shows any of them.

    The recorder pinned two pages, released them by put_page, and ended. Each later case finds the same two records.
    """
    if case.generation != "pixel-5.10" or not freed_shown(case.shown):
        return ()
    return tuple(freed_shown(recorded_case(case.generation, "acf.empty.anon").shown))


def pins_of(case: Case) -> tuple[Pin, ...]:
    """Return the pins of the setup, oldest first. Invent similar pins for those that no answer shows."""
    if case.name.startswith("lt.deep."):
        return tuple(recorded_pins(recorded_case(case.recorded, "lt.deep-stack")))
    shown = recorded_pins(case)
    if len(shown) < case.long_pins and (case.auto or case.long_pins <= INVENTED):
        partly = _partly_shown(case, shown)
        shown = list(reversed(partly)) if len(partly) >= len(shown) else shown
    if shown and len(shown) >= case.long_pins:
        return tuple(shown)
    left = case.long_pins - len(shown)
    invented = [Pin(case.hold_ms * 1000 + 367 + 7 * number) for number in range(max(INVENTED, left))]
    if left > INVENTED and len(shown) == 1:
        # The ring is full and the answer shows its oldest record. A task for each pin would take long to load.
        assert case.long_pins % INVENTED == 0
        return (*shown, *invented[: INVENTED - 1])
    # dd skips the newest records.
    skipped = re.search(r" skip=(\d+)", case.script)
    newest = invented[: min(left, int(skipped[1]))] if skipped else []
    return (*invented[len(newest) : left], *shown, *newest) if shown else tuple(invented[:INVENTED])


def _partly_shown(case: Case, whole: list[Pin]) -> list[Pin]:
    """Return the newest pins that the answer shows in part or as a whole, newest first. Invent the missing values."""
    pins = []
    most = min(max(case.long_pins, len(whole)), INVENTED)
    for number, partial in enumerate(partial_records(case)[:most]):
        pin = Pin(case.hold_ms * 1000 + 200 + 7 * number if partial.hold is None else partial.hold)
        if partial.pfn is not None:
            pin = replace(pin, pfn=partial.pfn, digits=len(str(partial.pfn)))
        if partial.flags is not None:
            pin = replace(pin, flags=partial.flags)
        if partial.references is not None:
            pin = _with_references(pin, *partial.references)
        pins.append(next((shown for shown in whole if (shown.hold, shown.pfn) == (pin.hold, pin.pfn)), pin))
    return pins


_Pages = tuple[tuple[str, ...], str]


class Layout:
    """The memory regions and stacks that pins need: a pageblock for each kind of page, a stack for each call chain."""

    def __init__(self, pins: Iterable[Pin]) -> None:
        self._pages: dict[int, _Pages] = {}  # the pages of each block
        self._shared_blocks: dict[tuple[int, _Pages], int] = {}  # block for pins without a PFN
        self._stacks: list[tuple[str, ...]] = []
        for pin in pins:
            self._place(pin)
            self.stack(pin.frames)

    def _place(self, pin: Pin) -> None:
        """Add a block for a pin. Use the block of its PFN, unless pages of another kind use it."""
        if pin.pfn is not None and self._pages.setdefault(pin.pfn // FRAMES_OF_BLOCK, pin.pages) == pin.pages:
            return
        if (pin.digits, pin.pages) not in self._shared_blocks:
            block = FIRST_BLOCK[pin.digits]
            while block in self._pages:
                block += 1
            self._shared_blocks[pin.digits, pin.pages] = block
            self._pages[block] = pin.pages

    def _has_own_block(self, pin: Pin) -> bool:
        return pin.pfn is not None and self._pages.get(pin.pfn // FRAMES_OF_BLOCK) == pin.pages

    def stack(self, frames: tuple[str, ...]) -> str:
        """Return the name of the stack with these frames, in quotes."""
        if frames not in self._stacks:
            self._stacks.append(frames)
        return f'"s{self._stacks.index(frames)}"'

    def region(self, pin: Pin) -> str:
        """Return the `region` key for a task with this pin."""
        if self._has_own_block(pin):
            return f'region = "r{(pin.pfn or 0) // FRAMES_OF_BLOCK}"'
        return f'region = "r{self._shared_blocks[pin.digits, pin.pages]}"'

    def page(self, pin: Pin) -> str:
        """Return the `region` and `pfn` keys for a task with this pin. All tasks with the pin get the same page."""
        if self._has_own_block(pin):
            return f"{self.region(pin)}\npfn = {pin.pfn}"
        if pin.others:
            return f"{self.region(pin)}\npfn = {self._shared_blocks[pin.digits, pin.pages] * FRAMES_OF_BLOCK}"
        return self.region(pin)

    def tables(self) -> list[str]:
        """Return the TOML tables before the tasks."""
        tables = [
            'format = 1\nname = "oracle"\ndescription = "the pins of a recorded case"',
            f'[memory]\nsize = "{BLOCKS * 4}MiB"',
        ]
        at = 0
        for number, (block, (flags, kind)) in enumerate(sorted(self._pages.items())):
            if block > at:
                tables.append(f'[[memory.region]]\nname = "between{number}"\nsize = "{(block - at) * 4}MiB"')
            pages = f'\npages = "{kind}"' if kind != "anon" else ""
            tables.append(f'[[memory.region]]\nname = "r{block}"\nsize = "4MiB"\nflags = {_strings(flags)}{pages}')
            at = block + 1
        return tables + [f"[stack.s{n}]\nframes = {_strings(frames)}" for n, frames in enumerate(self._stacks)]


def scenario(pins: tuple[Pin, ...], freed: tuple[Freed, ...] = ()) -> str:
    """Return a scenario that repeats these pins, one per `SLOT`: pin n % len(pins) in slot n.

    The pages in `freed` are freed at their time.
    """
    layout = Layout([*pins, *(_pin_before(page) for page in freed)])
    tasks = []
    for number, pin in enumerate(pins):
        times = f'start = "{number * SLOT}s"\n[[task.phase]]\nrepeat = 1000000000\nevery = "{len(pins) * SLOT}s"'
        # Plain references of others, which the kernel does not track.
        for other in range(pin.others):
            tasks.append(
                f'[[task]]\nname = "other{number}.{other}"\nstack = {layout.stack(pin.frames)}\n{layout.page(pin)}\n'
                f'foll = "none"\nmapped = false\n{times}\nhold = "{pin.hold + 1}us"'
            )
        mapped = "" if pin.mapped else "mapped = false\n"
        tasks.append(
            f'[[task]]\nname = "pin{number}"\nstack = {layout.stack(pin.frames)}\n{layout.page(pin)}\n{mapped}'
            f'{times}\nhold = "{pin.hold}us"'
        )
    tasks += [_free(layout, number, page) for number, page in enumerate(freed)]
    return "\n\n".join([*layout.tables(), *tasks]) + "\n"


def _pin_before(page: Freed) -> Pin:
    """Return the pin of a page that is freed later: released by put_page, so that the mark stays."""
    return Pin(20_000, len(str(page.pfn)), pfn=page.pfn)


def _free(layout: Layout, number: int, page: Freed) -> str:
    """Return the task that pins a page, and one of which the end frees it."""
    pin = _pin_before(page)
    keys = f"stack = {layout.stack(pin.frames)}\n{layout.page(pin)}"
    once = '[[task.phase]]\nrepeat = 1\nevery = "8000h"'
    return (
        f'[[task]]\nname = "pinned{number}"\n{keys}\nrelease = "put_page"\nstart = "{page.at - 2 * pin.hold}us"\n'
        f'{once}\nhold = "{pin.hold}us"\n\n'
        f'[[task]]\nname = "freed{number}"\n{keys}\nfoll = "none"\nrelease = "free"\nstart = "{page.at - 10}us"\n'
        f'{once}\nhold = "10us"'
    )


def _strings(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names if name) + "]"
