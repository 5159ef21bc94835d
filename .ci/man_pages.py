"""Makes the man pages while hatchling builds a wheel, which installs them into share/man."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface):
    """Adds the pages to the wheel as shared data."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages into a temporary directory."""
        sys.path.insert(0, self.root)
        try:
            from pinnerfs.man import pages
        finally:
            sys.path.pop(0)
        self._written = Path(tempfile.mkdtemp(prefix="pinnerfs-man-"))
        for name, text in pages().items():
            path = self._written / name.replace("/", "-")
            path.write_text(text, encoding="ascii")
            build_data["shared_data"][str(path)] = f"share/man/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary directory."""
        shutil.rmtree(self._written)
