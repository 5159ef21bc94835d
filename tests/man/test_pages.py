"""The man pages: complete, reproducible, and without warnings of man."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import click
import pytest

from pinnerfs.cli.commands import COMMANDS, commands
from pinnerfs.cli.ctl import ctl
from pinnerfs.man import pages
from pinnerfs.man.markdown import as_roff
from pinnerfs.man.roff import escaped, example
from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.expectations import Expectation
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.schema import Scenario, Task
from tests.mount.support import DEADLINE, ROOT, environment

PAGES = pages()
needs_man = pytest.mark.skipif(shutil.which("man") is None, reason="this machine has no man")


def man(text: str, directory: Path, width: int = 80) -> tuple[str, str]:
    """Return the page that man prints, and its warnings."""
    file = directory / "page.1"
    file.write_text(text, encoding="ascii")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", file],
        env=environment() | {"MANWIDTH": str(width), "MANPAGER": "cat", "PAGER": "cat", "MANOPT": ""},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return re.sub(r"\x1b\[[0-9]*m|.\x08", "", done.stdout), done.stderr


def test_a_page_for_everything() -> None:
    """Each command has a page; so have the program, the helper of mount(8) and the format of scenarios."""
    named = {f"man1/pinnerfs-{name}.1" for name in COMMANDS}
    assert {*PAGES} == {*named, "man1/pinnerfs.1", "man5/pinnerfs-scenario.5", "man8/mount.fuse.pinnerfs.8"}


@needs_man
@pytest.mark.parametrize("name", PAGES)
def test_no_warnings(name: str, tmp_path: Path) -> None:
    """man prints each page without a warning; a page has a name, a purpose and the usual sections."""
    shown, warnings = man(PAGES[name], tmp_path)
    assert warnings == ""
    page = name.partition("/")[2].rpartition(".")[0]
    assert re.search(rf"^NAME\n +{re.escape(page)} - \w", shown, re.MULTILINE)
    assert "`" not in shown.partition("EXAMPLES")[0] or "scenario" in name
    sections = ["DESCRIPTION"] if name.startswith("man5") else ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"]
    assert [section for section in sections if not re.search(f"^{section}$", shown, re.MULTILINE)] == []


@needs_man
@pytest.mark.parametrize("name", COMMANDS)
def test_all_of_the_help(name: str, tmp_path: Path) -> None:
    """A page has each option of its command, each sentence of the help, and its example."""
    context = click.Context(commands)
    command = commands.get_command(context, name)
    assert command is not None and command.help is not None
    # The width keeps paragraphs on one line.
    shown, _ = man(PAGES[f"man1/pinnerfs-{name}.1"], tmp_path, 1000)
    words = " ".join(shown.split())
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            assert re.search(rf"^ +(-\w, )?{option.opts[0]}\b", shown, re.MULTILINE), option.opts
            assert " ".join((option.help or "").replace("`", "").split()) in words
    for line in command.help.replace("\b", "").replace("`", "").replace("Example:", "").splitlines():
        assert " ".join(line.split()) in words


def test_subcommands() -> None:
    """The page of ctl has a part for each of its commands, with its options."""
    for name, command in ctl.commands.items():
        _, _, part = PAGES["man1/pinnerfs-ctl.1"].partition(f'.SS "{name}"\n')
        part = part.partition("\n.S")[0]
        assert escaped(" ".join((command.help or "").split()[:5])) in part
        assert ("\\-\\-json" in part) == (name == "stats")


def test_the_format_of_scenarios() -> None:
    """The page about scenarios explains each key."""
    keys = {key for table in (Scenario, Task, Phase, Alloc, Expectation) for key in table.__struct_encode_fields__}
    shown = {*re.findall(r"^\.TP\n\\fB(\w+)\\fR \(", PAGES["man5/pinnerfs-scenario.5"], re.MULTILINE)}
    assert keys <= shown
    # It is installed without the gallery's directory around it.
    assert "this directory" not in " ".join(PAGES["man5/pinnerfs-scenario.5"].split())


def test_reproducible() -> None:
    """The pages are ASCII, have no date, and depend on neither the terminal nor the language."""
    code = "import hashlib, pinnerfs.man as m; print(hashlib.sha256(repr(m.pages()).encode()).hexdigest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | more,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        ).stdout
        for more in (
            {"COLUMNS": "40", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"},
            {"LC_ALL": "C", "PYTHONHASHSEED": "2"},
        )
    }
    assert len(digests) == 1
    assert all(text.isascii() for text in PAGES.values())
    assert all(re.match(r'\.TH "[^"]+" [158] "" "pinnerfs [\d.]+" "pinnerfs"\n', text) for text in PAGES.values())


def test_written_to_a_directory(tmp_path: Path) -> None:
    """`python -m pinnerfs.man DIRECTORY` writes the pages as man(1) finds them."""
    subprocess.run([sys.executable, "-m", "pinnerfs.man", tmp_path], env=environment(), timeout=DEADLINE, check=True)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.[158]")}
    assert written == PAGES


@pytest.mark.parametrize(
    ("code", "arguments", "status", "error"),
    [
        ("", [], 2, "Error: wanted one directory: python3 -m pinnerfs.man DIRECTORY\n"),
        ("", ["/dev/null"], 1, "Error: cannot write /dev/null/man1: Not a directory\n"),
        (
            "sys.modules['markdown_it'] = None; ",
            ["pages"],
            1,
            "Error: man pages need the Python package markdown-it-py: pip install markdown-it-py\n",
        ),
    ],
)
def test_pages_that_cannot_be_written(tmp_path: Path, code: str, arguments: list[str], status: int, error: str) -> None:
    """An error is one line, and no traceback."""
    script = f"import sys; {code}import runpy; runpy.run_module('pinnerfs.man', run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env=environment(),
        timeout=DEADLINE,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, done.stdout) == (status, error, "")


def test_installed() -> None:
    """An installed pinnerfs has the pages in share/man."""
    try:
        installed = files("pinnerfs")
    except PackageNotFoundError:
        installed = None
    if installed is None:
        pytest.skip("pinnerfs is not installed by pip")
    paths = {file.as_posix().partition("share/man/")[2] for file in installed}
    assert {*PAGES} <= paths


@needs_man
def test_text_that_looks_like_requests(tmp_path: Path) -> None:
    """Backslashes, dots, quotes and dashes are printed as they are."""
    lines = [".SH not a heading", "'quoted' \\fBbold\\fR", '--option -x ~/^ `a` "b" µs']
    shown, warnings = man('.TH X 1 "" "" ""\n.SH NAME\nx \\- y\n.SH TEXT\n' + example(lines), tmp_path)
    assert warnings == ""
    assert [line.strip() for line in shown.partition("TEXT\n")[2].splitlines()[:3]] == lines


@needs_man
def test_markdown(tmp_path: Path) -> None:
    """Lists, tables, code and links of a documentation page become paragraphs."""
    text = """# Title

## Keys

| key | type | default | meaning |
|---|---|---|---|
| `at` | time | required | when, see [below](#b) |

| unit | example | note |
|---|---|---|
| time | `"1s"` | a *long* time |

- one
- two:

  ```sh
  .run -x
  ```
"""
    shown, warnings = man('.TH X 1 "" "" ""\n.SH NAME\nx \\- y\n' + as_roff(text), tmp_path)
    assert warnings == ""
    words = " ".join(shown.split())
    assert "KEYS at (time; required) when, see below" in words
    assert 'time example: "1s"; note: a long time' in words
    assert "• one • two: .run -x" in words
