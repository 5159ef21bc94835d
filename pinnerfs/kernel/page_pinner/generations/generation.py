"""What can differ between the kernels that have page_pinner, as data."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

from enum import Flag
from typing import Literal, NamedTuple

from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.layouts import Layout

__all__ = ["Generation", "Mark"]


class Mark(Flag):
    """A mark of a page frame. GET: pinned by get_user_pages. FAILED: the migration of the page failed."""

    GET = 1
    FAILED = 2


class Generation(NamedTuple):
    """The page_pinner of one kernel.

    name: the name for --kernel.
    about: the kernels that have it, in a few words.
    evidence, evidence_about: how the rules below are known.
    mm: the name of the memory management around it, by default, see `Mm`.
    files: the files in page_pinner/, in the order in which the kernel creates them.
    layouts: how the records of each record file are printed, by the file's name. The first is the kernel's main file.
    counts: what `count` in a record of longterm_pinner is: the page's pins, always 0, or the page's references.

    pins: the calls that set GET, and take the stack and the time.
    releases: the calls that clear GET, and leave a record of a pin that lasted longer than the threshold.
    puts: the calls whose dropped reference leaves a PUT record if the page is FAILED.
    failed_as_pinned: whether `releases` measure a FAILED page as if GET were set.
    release_clears_ts: whether `releases` forget the time of the pin.
    freed: the marks of which a free of the page needs one to do anything. It clears all marks then.
    freed_recorded: the marks of which a free needs one to leave a FREE record.
    free_clears_ts: whether a free forgets the time of the pin or of the failure.
    failed_recorded: whether a page that could not be moved leaves a record: never, at the first time, or always.
    busy_marks: whether the page that makes an allocation fail is marked, with a record, if it is not. Otherwise it
    leaves a record if it is marked.
    failure_takes_ts: whether a failure is taken for the time of the pin if that is not known.
    no_warn_marks: whether a page that could not be moved is marked although the caller wants no warnings.
    mark_head, free_head: page_pinner's own frames in the call chain of such a record and of a FREE record.
    pincount_order: from this order on, compound pages count their FOLL_PIN pins apart, so that each adds 1 to the
    references and not 1024.

    heads: the innermost frames of a pin's call chain, by the path that it takes (`slow` or `fast`).
    tail: the outermost frames of a system call. `{}` stands for its name.
    unmap, exit: the innermost frames when munmap and the end of a process drop a reference.
    truncate: the frames when the last close of a file without a name drops its pages.
    free_page, free_list: the frames inside of those, when the last reference frees the page: behind put_page and its
    relatives, and behind munmap and exit.
    """

    name: str
    about: str
    evidence: Literal["recorded", "read in source", "expected"]
    evidence_about: str
    mm: str
    files: tuple[str, ...]
    layouts: dict[str, Layout]
    counts: Literal["pins", "0", "references"]
    pins: frozenset[Event]
    releases: frozenset[Event]
    puts: frozenset[Event]
    failed_as_pinned: bool
    release_clears_ts: bool
    freed: Mark
    freed_recorded: Mark
    free_clears_ts: bool
    failed_recorded: Literal["never", "first", "always"]
    busy_marks: bool
    failure_takes_ts: bool
    no_warn_marks: bool
    mark_head: tuple[str, ...]
    free_head: tuple[str, ...]
    pincount_order: int
    heads: dict[str, tuple[str, ...]]
    tail: tuple[str, ...]
    free_page: tuple[str, ...]
    free_list: tuple[str, ...]
    unmap: tuple[str, ...]
    exit: tuple[str, ...]
    truncate: tuple[str, ...]

    @property
    def record_files(self) -> tuple[str, ...]:
        """Return the names of the files that have records, the main one first."""
        return tuple(self.layouts)

    @property
    def main_file(self) -> str:
        """Return the name of the record file that tools read first."""
        return self.record_files[0]

    @property
    def has_threshold(self) -> bool:
        """Tell whether this kernel has a threshold, and so long-term records."""
        return "threshold" in self.files

    @property
    def failure_file(self) -> str | None:
        """Return the name of the file with the records of failed migrations, or None."""
        return next((name for name in self.layouts if name != "longterm_pinner"), None)
