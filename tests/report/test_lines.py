"""Text on a terminal and the SVG picture."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from pinnerfs.report.lines import plain
from pinnerfs.report.picture import svg
from pinnerfs.report.terminal import show
from pinnerfs.report.text import report_lines
from tests.report.made import EVIL, report, site

LINES = report_lines(report(site(), site("0badcafe", 1)), stacks=True)
HOSTILE = report_lines(report(site(owner=EVIL, site=EVIL, stack=(EVIL,)), headline=EVIL), stacks=True)


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(lines: object, out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what is printed to a standard output."""
    monkeypatch.setattr(sys, "stdout", out)
    show(lines)  # type: ignore[arg-type]
    return out.getvalue()


def test_a_pipe_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal there are no colors."""
    assert shown(LINES, io.StringIO(), monkeypatch) == plain(LINES)


def test_a_terminal_gets_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, rich adds colors, and the text is the same also where the terminal is narrow."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    text = shown(LINES, Terminal(), monkeypatch)
    assert "\x1b[1;31mv4l2 is to blame\x1b[0m\n" in text
    assert plain_of(text) == plain(LINES)


def test_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rich a terminal gets plain text."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert shown(LINES, Terminal(), monkeypatch) == plain(LINES)


def test_a_hostile_dump_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape sequence of a dump reaches the terminal, and no markup of rich is read."""
    monkeypatch.setenv("TERM", "xterm-256color")
    text = shown(HOSTILE, Terminal(), monkeypatch)
    assert plain_of(text) == plain(HOSTILE)
    assert all(char == "\n" or char.isprintable() for char in plain_of(text))


def plain_of(text: str) -> str:
    """Return text without rich's own escape sequences."""
    return "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n"))


def test_the_picture() -> None:
    """The picture has the same text, is well-formed, refers to nothing outside, and is reproducible."""
    picture = svg(LINES)
    assert picture == svg(LINES)
    root = ElementTree.fromstring(picture)
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text.rstrip() for text in texts] == [line for line in plain(LINES).splitlines() if line]
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "") and "url(" not in picture


def test_a_hostile_picture() -> None:
    """Markup in a dump is text in the picture."""
    root = ElementTree.fromstring(svg(HOSTILE))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "style", "rect", "text", "tspan"}
