"""From a dump of page_pinner's records to the culprit, without an engine.

    capture = pinnerfs.report.read("bugreport.zip")
    report = pinnerfs.report.analyse(capture)
    print(report.headline)

`read` gives typed records and what was skipped. `analyse` gives the report as data.
"""

from __future__ import annotations

from pinnerfs.lazy import importer

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
    __getattr__ = importer(__name__, _MODULES)
