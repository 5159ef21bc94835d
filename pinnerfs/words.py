"""Small grammar for messages: plurals and articles."""

from __future__ import annotations

__all__ = ["count_of", "with_article"]

# Names that are spelled out, such as "an XFS": they begin with the sound of a vowel.
_SPELLED_OUT = ("f2fs", "nfs", "ntfs", "xfs")


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 record", "2 records"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def with_article(noun: str) -> str:
    """Return a noun with "a" or "an": "a tmpfs", "an ext4", "an xfs"."""
    vowel = noun.lower().startswith(("a", "e", "i", "o", "un", *_SPELLED_OUT))
    return f"{'an' if vowel else 'a'} {noun}"
