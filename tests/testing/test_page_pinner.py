"""A mount for a test that does not come about; tests/test_pytest_plugin.py has those that do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.testing import page_pinner
from pinnerfs.testing.page_pinner import PagePinner


def test_a_mount_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the deadline mounting is given up, in words, and nothing is left of it."""
    monkeypatch.setattr(page_pinner, "DEADLINE", 0)
    with pytest.raises(PinnerfsError, match=r"pinnerfs mount camera-stall .* has not mounted within 0 s"):
        PagePinner(tmp_path / "place", "camera-stall")
    assert list(tmp_path.iterdir()) == []
