"""The documentation pages, their code blocks, and how these blocks run.

`python -m tests.pages` runs the blocks of every page and writes their real output into the pages.

A page's `sh` blocks run in one bash, from top to bottom, in an empty directory. A `text` block right after a block
is its output, in which a line `...` matches any lines. An `sh` block after the line `<!-- root -->` runs as root.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pinnerfs
from tests.mount.support import PRIVATE_SBIN

__all__ = [
    "LANGUAGES",
    "PAGES",
    "ROOT",
    "Block",
    "Place",
    "blocks",
    "exists",
    "matches",
    "place",
    "run_in",
    "run_python",
    "run_shell",
]

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pinnerfs.__file__).parent  # in a checkout, or where it is installed
GALLERY = pinnerfs.gallery()["camera-stall"].parent
PAGES = {
    "README.md": ROOT / "README.md",
    **{
        f"pinnerfs/{path.relative_to(PACKAGE)}": path
        for path in sorted(PACKAGE.rglob("*.md"))
        if path.parent != GALLERY
    },
    **{str(path.relative_to(ROOT)): path for path in sorted(ROOT.glob(".github/**/*.md"))},
    "scenarios/README.md": GALLERY / "README.md",
}
# The kinds of blocks. `console` is a transcript of commands that need a clone, each after a `$ `.
LANGUAGES = {"sh", "python", "toml", "console", "text"}
DEADLINE = 300  # seconds for all blocks of a page, even on a busy machine
END_OF_BLOCK = "END OF BLOCK"

# /mnt, /sbin and /etc/fstab change only in a mount namespace.
AS_ROOT = f"""
set -e
mount -t tmpfs none /mnt
mkdir layer
{PRIVATE_SBIN}
cp /etc/fstab fstab
mount --bind fstab /etc/fstab
trap 'umount -l /mnt/debug 2>/dev/null || true' EXIT
sudo() {{ "$@"; }}
"""


@dataclass(frozen=True)
class Block:
    """A code block of a page, with the output that the page shows for it."""

    language: str
    text: str
    output: str | None
    output_span: tuple[int, int]
    as_root: bool

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


@dataclass(frozen=True)
class Place:
    """An empty directory, and an environment in which the commands are found."""

    directory: Path
    environment: dict[str, str]


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page in their order."""
    pattern = (
        r"(?P<root><!-- root -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$(?:\n+^```text\n(?P<output>.*?)^```$)?"
    )
    return [
        Block(match["language"], match["text"], match["output"], match.span("output"), match["root"] is not None)
        for match in re.finditer(pattern, PAGES[page].read_text(), re.DOTALL | re.MULTILINE)
    ]


def exists(path: str) -> bool:
    """Look for a path of the repository, in the checkout or where pinnerfs is installed."""
    return any((start / path).exists() for start in (ROOT, PACKAGE.parent, GALLERY.parent))


def matches(output: str, printed: str) -> bool:
    """Compare printed lines with the output that a page shows, where a line `...` stands for any lines."""
    parts = (re.escape(part) for part in re.split(r"^\.\.\.\n", output, flags=re.MULTILINE))
    return re.fullmatch(r"(?:.*\n)*".join(parts), printed) is not None


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """Make a place for a page's blocks, and unmount what a failed block left there."""
    binaries, work = directory / "bin", directory / "work"
    binaries.mkdir()
    work.mkdir()
    for name, module in ("pinnerfs", "pinnerfs.cli"), ("mount.fuse.pinnerfs", "pinnerfs.cli.mount_helper"):
        program = binaries / name
        call = f"from {module} import main; main()"
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -c "{call}" "$@"\n')
        program.chmod(0o755)
    more = {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    try:
        yield Place(work, os.environ | more)
    finally:
        for child in os.listdir(work):
            if os.path.ismount(work / child):
                subprocess.run(["fusermount", "-uz", str(work / child)], check=False, timeout=DEADLINE)


def run_shell(chosen: list[Block], where: Place, *, as_root: bool = False) -> list[str]:
    """Run shell blocks in one bash and return what each printed; AssertionError where a command fails."""
    script = f"\necho {END_OF_BLOCK}\n".join(["set -e" if not as_root else AS_ROOT, *(block.text for block in chosen)])
    namespace = ["unshare", "-m", "--propagation", "private"] if as_root else []
    return _run([*namespace, "bash", "-c", script], where).split(f"{END_OF_BLOCK}\n")[1:]


def run_python(block: Block, where: Place) -> str:
    """Run a Python block and return what it printed; AssertionError where it fails."""
    return _run([sys.executable, "-c", block.text], where)


def run_in(where: Place, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a place, without input."""
    return subprocess.run(
        command,
        cwd=where.directory,
        env=where.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def _run(command: list[str], where: Place) -> str:
    done = run_in(where, command)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    return done.stdout


def _write_outputs(page: str) -> None:
    """Replace each output on a page by the real one; an output with a line `...` must match and stays."""
    shell = [block for block in blocks(page) if block.language == "sh" and not block.as_root]
    plain = [block for block in blocks(page) if block.language == "python" and "def test_" not in block.text]
    with tempfile.TemporaryDirectory() as directory, place(Path(directory)) as where:
        printed = dict(zip(shell, run_shell(shell, where), strict=True)) if shell else {}
        printed |= {block: run_python(block, where) for block in plain}
    text = PAGES[page].read_text()
    for block in sorted(printed, key=lambda block: block.output_span, reverse=True):
        if block.output is None or matches(block.output, printed[block]):
            continue
        if re.search(r"^\.\.\.$", block.output, re.MULTILINE):
            print(f"{page}: write this output by hand, under {block.first_line!r}:\n{printed[block]}")
            continue
        start, end = block.output_span
        text = text[:start] + printed[block] + text[end:]
    PAGES[page].write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        _write_outputs(name)
