"""The calls on pages that a workload makes.

Does not import numpy, as the list of kernels must load without it.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["PINS", "RELEASES", "TRUNCATE", "Event"]


class Event(IntEnum):
    """A call on a page, by its name in the kernel. FOLL_GET and FOLL_PIN have calls of their own.

    `get_page` is a plain reference. `map` and `unmap` change the page tables of a process: `unmap` drops the reference
    that the mapping held. `free` takes the page away from all its users, as when they exit.
    """

    get_user_pages = 0
    pin_user_pages = 1
    put_user_page = 2
    unpin_user_page = 3
    put_page = 4
    free = 5
    get_page = 6
    map = 7
    unmap = 8


# In a record's `call`: a free of a file's page by the last close of the file, while pages are marked FAILED.
TRUNCATE = len(Event)

PINS = (Event.get_user_pages, Event.pin_user_pages)
RELEASES = (Event.put_user_page, Event.unpin_user_page)
