"""Lines of text with styles, from which plain text, a terminal's colors and a picture are made."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import NamedTuple

from pinnerfs.errors import in_a_line

__all__ = ["WIDTH", "Line", "Span", "clean", "heading", "paragraph", "plain", "text"]

WIDTH = 80  # columns of the pictures and of running text


class Span(NamedTuple):
    """A piece of a line in one style: "" or one of `title`, `bad`, `good`, `dim` and `bar`."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def clean(untrusted: str) -> str:
    """Return text from a dump, fit for a terminal: control characters and undecodable bytes become escapes."""
    return untrusted if untrusted.isprintable() else in_a_line(untrusted)


def text(words: str, style: str = "") -> Line:
    """Return a line in one style."""
    return (Span(words, style),)


def heading(words: str) -> list[Line]:
    """Return an empty line and a title."""
    return [(), text(words, "title")]


def paragraph(words: str, indent: str = "") -> list[Line]:
    """Return text as lines of at most WIDTH columns."""
    return [text(line) for line in wrap(words, WIDTH, initial_indent=indent, subsequent_indent=indent)]


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without styles. No control character of a dump is left in it."""
    return "".join(clean("".join(span.text for span in line)).rstrip() + "\n" for line in lines)
