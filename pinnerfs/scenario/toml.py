"""Parse a text as TOML, and say in plain words what is wrong and on which line."""

from __future__ import annotations

import re
import tomllib

__all__ = ["TomlError", "parse_toml"]

# The time and memory that tomllib takes grow with the square of a key's parts. The format's keys have at most three.
_KEY_PART = r"""(?:(?<![\w-])[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = rf"(?:{_KEY_PART}){{4}}"

# Compiled at its first use: few processes need it.
_MESSAGE = r"(?P<what>.*?)(?: \(at line (?P<line>[0-9]+), (?P<column>column [0-9]+)\))?"


class TomlError(Exception):
    """A mistake in the syntax of a text; `line` counts from 1."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def parse_toml(text: str) -> dict[str, object]:
    """Return the tables of a text. Raise TomlError if it is not TOML."""
    if text.startswith("\ufeff"):
        raise TomlError("the file begins with a byte order mark (BOM): save it as UTF-8 without one", 1)
    for number, line in enumerate(text.split("\n"), start=1):
        # The count is much faster than the search.
        if line.count(".") >= 4 and re.search(_LONG_KEY, line):
            raise TomlError("a key has 5 parts or more", number)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Without a line, the message ends in "(at end of document)".
        match = re.fullmatch(_MESSAGE, str(error), re.DOTALL)
        assert match is not None
        what, line, column = match["what"], match["line"], match["column"]
        raise TomlError(f"{what} ({column})" if column else what, int(line) if line else None) from None
    except ValueError:
        # Python does not convert an integer of thousands of digits.
        longest = max(re.finditer("[0-9_]+", text), key=lambda digits: len(digits[0]))
        message = "an integer has thousands of digits: write one that fits into 64 bits"
        raise TomlError(message, _line_at(text, longest.start())) from None


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
