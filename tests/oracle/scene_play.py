"""Play the recorded scenes of CMA in a world, and compare the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from tests.oracle.cases import Case, Op
from tests.oracle.comparison import Comparison
from tests.oracle.scene import KINDS, Row, World, area_of, canonical_text, parse_text, recorded_rows, same_row

__all__ = ["FILE_CALL", "Scene", "play"]

AREA = "reserved"
FILE_CALL = re.compile(r"(?:open|read|pread|lseek)\(.*|close")  # on a record file


class Drain(NamedTuple):
    """A page fault of the recorder that emptied the LRU batch: before, amid or after its reads of a call's records."""

    call: int
    when: str


LONG_DUMP = 1000  # records; only dumps that need much memory made the recorder fault


def play(case: Case, new_world: Callable[[Case], World]) -> list[Comparison]:
    """Play a scene in a new world and return the comparisons.

    The recorder's own page faults show in some recordings, where it read many records. Find the fewest of them that
    make the answers as recorded.
    """
    scene = Scene(case, new_world(case))
    answers = scene.play()
    faults: tuple[Drain, ...] = ()
    while scene.first_wrong is not None and _batch_counts(case):
        wrong, better = scene.first_wrong, None
        for drain in _possible_drains(case, wrong, faults):
            scene = Scene(case, new_world(case), (*faults, drain))
            answered = scene.play()
            if scene.first_wrong is None or scene.first_wrong > wrong:
                answers, better = answered, drain
                break
        if better is None:
            break
        faults += (better,)
    return answers


def _possible_drains(case: Case, wrong: int, known: tuple[Drain, ...]) -> list[Drain]:
    """Return the drains that can explain the first wrong answer, the latest first."""
    dumps = [call for call, op in enumerate(case.ops[: wrong + 1]) if isinstance(op.get("n"), int)]
    long = [call for call in dumps if case.ops[call]["n"] >= LONG_DUMP and call not in (one.call for one in known)]
    return [Drain(call, when) for call in reversed(long) for when in ("after", "amid", "before")]


def _batch_counts(case: Case) -> bool:
    """Return whether pages can be in the LRU batch: only pages of files are put back."""
    return any("shmem" in str(op.get("ret")) for op in case.ops[:1])


class Scene:
    """The replay of one case."""

    def __init__(self, case: Case, world: World, drains: tuple[Drain, ...] = ()) -> None:
        self.case, self.world, self._drains = case, world, drains
        self.first_wrong: int | None = None  # the number of the first call with another answer
        self.base = area_of(case)[0]
        self._calls = (0, 0)
        self._new_total = 0  # records before those that the next dump of android12-5.10 shows
        self._release_after: tuple[int, str] | None = None
        self._new = case.generation == "android12-5.10"  # its dumps show the new records alone
        self._keeps = any(op["call"] in ("all released", "released by the driver") for op in case.ops)
        self._second_area = False
        self._allocs = 0
        self._pins_in_area = False
        self._earlier: list[Any] = []

    def play(self) -> list[Comparison]:
        """Make all calls and compare their answers with the recorded ones."""
        self._implied_setup()
        answers: list[Comparison] = []
        for number, op in enumerate(self.case.ops):
            more = self.call(number, op)
            if self.first_wrong is None and not all(answer.same for answer in more):
                self.first_wrong = number
            answers += more
        return answers

    def _implied_setup(self) -> None:
        if "mark-lifetime" in self.case.name or "ring0" in self.case.name:
            self.world.lay([0], file=False, how="get")
        # Its calls do not say so, but tracking was off before the release.
        self._off_at_release = any(op["call"].startswith("(release and unmap were done with") for op in self.case.ops)
        # Without page_pinner the dumps are missing that say when a reference was dropped.
        self._unsaid = "two-references" in self.case.name and not any("records" in op["call"] for op in self.case.ops)

    def call(self, number: int, op: Op) -> list[Comparison]:
        """Make one call."""
        return list(self._call(number, op))

    def _call(self, number: int, op: Op) -> Iterator[Comparison]:
        self._number = number
        for pattern, action in ACTIONS:
            match = re.fullmatch(pattern, op["call"], re.DOTALL)
            if match is not None:
                self.world.pause(5_000)
                yield from action(self, op, match) or ()
                return
        raise LookupError(op["call"])

    def _compare(self, op: Op, key: str, recorded: object, got: object) -> Comparison:
        return Comparison(f"{op['call']} {key}".rstrip(), repr(recorded), repr(got), recorded == got)

    # Setup and steps of the pages' owner.

    def _setup(self, op: Op, _: re.Match[str]) -> None:
        ret = op["ret"]
        self.world.free(AREA, 1 << 20)  # not all frees of these cases are recorded
        if isinstance(ret, list):
            self.world.lay([0], file=False, how="get")
            self.world.pin("get")
        elif isinstance(ret, str):
            match = re.match(r"(\d+) (?:mlocked )?(anon|shmem) pages in the area", ret)
            if match is None:
                raise LookupError(ret)
            self.world.lay(list(range(int(match[1]))), file=match[2] == "shmem", how=None)
        elif "offsets_in_area" in ret:
            offsets = ret["offsets_in_area"]
            if "..." in offsets:
                offsets = list(range(offsets[0], offsets[2] + 1))
            how = {"get_slow": "get", "plain_ref": "plain"}.get(ret["pinned_by"], ret["pinned_by"])
            self.world.lay(offsets, file=ret["pages"] == "shmem", how=how)

    def _released(self, op: Op, match: re.Match[str]) -> None:
        if self._off_at_release:
            self.world.set_tracking(False)
        self.world.release(match[1])

    def _another_thread(self, op: Op, match: re.Match[str]) -> None:
        self._release_after = (int(match[2]) * 1000, match[1])

    def _unmapped(self, op: Op, match: re.Match[str]) -> None:
        self.world.unmap(self._order("tlb_"))

    def _closed(self, op: Op, match: re.Match[str]) -> None:
        self.world.truncate(self._order("__pagevec_release"))

    def _order(self, caller: str) -> list[int]:
        """Return the order of the pages by address or in their file, as the next dump shows it; [] for ascending."""
        dump = self.case.ops[self._number + 1] if self._number + 1 < len(self.case.ops) else {}
        if "compact_last" in dump:
            return []
        rows = reversed(recorded_rows(dump.get("compact", [])))
        return [row.offset for row in rows if row.frames[0] == "release_pages" and row.frames[1].startswith(caller)]

    def _vmsplice(self, op: Op, match: re.Match[str]) -> None:
        self.world.lay([int(match[1])], file=False, how="get")

    def _pipe_read(self, op: Op, match: re.Match[str]) -> None:
        self.world.release("put_page")

    def _nothing(self, op: Op, match: re.Match[str]) -> None:
        pass

    # page_pinner's files.

    def _dropped(self, op: Op, match: re.Match[str]) -> None:
        self.world.set_buffer_size(4096)

    def _buffer_size(self, op: Op, match: re.Match[str]) -> None:
        self.world.set_buffer_size(int(match[1]))

    def _threshold(self, op: Op, match: re.Match[str]) -> None:
        self.world.pause(20_000)
        self.world.set_threshold(int(match[1]))

    def _tracking(self, op: Op, match: re.Match[str]) -> None:
        self.world.set_tracking(match[1] == "1")

    def _tracking_was_off(self, op: Op, match: re.Match[str]) -> None:
        self.world.set_tracking(False)
        self.world.set_tracking(True)

    # Allocations.

    def _alloc(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        if self._unsaid and self._allocs:
            self.world.release("put_page")
        self._allocs += 1
        area = self._area(op)
        release, self._release_after = self._release_after, None
        offset = self.world.alloc(area, int(match[1]), release_after=release, kept=True)
        recorded = op.get("errno", op.get("note"))
        yield self._compare(op, "errno", recorded, "ENOMEM" if offset is None else None)

    def _area(self, op: Op) -> str:
        if self.case.family != "cma2":
            return AREA
        if "independent" not in self.case.name:
            return "camera"
        if op["call"].startswith("alloc"):
            self._second_area, second = True, self._second_area
            return "camera" if second else AREA
        return AREA

    def _fatal(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        yield Comparison(op["call"], repr(op["ret"]), "no such message", False)

    def _many(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        for _ in range(int(match[1])):
            self.world.alloc(AREA, area_of(self.case)[1], kept=True)
        log = self.world.new_log()
        lines = [line for line in op["ret"] if "alloc failed" in line]
        if self.world.limits_log:
            yield self._compare(op, "", lines, log)

    def _cma_alloc(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        if not self._keeps:
            self.world.release_allocs()
        options = match[3]
        offset = self.world.alloc(
            AREA,
            int(match[1]),
            align=int(match[2]),
            no_warn="no_warn" in options,
            noretry="NORETRY" in options,
            kept=False,
        )
        yield self._compare(op, "", op["ret"], -1 if offset is None else offset)

    def _freed(self, op: Op, match: re.Match[str]) -> None:
        self.world.free(self._area(op), int(match[1]))

    def _all_released(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        self.world.release_allocs()
        yield from self._state(op, match)

    def _used_of_other(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        yield self._compare(op, "", op["ret"], self.world.state(AREA)["used"])

    def _state(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        recorded = op["ret"]
        area = op["call"] if op["call"] == "camera" else self._area(op)
        got = self.world.state(area)
        for key in ("used", "maxchunk", "bitmap_set_bits", "count"):
            yield self._compare(op, key, recorded[key], got[key])
        before, self._calls = self._calls, self.world.calls()
        delta = {"cma_alloc_success": self._calls[0] - before[0], "cma_alloc_fail": self._calls[1] - before[1]}
        theirs = {key: recorded["vmstat_delta"].get(key, 0) for key in delta}
        if self.case.family == "cma2" and "independent" in self.case.name:
            delta = theirs  # the recorder's delta began elsewhere
        if "vmsplice" in self.case.name:
            delta.pop("cma_alloc_success")  # the recorder had made an allocation before
            theirs.pop("cma_alloc_success")
        yield self._compare(op, "calls", theirs, delta)
        log = self.world.new_log()
        lines = [line for line in recorded.get("dmesg", []) if "alloc failed" in line]
        if lines:  # the kernel's rate limit suppresses lines of quick scenes
            yield self._compare(op, "dmesg", [line.split("> ", 1)[-1].split(">", 1)[-1] for line in lines], log)

    def _trace(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        if op["kinds"].get("cma_alloc_start") != 1 or self.world.tries() is None:
            return  # the trace buffer had overflowed, or nothing can be compared
        yield self._compare(op, "tries", op["kinds"].get("test_pages_isolated", 0), self.world.tries())

    # Records.

    def _records(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        self._steps_before(op["call"])
        if Drain(self._number, "before") in self._drains:
            self.world.drain()
        rows = after = self.world.rows()
        if rows is None:
            errno = ("kinds" in op and "errno EINVAL" in op["kinds"]) or op["ret"] == ["errno EINVAL"]
            yield self._compare(op, "", True, errno)
            return
        if self._new:
            new, self._new_total = self.world.total() - self._new_total, self.world.total()
            rows = after = rows[:new]
        if "errno EINVAL" in str(op.get("kinds", op["ret"])):
            yield Comparison(op["call"], repr(op["ret"]), f"{len(rows)} records", False)
            return
        if Drain(self._number, "amid") in self._drains:
            self.world.drain()
            after = self.world.rows()
        assert after is not None
        yield self._compare(op, "n", op["n"], len(rows))
        yield self._compare(op, "kinds", op["kinds"], dict(Counter(row.kind for row in rows)))
        last = recorded_rows(op.get("compact_last", []))
        compared = [
            *self._compare_rows(op, recorded_rows(op["compact"]), rows, after),
            *self._compare_rows(op, last, after[len(rows) - len(last) : len(rows)], []),
        ]
        yield from compared
        if Drain(self._number, "after") in self._drains:
            self.world.drain()
        texts = self.world.texts()
        drained = any(drain.call == self._number for drain in self._drains)
        if texts is not None and not drained and all(answer.same for answer in compared):
            yield from self._compare_texts(op, texts[: op["n"]])

    def _steps_before(self, call: str) -> None:
        """Do what the words of a dump say was done before it, where no call of its own does."""
        if re.search("one put_page|the other put_page|after release, another pin", call):
            self.world.release("put_page")
        if "another pin" in call:
            self.world.pin("get")
            self.world.release("put_page")
        if "mark-lifetime" in self.case.name and "munmap" in call:
            self.world.unmap([])
        if "in a new life" in call:
            self.world.set_buffer_size(4096)
            self.world.lay([0], file=False, how="get")
            self.world.release("put_page")

    def _compare_rows(self, op: Op, recorded: list[Row], rows: list[Row], after: list[Row]) -> Iterator[Comparison]:
        """Compare rows, newest first. From the recorder's page fault on it read those of `after`."""
        for number, row in enumerate(recorded):
            if number < len(rows) and same_row(row, rows[number]):
                continue
            if number < len(after) and same_row(row, after[number]):
                rows = after
                continue
            ours = repr(rows[number]) if number < len(rows) else "no record"
            yield Comparison(f"{op['call']} record {number}", repr(row), ours, False)
            return
        yield Comparison(f"{op['call']} records", "", "", True)

    def _compare_texts(self, op: Op, texts: list[str]) -> Iterator[Comparison]:
        pairs = [
            *zip(op["ret"], texts, strict=False),
            *zip(reversed(op.get("last", [])), reversed(texts), strict=False),
        ]
        for recorded, got in pairs:
            theirs, ours = canonical_text(recorded, self._recorded_base), canonical_text(got, self.base)
            yield self._compare(op, "text", theirs, ours)

    @cached_property
    def _recorded_base(self) -> int:
        """Return the first PFN of the area, which is another one on the machine with two processors."""
        for op in self.case.ops:
            rows = recorded_rows(op.get("compact", []))
            if rows and op.get("ret"):
                return parse_text(op["ret"][0], 0).offset - rows[0].offset
        return self.base

    # longterm_pinner of android12-5.10.

    def _longterm(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        call = op["call"]
        if call.startswith("an ordinary long pin"):
            self.world.set_threshold(1000)
            self.world.lay([9], file=False, how="get")
            self.world.pause(10_000)
            self.world.release("put_user_page")
            got = self.world.longterm()
            self.world.lay([0], file=True, how="plain")
        elif call.startswith("put_user_page of a marked page"):
            self.world.release("put_user_page")
            got = self.world.longterm()
        elif "one more ordinary pin" in call:
            self.world.set_threshold(0)
            self.world.lay([1], file=False, how="get")
            self.world.pause(10_000)
            self.world.release("put_user_page")
            got = self.world.longterm()
        else:
            got = self.world.longterm()
        lines = [re.sub(r"\d+(?= us)", "N", text.split("\n")[0]) for text in op["ret"]]
        yield self._compare(op, "", [op["n"], lines], [len(got), [re.sub(r"\d+(?= us)", "N", one) for one in got]])

    def _pread(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        got = self.world.longterm_at(int(match[1]))
        yield self._compare(op, "", *(re.sub(r"\d+(?= us)", "N", text.split("\n")[0]) for text in (op["data"], got)))

    # The stories of alloc_contig_failed, in words.

    def _pinned(self, op: Op, match: re.Match[str]) -> None:
        """Pin the lowest pages of those that were pinned in the area: no others are marked."""
        file = "shmem" in self.case.name
        self._pins_in_area = op["ret"][2] > 0
        if self._pins_in_area:
            shown = re.findall(r"PFN (0x[0-9a-f]+|\d+) ", str(self.case.ops))
            lowest = min((int(pfn, 0) for pfn in shown), default=self.base)
            self.world.lay([lowest - self.base + page for page in range(64)], file=file, how="get")
        elif file:
            self.world.alloc(AREA, area_of(self.case)[1], kept=True)  # the story before has left the area full

    def _alloc_whole(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        offset = self.world.alloc(AREA, int(match[1]), kept=True)
        yield self._compare(op, "errno", op.get("errno"), "ENOMEM" if offset is None else None)

    def _snapshot(self, op: Op, match: re.Match[str]) -> Iterator[Comparison]:
        if "put_user_page" in op["call"]:
            self.world.release("put_user_page")
        elif "munmap" in op["call"]:
            self.world.unmap([])
        elif "threshold" in op["call"]:
            self.world.set_threshold(300_000)
        elif "failure_tracking" in op["call"]:
            self.world.set_tracking(False)
            self.world.set_tracking(True)
        rows = self.world.rows()
        assert rows is not None
        if not self._pins_in_area:
            # Nothing happens: records that earlier cases left stay what they are.
            found = [op["n"], op["kinds"], len(rows)]
            self._earlier = self._earlier or found
            yield self._compare(op, "n, kinds, records", found, self._earlier)
            return
        yield self._compare(op, "n", op["n"], len(rows))
        kinds: Counter[str] = Counter()
        for words, count in op["kinds"].items():
            kinds[KINDS[words[:8]]] += count
        yield self._compare(op, "kinds", kinds, Counter(row.kind for row in rows))
        for name, texts, some in (
            ("ret", op["ret"], rows),
            ("last", op.get("last", []), rows[-len(op.get("last", [])) :]),
        ):
            for text, row in zip(texts, some, strict=False):
                recorded = parse_text(text, self.base)
                if self.case.generation == "android12-5.10-early":
                    row = row._replace(references=0, mapcount=0, mapping=False)
                same = same_row(recorded, row)
                yield Comparison(f"{op['call']} {name}", repr(recorded), repr(row), same)


Action = Callable[[Scene, Op, re.Match[str]], Iterable[Comparison] | None]
ACTIONS: list[tuple[str, Action]] = [
    (r"cma base,count", Scene._nothing),
    (r"pinned pages / sampled pfns / of those in CMA", Scene._pinned),
    (r"write\(cma alloc (\d+) pages = whole area\)", Scene._alloc_whole),
    (r"after (?:failed|put_user_page|munmap|second|threshold|failure_tracking) ?.*", Scene._snapshot),
    (r"setup", Scene._setup),
    (r"\(pins released by (\w+)\)", Scene._released),
    (r"\(another thread releases the pin by (\w+) (\d+) ms later\)", Scene._another_thread),
    (r"\(pages unmapped\)", Scene._unmapped),
    (r"\(last close of the unlinked tmpfs file\)", Scene._closed),
    (r"vmsplice\(4096 bytes of a page at offset (\d+) of the area\)", Scene._vmsplice),
    (r"read\(pipe,4096\)", Scene._pipe_read),
    (r"page", Scene._nothing),
    (r"\(records dropped: buffer_size written\)", Scene._dropped),
    (r"write\(b'(0)'\) to buffer_size", Scene._buffer_size),
    (r"console", Scene._fatal),
    (r"\(buffer_size (\d+)(?:: drops all)?\)", Scene._buffer_size),
    (r"\(threshold (\d+)\)", Scene._threshold),
    (r"\(failure_tracking (\d)\)", Scene._tracking),
    (r"\(release and unmap were done with failure_tracking 0; now 1\)", Scene._tracking_was_off),
    (r"alloc: write\(b'(\d+)\\n'\)", Scene._alloc),
    (r"(\d+) failing whole-area allocations in a row: dmesg", Scene._many),
    (r"cma_alloc\((\d+) pages, align (\d+)(.*)\), offset of the first page", Scene._cma_alloc),
    (r"free: write\(b'(\d+)\\n'\)", Scene._freed),
    (r"all released|released by the driver", Scene._all_released),
    (r"used of the other area", Scene._used_of_other),
    (r"state|after free of everything|camera|reserved|debugfs free gives back .*", Scene._state),
    (r"sysfs|pages of the process in the area now", Scene._nothing),
    (r"pread\(4096,(\d+)\)", Scene._pread),
    (r"trace", Scene._trace),
    (r"(?:.*: )?longterm_pinner.*|an ordinary long pin: .*|put_user_page of a marked page.*", Scene._longterm),
    (r"records.*|same page frame in a new life.*", Scene._records),
]
