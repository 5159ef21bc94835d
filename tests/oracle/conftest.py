"""The option --oracle, and the mounts that the cases share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.replay import Worlds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Further cases to replay."""
    parser.addoption("--oracle", metavar="PATH", type=Path, help="replay the cases of this file or folder, too")


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Mounts at /sys/kernel/debug, each in a namespace of its own, taken down at the end."""
    worlds = Worlds(tmp_path_factory.mktemp("oracle"))
    try:
        yield worlds
    finally:
        worlds.close()
