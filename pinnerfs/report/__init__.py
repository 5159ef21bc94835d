"""From a dump of page_pinner's records to the culprit, without an engine.

    capture = pinnerfs.report.read("bugreport.zip")
    report = pinnerfs.report.analyse(capture)
    print(report.headline)

`read` gives typed records and what was skipped. `analyse` gives the report as data.
"""

from __future__ import annotations

# As typing.TYPE_CHECKING for type checkers. Importing typing takes time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pinnerfs.report.analysis import analyse
    from pinnerfs.report.model import Capture, DumpRecord, Report
    from pinnerfs.report.reader import read, read_text

__all__ = ["Capture", "DumpRecord", "Report", "analyse", "read", "read_text"]

_MODULES = {
    "Capture": "pinnerfs.report.model",
    "DumpRecord": "pinnerfs.report.model",
    "Report": "pinnerfs.report.model",
    "analyse": "pinnerfs.report.analysis",
    "read": "pinnerfs.report.reader",
    "read_text": "pinnerfs.report.reader",
}

if not TYPE_CHECKING:  # so that a type checker reports a wrong name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used: every command of pinnerfs is a process of its own."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
