"""The pytest plugin: the fixture `page_pinner`, a fake device of its own for each test; and scenario files as tests.

pytest imports this module in every run wherever pinnerfs is installed, so it imports no more than it must.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pinnerfs.errors import NO_FUSE, PinnerfsError
from pinnerfs.mounts.directories import remove_left_directories

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pinnerfs.mounting import MountedDevice

__all__ = [
    "page_pinner",
    "pytest_addoption",
    "pytest_collect_file",
    "pytest_collection",
    "pytest_configure",
    "pytest_sessionstart",
]

SCENARIOS = "page_pinner_scenarios"
FILES = pytest.StashKey["frozenset[Path]"]()

MARKER = (
    "page_pinner(scenario='camera-stall', *, seed=None, threshold=None, kernel=None, mm=None, cma_retries=None, "
    "quiet_migration=False, over=None, loop=False)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting of scenario files."""
    parser.addini(SCENARIOS, "patterns of scenario files, each [[expect]] of which is a test", type="args", default=[])


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Find the scenario files of the setting, before pytest looks for tests."""
    if patterns := session.config.getini(SCENARIOS):
        from pinnerfs.pytest_scenarios import scenario_files

        session.config.stash[FILES] = scenario_files(session.config, patterns)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a scenario file if the setting matches it."""
    if file_path not in parent.config.stash.get(FILES, ()):
        return None
    from pinnerfs.pytest_scenarios import ScenarioFile

    return ScenarioFile.from_parent(parent, path=file_path)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}: what the fixture page_pinner mounts: a scenario's name, or the path of a scenario or capture, "
        "relative to the test's file; "
        'the seed; the threshold in µs or as a time such as "300ms"; the kernel whose page_pinner to imitate; and '
        "mm, cma_retries, quiet_migration, over and loop as the options of `pinnerfs mount`",
    )


def pytest_sessionstart() -> None:
    """Clean up after runs that were killed."""
    remove_left_directories()


def _mounted(
    directory: str,
    scenario: str | os.PathLike[str] = "camera-stall",
    *,
    seed: int | None = None,
    threshold: int | str | None = None,
    kernel: str | None = None,
    mm: str | None = None,
    cma_retries: int | None = None,
    quiet_migration: bool = False,
    over: int | str | None = None,
    loop: bool = False,
) -> AbstractContextManager[MountedDevice]:
    """Mount what a marker asks for; a path is relative to the directory of the test's file."""
    from pinnerfs.mounting import mounted

    name = os.fspath(scenario)
    if not isinstance(scenario, str) or "/" in name or name.endswith(".toml"):
        name = os.path.join(directory, name)
    return mounted(
        name,
        seed=seed,
        threshold=threshold,
        kernel=kernel,
        mm=mm,
        cma_retries=cma_retries,
        quiet_migration=quiet_migration,
        over=over,
        loop=loop,
    )


def _set_up(item: pytest.Item, mounts: ExitStack) -> MountedDevice:
    """Mount what the marker of a test asks for, or skip or fail the test."""
    marker = item.get_closest_marker("page_pinner") or pytest.mark.page_pinner.mark
    mount = partial(_mounted, str(item.path.parent))
    skip = False
    try:
        inspect.signature(mount).bind(*marker.args, **marker.kwargs)
        return mounts.enter_context(mount(*marker.args, **marker.kwargs))
    except TypeError as error:
        problem = f"@pytest.mark.page_pinner: {error}: wanted {MARKER}"
    except ValueError as error:
        problem = f"@pytest.mark.page_pinner: {error}"
    except PinnerfsError as error:
        skip = error.exit_status == NO_FUSE and os.environ.get("PINNERFS_REQUIRE_FUSE") != "1"
        problem = f"{'this machine cannot mount' if skip else 'page_pinner'}: {error}"
    # Outside of the handlers, so that pytest does not show the exception as well.
    if skip:
        pytest.skip(problem)
    pytest.fail(problem, pytrace=False)


@pytest.fixture
def page_pinner(request: pytest.FixtureRequest) -> Iterator[MountedDevice]:
    """Mount a fake debugfs with page_pinner for this test alone; `advance` moves its clock.

    `@pytest.mark.page_pinner(...)` chooses scenario, seed, threshold, kernel and mm. The test is skipped on a
    machine that cannot mount, or fails there if PINNERFS_REQUIRE_FUSE=1.
    """
    with ExitStack() as mounts:
        yield _set_up(request.node, mounts)
        problem = ""
        try:
            mounts.close()
        except PinnerfsError as error:
            problem = f"page_pinner: {error}"
        if problem:
            pytest.fail(problem, pytrace=False)
