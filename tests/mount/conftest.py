"""Fixtures of the tests that mount for real."""

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
    """Everything in this folder mounts."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.mount)


@pytest.fixture(scope="session", autouse=True)
def machine_can_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where nothing can be mounted; fail where that is not allowed."""
    reason = why_no_mount(tmp_path_factory.mktemp("trial"))
    if reason is not None and os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
        pytest.fail(f"this machine cannot mount: {reason}")
    if reason is not None:
        pytest.skip(f"this machine cannot mount: {reason}")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounts]:
    """Mounts that are taken down after the test, their logs looked into."""
    mounts = Mounts(tmp_path)
    try:
        yield mounts
    finally:
        mounts.close()


@pytest.fixture
def public_mount() -> Iterator[Mounts]:
    """The same in a folder that every user can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users")
    folder = Path(tempfile.mkdtemp(prefix="pinnerfs-test-", dir="/tmp"))
    folder.chmod(0o711)
    mounts = Mounts(folder)
    try:
        yield mounts
    finally:
        try:
            mounts.close()
        finally:
            shutil.rmtree(folder)
