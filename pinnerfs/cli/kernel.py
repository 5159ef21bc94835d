"""The option --kernel, and the table of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pinnerfs.kernel.cma.mm import MMS
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED, Generation, Mark
from pinnerfs.kernel.page_pinner.layouts import Layout
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.words import count_of

__all__ = ["kernel", "kernel_data", "kernel_table"]


def _by_evidence() -> str:
    """Return the names of the kernels in a sentence for each kind of evidence."""
    kinds = dict.fromkeys(generation.evidence for generation in GENERATIONS.values())
    sentences = []
    for kind in kinds:
        names = [name for name, generation in GENERATIONS.items() if generation.evidence == kind]
        sentences.append(f"{kind.capitalize()}: {', '.join(names)}.")
    return " ".join(sentences)


kernel = click.option(
    "--kernel",
    type=click.Choice(list(GENERATIONS)),
    metavar="NAME",
    default=INTRODUCED.name,
    show_default=True,
    help=f"Imitate the page_pinner of this kernel. {_by_evidence()} `pinnerfs list --kernels` describes them.",
)


def kernel_table() -> Iterator[str]:
    """Yield the lines of the table of kernels: files, lines of a record, what is tracked, mm, and evidence."""
    for name, generation in GENERATIONS.items():
        rows = [("files", ", ".join(generation.files))]
        for file, layout in generation.layouts.items():
            first, *others = _lines(layout, 0 if generation.counts == "0" else 1)
            rows += [(file, first), *(("", line) for line in others)]
        rows += [
            ("tracks", _tracked(generation)),
            ("mm", _mm(generation)),
            ("evidence", f"{generation.evidence}; {generation.evidence_about}"),
        ]
        yield f"{name}: {generation.about}"
        yield from (f"  {label:19}  {text}" for label, text in rows)


def kernel_data() -> list[dict[str, object]]:
    """Return the same as data."""
    return [
        {
            "name": name,
            "about": generation.about,
            "evidence": generation.evidence,
            "evidence_about": generation.evidence_about,
            "files": generation.files,
            "main_file": generation.main_file,
            "lines": {
                file: _lines(layout, 0 if generation.counts == "0" else 1)
                for file, layout in generation.layouts.items()
            },
            "has_threshold": generation.has_threshold,
            "tracks": _tracked(generation),
            "mm": {
                "name": generation.mm,
                "retries": MMS[generation.mm].retries,
                "directory": f"cma/{MMS[generation.mm].directory('NAME')}",
                "evidence": MMS[generation.mm].evidence,
            },
        }
        for name, generation in GENERATIONS.items()
    ]


def _lines(layout: Layout, count: int) -> list[str]:
    """Return the first line of each kind of record, and a second line."""
    from pinnerfs.kernel.page_pinner.records import Record, record_text

    lines = []
    for kind in layout.lines:
        record = Record(
            ts=303038,
            moment=8239262,
            kind=kind,
            count=count,
            mapcount=1,
            mapping=0,
            pfn=0x966799,
            block=0x966799 >> 10,
            migratetype=Migratetype.Movable,
            flags=page_flags(["uptodate", "lru", "swapbacked"], 2),
            stack=(),
        )
        first, second, *_ = record_text(record, layout).split("\n")
        lines.append(first)
    return [*lines, second]


def _mm(generation: Generation) -> str:
    """Return which memory management is around page_pinner, and how that is known."""
    mm = MMS[generation.mm]
    retries = count_of(mm.retries, "retry", "retries")
    parts = [f"{mm.name}, {retries} of a CMA allocation, cma/{mm.directory('NAME')}"]
    if mm.evidence != "recorded":
        parts.append(mm.evidence)
    if mm.expected:
        parts.append(f"expected: {mm.expected}")
    if generation.name != mm.name:
        parts.append("that it goes with this page_pinner is expected")
    return "; ".join(parts)


def _tracked(generation: Generation) -> str:
    parts = []
    if generation.pins:
        parts.append(f"pins by {' and '.join(call.name for call in sorted(generation.pins))}")
    if "failure_tracking" in generation.files:
        parts.append("pages whose migration failed")
    if Mark.GET in generation.freed_recorded:
        parts.append("frees of pages that carry the mark of a pin")
    return ", ".join(parts)
