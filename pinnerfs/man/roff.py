"""The language of man pages: escapes, and requests that several pages share. All text is ASCII."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["bold", "escaped", "example", "filled", "heading", "italic", "tagged", "title"]

NOTHING = "\\&\n"  # a line without text
SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def escaped(text: str) -> str:
    """Return text that is printed as it is, within a line."""
    return "".join(SPECIAL.get(char, char) if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)


def bold(text: str) -> str:
    """Return text in bold, such as an option."""
    return f"\\fB{escaped(text)}\\fR"


def italic(text: str) -> str:
    """Return text in italics, such as the name of a value."""
    return f"\\fI{escaped(text)}\\fR"


def filled(text: str) -> str:
    """Return lines of marked text that a page can fill. None of them is a request."""
    return "".join(f"{_guarded(line.strip())}\n" for line in text.splitlines() if line.strip())


def _guarded(line: str) -> str:
    return f"\\&{line}" if line[:1] in (".", "'") else line


def example(lines: Sequence[str]) -> str:
    """Return lines that are printed as they are, indented."""
    body = "".join(f"{_guarded(escaped(line))}\n" for line in lines)
    return f".PP\n.RS 4\n.EX\n{body}.EE\n.RE\n"


def heading(text: str, level: int = 1) -> str:
    """Return the heading of a section, or of a part of one."""
    return f".SH {_argument(text.upper())}\n" if level == 1 else f".SS {_argument(text)}\n"


def _argument(text: str) -> str:
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def tagged(tag: str, body: str) -> str:
    """Return a paragraph with a tag, such as an option with its description. Both are marked text."""
    return f".TP\n{filled(tag)}{filled(body) or NOTHING}"


def title(name: str, section: int, version: str, about: str) -> str:
    """Return the beginning of a page: its title without a date, so that it is reproducible, and its purpose."""
    text = re.sub(r"\.$|`", "", about)
    return (
        f'.TH {_argument(name.upper())} {section} "" {_argument(f"pinnerfs {version}")} "pinnerfs"\n'
        # No hyphens: a broken option or path cannot be copied.
        f".nh\n.ad l\n{heading('Name')}{escaped(name)} \\- {escaped(text)}\n"
    )
