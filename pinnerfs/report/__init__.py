"""From a dump of page_pinner's records to the culprit, without an engine.

    capture = pinnerfs.report.read("bugreport.zip")
    report = pinnerfs.report.analyse(capture)
    print(report.headline)

`read` gives typed records and what was skipped. `analyse` gives the report as data.
"""

from __future__ import annotations

__all__: list[str] = []
