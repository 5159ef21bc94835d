"""Man pages, made from the help of the commands and from the page about the format of a scenario."""

from __future__ import annotations

from pinnerfs.man.pages import pages

__all__ = ["pages"]
