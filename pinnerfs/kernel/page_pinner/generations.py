"""What differs between kernels that had page_pinner, as data. A new kernel is one more entry of the table."""

from __future__ import annotations

from typing import NamedTuple

from pinnerfs.kernel.events import Event

__all__ = ["GENERATIONS", "INTRODUCED", "Generation"]


class Generation(NamedTuple):
    """The page_pinner of one kernel.

    files: the files in page_pinner/, in the order in which the kernel creates them.
    tracked: the calls that page_pinner has a hook for. No other call changes its state.
    prints_count: whether a record shows the page's count; if not, it shows 0.
    heads: the innermost frames of a pin's call chain, by the path that it takes (`slow` or `fast`).
    tail: the outermost frames of a system call. `{}` stands for its name.
    """

    name: str
    files: tuple[str, ...]
    tracked: frozenset[Event]
    prints_count: bool
    heads: dict[str, tuple[str, ...]]
    tail: tuple[str, ...]


_FOLL_GET = frozenset({Event.get_user_pages, Event.put_user_page, Event.free})
_FOLL_PIN = frozenset({Event.pin_user_pages, Event.unpin_user_page})

_TAIL = ("__arm64_sys_{}", "el0_svc_common", "do_el0_svc", "el0_svc", "el0_sync_handler", "el0_sync")
_SLOW = ("try_grab_page", "follow_page_pte", "follow_pmd_mask", "__get_user_pages")
_FAST = ("try_grab_compound_head", "gup_pgd_range", "internal_get_user_pages_fast")

_TABLE = (
    # The feature as it was announced.
    Generation(
        name="introduced",
        files=("longterm_pinner", "threshold"),
        tracked=_FOLL_GET | _FOLL_PIN,
        prints_count=True,
        # This kernel's stack trace includes the function that takes it.
        heads={"slow": ("__set_page_pinner", *_SLOW), "fast": ("__set_page_pinner", *_FAST)},
        tail=_TAIL,
    ),
    # The first months of android12-5.10.
    Generation(
        name="android12-5.10-early",
        files=("longterm_pinner", "threshold", "alloc_contig_failed", "failure_tracking"),
        tracked=_FOLL_GET,
        prints_count=False,
        heads={"slow": _SLOW, "fast": _FAST},
        tail=_TAIL,
    ),
)

GENERATIONS = {generation.name: generation for generation in _TABLE}
INTRODUCED = GENERATIONS["introduced"]
