"""Every code block on every page runs, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import pinnerfs
from pinnerfs.kernel.page_pinner.records import record_text
from tests.mount.support import why_no_mount
from tests.pages import (
    DEADLINE,
    LANGUAGES,
    PAGES,
    ROOT,
    Block,
    Place,
    blocks,
    exists,
    matches,
    place,
    run_in,
    run_python,
    run_shell,
)


def _chosen(page: str, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def _shell(page: str, *, as_root: bool = False) -> list[Block]:
    return [block for block in _chosen(page, "sh") if block.as_root == as_root]


def _tests_in(page: str) -> list[Block]:
    return [block for block in _chosen(page, "python") if "def test_" in block.text]


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Place]:
    """Create an empty directory, and skip the test if this machine cannot mount."""
    if (reason := why_no_mount(tmp_path)) is not None:
        if os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
            pytest.fail(f"this machine cannot mount: {reason}")
        pytest.skip(f"this machine cannot mount: {reason}")
    with place(tmp_path) as made:
        yield made


def _compare(chosen: list[Block], printed: list[str]) -> None:
    for block, text in zip(chosen, printed, strict=True):
        if block.output is not None:
            assert matches(block.output, text), f"under {block.first_line!r}: {text}"


@pytest.mark.mount
@pytest.mark.parametrize("page", [page for page in PAGES if _shell(page)])
def test_the_shell_blocks_run_from_top_to_bottom(page: str, where: Place) -> None:
    """Pasted into one shell in an empty directory, a page's commands succeed and print what the page shows."""
    _compare(_shell(page), run_shell(_shell(page), where))


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) is for root")
@pytest.mark.parametrize("page", [page for page in PAGES if _shell(page, as_root=True)])
def test_the_blocks_for_root_run(page: str, where: Place) -> None:
    """The commands that need root succeed, and print what the page shows."""
    chosen = _shell(page, as_root=True)
    _compare(chosen, run_shell(chosen, where, as_root=True))


@pytest.mark.mount
@pytest.mark.parametrize("page", [page for page in PAGES if len(_chosen(page, "python")) > len(_tests_in(page))])
def test_the_python_blocks_run(page: str, where: Place) -> None:
    """A page's Python examples run and print what the page shows."""
    for block in _chosen(page, "python"):
        if block not in _tests_in(page):
            _compare([block], [run_python(block, where)])


@pytest.mark.mount
@pytest.mark.parametrize("page", [page for page in PAGES if _tests_in(page)])
def test_the_tests_for_pytest_pass(page: str, where: Place) -> None:
    """A page's examples for pytest pass."""
    (where.directory / "test_blocks.py").write_text("\n".join(block.text for block in _tests_in(page)))
    installed = "pinnerfs" in (point.name for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "pinnerfs.pytest_plugin"]
    words = ["-q", "-p", "no:cacheprovider", *plugin, "test_blocks.py"]
    done = run_in(where, [sys.executable, "-m", "pytest", *words])
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)


@pytest.mark.mount
@pytest.mark.parametrize("page", [page for page in PAGES if any("unittest" in block.text for block in _tests_in(page))])
def test_the_tests_for_unittest_pass(page: str, where: Place) -> None:
    """A page's examples for unittest pass without pytest."""
    chosen = [block.text for block in _tests_in(page) if "unittest" in block.text]
    (where.directory / "test_blocks.py").write_text("\n".join(chosen))
    done = run_in(where, [sys.executable, "-m", "unittest", "test_blocks"])
    assert done.returncode == 0 and re.search(r"^Ran [1-9]", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.mount
def test_the_demo_runs(where: Place) -> None:
    """`make demo`, the first command on README, works in the environment that `make` built."""
    assert "$ make demo" in _chosen("README.md", "console")[0].text
    if not (ROOT / ".venv" / ".stamp").exists():
        pytest.skip("no .venv made by make in this checkout")
    options: dict[str, Any] = {"cwd": ROOT, "env": where.environment, "capture_output": True, "text": True}
    # pip may warn when it brings the environment up to date.
    subprocess.run(["make", "-s", ".venv/.stamp"], timeout=DEADLINE, check=True, **options)
    done = subprocess.run(["make", "-s", "demo"], timeout=DEADLINE, check=False, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rmdir" in done.stdout.splitlines()[-1]


def test_the_transcripts_name_what_exists() -> None:
    """The targets of make and the paths in a transcript exist."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for block in _chosen(page, "console"):
            for line in re.findall(r"^\$ ([^#\n]+)", block.text, re.MULTILINE):
                program, *arguments = line.split()
                if program == "make":
                    assert set(arguments) <= targets, f"{page}: {line}"
                for path in re.findall(r"(?:^| )((?:tests|scenarios|pinnerfs)/[^ :]*)", line):
                    assert exists(path), f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_each_block_says_what_it_is(page: str) -> None:
    """A block that does not run is marked as text or as a transcript."""
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_readme_shows_a_real_record() -> None:
    """The record that README explains is one of camera-stall's."""
    simulation = pinnerfs.Simulation(pinnerfs.load("camera-stall"))
    simulation.advance("60s")
    shown = next(block.text for block in _chosen("README.md", "text") if "Page pinned" in block.text)
    assert any(matches(f"{shown}\n", record_text(record)) for record in simulation.records())


def test_links_lead_to_files() -> None:
    """Every relative link on a page has an existing file and heading as its target."""
    for page, path in PAGES.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if link.startswith(("https://", "http://")):
                continue
            name, _, heading = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page), name)) if name else page
            assert exists(target), f"{page}: {link}"
            if heading:
                assert heading in _headings(PAGES[target].read_text()), f"{page}: {link}"


def test_every_page_is_linked() -> None:
    """README links to each page, directly or through other pages."""
    seen, todo = set(), ["README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        for link in re.findall(r"\]\(([^)#\s]+)", PAGES[page].read_text()):
            target = os.path.normpath(os.path.join(os.path.dirname(page), link))
            if target in PAGES and target not in seen:
                todo.append(target)
    assert {page for page in PAGES if "TEMPLATE" not in page} <= seen


def test_packages_import_only_what_stands_above() -> None:
    """Each package and module of pinnerfs is in the architecture page's table, and imports only rows above its own."""
    table = re.findall(r"^\| \[?`(\w+)`", PAGES["pinnerfs/README.md"].read_text(), re.MULTILINE)
    package = PAGES["pinnerfs/README.md"].parent
    modules = {path.relative_to(package).with_suffix("").parts: path for path in package.rglob("*.py")}
    assert {parts[0] for parts in modules} - {"__init__", "__main__"} == set(table)
    for parts, path in modules.items():
        imported = set(re.findall(r"^\s*(?:from|import) pinnerfs\.(\w+)", path.read_text(), re.MULTILINE))
        if parts[0] in table:
            assert imported <= {*table[: table.index(parts[0]) + 1]}, path


def _headings(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
