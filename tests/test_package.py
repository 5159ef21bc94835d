"""The Python face of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, ROOT


def test_every_name_is_there() -> None:
    """Each public name is found when asked for, and another one is not."""
    assert {name: getattr(pinnerfs, name).__name__ for name in pinnerfs.__all__} == {n: n for n in pinnerfs.__all__}
    assert set(pinnerfs.__all__) == set(pinnerfs._HOMES)
    with pytest.raises(AttributeError, match="module 'pinnerfs' has no attribute 'Simulatoin'"):
        pinnerfs.Simulatoin  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_is_cheap() -> None:
    """Whoever imports the package alone waits for no library."""
    code = "import sys, pinnerfs; print(*sorted({'numpy', 'msgspec', 'fuse', 'click'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE, check=True
    )
    assert done.stdout == "\n"
