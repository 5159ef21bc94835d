"""A page of the documentation, which is Markdown, as the text of a man page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pinnerfs.man.roff import bold, escaped, example, filled, heading, tagged

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["as_roff"]


def as_roff(text: str) -> str:
    """Return Markdown as the sections of a man page. The title, a heading of level 1, is left out."""
    from markdown_it import MarkdownIt  # only a build of the wheel needs it

    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return "".join(_blocks(_Tokens(tokens), ""))


class _Tokens:
    """Tokens, and how many of them are read."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def next(self) -> Token | None:
        if self._at >= len(self._tokens):
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def inline(self) -> str:
        """Return the text of the next token, and skip the end of its block."""
        token = self.next()
        assert token is not None
        self.next()
        return _inline(token.children or [])


def _blocks(tokens: _Tokens, end: str) -> Iterator[str]:
    """Yield the blocks up to the token `end`, which is read, too."""
    while (token := tokens.next()) is not None and token.type != end:
        if token.type == "heading_open":
            level, words = int(token.tag[1:]) - 1, tokens.next()
            tokens.next()
            if level and words is not None:
                yield heading(words.content.replace("`", ""), level)
        elif token.type == "paragraph_open":
            yield f".PP\n{filled(tokens.inline())}"
        elif token.type in ("fence", "code_block"):
            yield example(token.content.splitlines())
        elif token.type == "bullet_list_open":
            yield from _items(tokens)
        elif token.type == "table_open":
            yield from _table(tokens)


def _items(tokens: _Tokens) -> Iterator[str]:
    while (token := tokens.next()) is not None and token.type != "bullet_list_close":
        if token.type == "list_item_open":
            first, *others = _blocks(tokens, "list_item_close")
            yield f".IP \\[u2022] 2\n{first.removeprefix('.PP' + chr(10))}"
            if others:
                yield f".RS 2\n{''.join(others)}.RE\n"


def _table(tokens: _Tokens) -> Iterator[str]:
    """Yield a paragraph for each row: its first cell is the tag, and the others follow behind their titles.

    The keys of a scenario have their type and default beside the tag, as options have in other man pages.
    """
    rows: list[list[str]] = []
    while (token := tokens.next()) is not None and token.type != "table_close":
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(tokens.inline())
    titles, *body = rows
    for first, *others in body:
        if titles[0] == "key":
            kind, default, meaning = others
            usual = default if default == "required" else f"default {default}"
            yield tagged(f"{first} ({kind}; {usual})", meaning)
        else:
            cells = [
                f"{title}: {cell}" if title else cell for title, cell in zip(titles[1:], others, strict=True) if cell
            ]
            yield tagged(first, cells[0].partition(": ")[2] if len(cells) == 1 else "; ".join(cells))


def _inline(tokens: Sequence[Token]) -> str:
    """Return marked text. A link is its text alone: most of them lead to other pages of the repository."""
    parts: list[str] = []
    for token in tokens:
        if token.type == "text":
            parts.append(escaped(token.content))
        elif token.type == "code_inline":
            parts.append(bold(token.content))
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type in ("em_open", "strong_open"):
            parts.append("\\fI" if token.type == "em_open" else "\\fB")
        elif token.type in ("em_close", "strong_close"):
            parts.append("\\fR")
    return "".join(parts)
