"""From a capture to an editable scenario whose dump has the same call sites with the same order of weights."""

from __future__ import annotations

from pinnerfs.importing.importer import import_capture

__all__ = ["import_capture"]
