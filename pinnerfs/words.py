"""Plurals for messages."""

from __future__ import annotations

__all__ = ["count_of"]


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 record", "2 records"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
