"""Words of other people's files, on their way to a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["plain"]


def plain(text: str) -> str:
    r"""The text with control characters written out, as `\x1b`: a terminal shall show them, and not obey them."""
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in "\n\t" and unicodedata.category(character) == "Cc"
        else character
        for character in text
    )
