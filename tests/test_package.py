"""The Python API of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, ROOT


def test_every_public_name_exists() -> None:
    """Each public name can be imported, and another name is an AttributeError."""
    assert {name: getattr(pinnerfs, name).__name__ for name in pinnerfs.__all__} == {n: n for n in pinnerfs.__all__}
    assert set(pinnerfs.__all__) == set(pinnerfs._MODULES)
    with pytest.raises(AttributeError, match="module 'pinnerfs' has no attribute 'Simulatoin'"):
        pinnerfs.Simulatoin  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_find_the_types() -> None:
    """The package has the marker of PEP 561, also where it is installed."""
    assert (Path(pinnerfs.__file__).parent / "py.typed").is_file()


def test_importing_the_package_is_cheap() -> None:
    """Importing the package alone imports no library."""
    code = "import sys, pinnerfs; print(*sorted({'numpy', 'msgspec', 'fuse', 'click', 'typing'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE, check=True
    )
    assert done.stdout == "\n"
