"""The pytest plugin: the fixture `page_pinner`, a fake device of its own for each test.

pytest imports this module in every run wherever pinnerfs is installed: it imports nothing more than it must.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.testing.folders import make_folder, remove_folder, sweep

if TYPE_CHECKING:
    from pinnerfs.testing.page_pinner import PagePinner

__all__ = ["page_pinner", "pytest_configure", "pytest_sessionstart"]

MARKER = "page_pinner(scenario='camera-stall', *, seed=None, threshold=None, kernel=None)"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}: what the fixture page_pinner mounts: a scenario of pinnerfs' gallery, or a path, seen from the "
        "test's file; with this seed, this threshold in µs, and this kernel's page_pinner",
    )


def pytest_sessionstart() -> None:
    """Sweep up what a killed run has left."""
    sweep()


def _options(
    scenario: str | os.PathLike[str] = "camera-stall",
    *,
    seed: int | None = None,
    threshold: int | None = None,
    kernel: str | None = None,
) -> tuple[str, list[str]]:
    """The marker's arguments as the command line has them."""
    values = {"seed": seed, "threshold": threshold, "kernel": kernel}
    return os.fspath(scenario), [f"--{name}={value}" for name, value in values.items() if value is not None]


def _marked(item: pytest.Item) -> tuple[str, list[str]]:
    """The scenario and the options for a test; it fails where its marker is wrong."""
    marker = item.get_closest_marker("page_pinner") or pytest.mark.page_pinner.mark
    try:
        inspect.signature(_options).bind(*marker.args, **marker.kwargs)
        scenario, options = _options(*marker.args, **marker.kwargs)
    except TypeError as error:
        pytest.fail(f"@pytest.mark.page_pinner: {error}: wanted {MARKER}", pytrace=False)
    if "/" in scenario or scenario.endswith(".toml"):
        scenario = os.path.join(item.path.parent, scenario)
    return scenario, options


@pytest.fixture(scope="session")
def _page_pinner_places() -> Iterator[Iterator[Path]]:
    """Places for mounts, in a folder of this process."""
    folder = make_folder()
    yield (folder / str(number) for number in itertools.count())
    remove_folder(folder)


@pytest.fixture
def page_pinner(request: pytest.FixtureRequest, _page_pinner_places: Iterator[Path]) -> Iterator[PagePinner]:
    """A fake debugfs with page_pinner, mounted for this test alone; its clock goes on when the test says so.

    `@pytest.mark.page_pinner(...)` chooses scenario, seed, threshold and kernel. Where nothing can be mounted the test
    is skipped, or fails if PINNERFS_REQUIRE_FUSE=1.
    """
    from pinnerfs.testing.page_pinner import PagePinner

    scenario, options = _marked(request.node)
    try:
        device = PagePinner(next(_page_pinner_places), scenario, *options)
    except PinnerfsError as error:
        if error.exit_status == NO_FUSE and os.environ.get("PINNERFS_REQUIRE_FUSE") != "1":
            pytest.skip(f"this machine cannot mount: {error}")
        pytest.fail(f"page_pinner: {error}", pytrace=False)
    yield device
    try:
        device.close()
    except PinnerfsError as error:
        pytest.fail(f"page_pinner: {error}", pytrace=False)
