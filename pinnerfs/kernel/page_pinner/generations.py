"""What differs between the kernels that had page_pinner: all of it, as data, in this one place."""

from __future__ import annotations

from typing import NamedTuple

from pinnerfs.kernel.events import Event

__all__ = ["ANDROID12_5_10_EARLY", "GENERATIONS", "INTRODUCED", "Generation"]

_FOLL_GET = frozenset({Event.get_user_pages, Event.put_user_page, Event.free})
_FOLL_PIN = frozenset({Event.pin_user_pages, Event.unpin_user_page})


class Generation(NamedTuple):
    """One kernel's page_pinner.

    files: those of page_pinner/, in the order in which the kernel makes them.
    tracked: the events that touch the books; all others leave them alone.
    prints_count: whether a record shows the page's count, or 0.
    heads: the innermost frames of a pin, by the path it takes (`slow` or `fast`).
    tail: the outermost frames below a system call; `{}` stands for its name.
    """

    name: str
    summary: str
    files: tuple[str, ...]
    tracked: frozenset[Event]
    prints_count: bool
    heads: dict[str, tuple[str, ...]]
    tail: tuple[str, ...]


_TAIL = ("__arm64_sys_{}", "el0_svc_common", "do_el0_svc", "el0_svc", "el0_sync_handler", "el0_sync")
_SLOW = ("try_grab_page", "follow_page_pte", "follow_pmd_mask", "__get_user_pages")
_FAST = ("try_grab_compound_head", "gup_pgd_range", "internal_get_user_pages_fast")

INTRODUCED = Generation(
    name="introduced",
    summary="the feature as it was announced",
    files=("longterm_pinner", "threshold"),
    tracked=_FOLL_GET | _FOLL_PIN,
    prints_count=True,
    # This one's stack trace still holds the function that takes it.
    heads={"slow": ("__set_page_pinner", *_SLOW), "fast": ("__set_page_pinner", *_FAST)},
    tail=_TAIL,
)

ANDROID12_5_10_EARLY = Generation(
    name="android12-5.10-early",
    summary="the first months of android12-5.10",
    files=("longterm_pinner", "threshold", "alloc_contig_failed", "failure_tracking"),
    tracked=_FOLL_GET,
    prints_count=False,
    heads={"slow": _SLOW, "fast": _FAST},
    tail=_TAIL,
)

GENERATIONS = {generation.name: generation for generation in (INTRODUCED, ANDROID12_5_10_EARLY)}
