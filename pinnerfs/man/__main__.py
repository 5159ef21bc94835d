"""Write all man pages below a directory: `python -m pinnerfs.man DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

from pinnerfs.man.pages import pages

if __name__ == "__main__":
    for name, text in pages().items():
        path = Path(sys.argv[1], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
