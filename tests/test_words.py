"""Plurals for messages."""

from __future__ import annotations

from pinnerfs.words import count_of


def test_count_of() -> None:
    """Only the number 1 has the singular."""
    assert [count_of(number, "record") for number in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
    assert [count_of(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]
