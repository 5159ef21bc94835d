"""The stack depot."""

from __future__ import annotations

import pytest

from pinnerfs.kernel.stacks import MAX_FRAMES, StackDepot


def test_a_chain_comes_back() -> None:
    """What was saved is fetched by its handle, innermost frame first."""
    depot = StackDepot()
    handle = depot.save(["inner", "outer"])
    assert depot.fetch(handle) == ("inner", "outer")


def test_one_chain_has_one_handle() -> None:
    """The same chain saved again gets the same handle, another chain another."""
    depot = StackDepot()
    handle = depot.save(["a", "b"])
    assert depot.save(("a", "b")) == handle
    assert depot.save(["b", "a"]) != handle


def test_handle_0_is_no_stack() -> None:
    """No saved chain gets handle 0, which stands for none."""
    depot = StackDepot()
    assert depot.save([]) != 0
    assert depot.save(["a"]) != 0
    assert depot.fetch(0) == ()


def test_at_most_16_frames() -> None:
    """Over 16 frames the outermost are cut, and chains that differ there alone are one."""
    depot = StackDepot()
    frames = [f"f{number}" for number in range(20)]
    handle = depot.save(frames)
    assert depot.fetch(handle) == tuple(frames[:16])
    assert depot.save([*frames[:16], "other"]) == handle
    assert MAX_FRAMES == 16


def test_an_unknown_handle_is_an_error() -> None:
    """A handle that nobody was given raises IndexError."""
    with pytest.raises(IndexError):
        StackDepot().fetch(1)
