"""All man pages: one for each command of the list of commands, one for mount(8)'s helper, one for scenarios."""

from __future__ import annotations

import re
from pathlib import Path

import click

import pinnerfs
from pinnerfs.cli.commands import COMMANDS, commands
from pinnerfs.cli.mount_options import helper
from pinnerfs.man.commands import command_page, context_of
from pinnerfs.man.markdown import as_roff
from pinnerfs.man.roff import heading, title
from pinnerfs.scenario.gallery import gallery

__all__ = ["pages"]

HELPER = "mount.fuse.pinnerfs"


def pages() -> dict[str, str]:
    """Return the text of each page by its path below share/man, such as man1/pinnerfs-run.1."""
    version = pinnerfs.__version__
    program = context_of(commands, "pinnerfs")
    found = {
        "man1/pinnerfs.1": command_page(
            program,
            "pinnerfs",
            1,
            version,
            [("pinnerfs-scenario", 5), (HELPER, 8)],
            {f"pinnerfs-{name}": about for name, about in COMMANDS.items()},
            _exit_statuses(),
        ),
        f"man8/{HELPER}.8": command_page(
            context_of(helper, HELPER), HELPER, 8, version, [("pinnerfs-mount", 1), ("mount", 8), ("fstab", 5)]
        ),
        "man5/pinnerfs-scenario.5": _scenario_page(version),
    }
    for name in COMMANDS:
        command = commands.get_command(program, name)
        assert command is not None
        see_also = [("pinnerfs", 1), ("pinnerfs-scenario", 5)]
        page = f"pinnerfs-{name}"
        found[f"man1/{page}.1"] = command_page(context_of(command, name, program), page, 1, version, see_also)
    return found


def _exit_statuses() -> str:
    """Return the section about exit statuses, which the page of the command line has."""
    text = Path(pinnerfs.__file__).with_name("cli").joinpath("README.md").read_text(encoding="utf-8")
    match = re.search(r"^\| exit status \|.*?\n\n.*?\n\n", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise click.ClickException("cli/README.md has no table of exit statuses with a paragraph behind it")
    return heading("Exit status") + as_roff(match[0])


def _scenario_page(version: str) -> str:
    text = (next(iter(gallery().values())).parent / "README.md").read_text(encoding="utf-8")
    return title("pinnerfs-scenario", 5, version, "the format of a scenario") + heading("Description") + as_roff(text)
