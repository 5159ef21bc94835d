"""Fixtures for tests that mount pinnerfs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.support import Mounts, why_no_mount

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this directory as `mount`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.mount)


@pytest.fixture(scope="session", autouse=True)
def machine_can_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the tests if this machine cannot mount. With PINNERFS_REQUIRE_FUSE=1 they fail instead."""
    reason = why_no_mount(tmp_path_factory.mktemp("trial"))
    if reason is not None and os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
        pytest.fail(f"this machine cannot mount: {reason}")
    if reason is not None:
        pytest.skip(f"this machine cannot mount: {reason}")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounts]:
    """Mount in tmp_path. After the test, unmount and check the logs."""
    mounts = Mounts(tmp_path)
    try:
        yield mounts
    finally:
        mounts.close()


@pytest.fixture
def public_mount() -> Iterator[Mounts]:
    """Mount in a directory that every user can enter. After the test, unmount and check the logs."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users")
    directory = Path(tempfile.mkdtemp(prefix="pinnerfs-test-", dir="/tmp"))
    directory.chmod(0o711)
    mounts = Mounts(directory)
    try:
        yield mounts
    finally:
        try:
            mounts.close()
        finally:
            shutil.rmtree(directory)
