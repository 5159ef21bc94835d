"""Plurals and articles."""

from __future__ import annotations

import pytest

from pinnerfs.words import count_of, with_article


def test_count_of() -> None:
    """Only 1 goes with the singular."""
    assert [count_of(number, "record") for number in (0, 1, 2)] == ["0 records", "1 record", "2 records"]
    assert [count_of(number, "entry", "entries") for number in (1, 3)] == ["1 entry", "3 entries"]


@pytest.mark.parametrize("noun", ["a tmpfs", "an ext4", "an overlay", "an xfs", "an nfs4", "a fuse.sshfs", "a udf"])
def test_with_article(noun: str) -> None:
    """The article goes with the sound, also of names that are spelled out."""
    assert with_article(noun.split()[1]) == noun
