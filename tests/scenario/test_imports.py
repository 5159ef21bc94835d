"""The imports of pinnerfs.scenario."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pinnerfs.scenario
from tests.mount.support import DEADLINE


def test_the_format_does_not_load_numpy() -> None:
    """All modules of pinnerfs.scenario can be loaded, and the gallery read, without numpy."""
    names = [module.name for module in pkgutil.iter_modules(pinnerfs.scenario.__path__, "pinnerfs.scenario.")]
    assert "pinnerfs.scenario.gallery" in names
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
from pinnerfs.scenario.gallery import gallery, load
for name in gallery():
    load(name)
loaded = [name for name in sys.modules if name.partition(".")[0] == "numpy"]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
