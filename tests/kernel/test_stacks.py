"""The stack depot."""

from __future__ import annotations

import pytest

from pinnerfs.kernel.stacks import MAX_FRAMES, StackDepot


def test_a_chain_comes_back() -> None:
    """A saved chain is fetched by its handle, innermost frame first."""
    depot = StackDepot()
    handle = depot.save(["inner", "outer"])
    assert depot.fetch(handle) == ("inner", "outer")


def test_one_chain_has_one_handle() -> None:
    """The same chain gets the same handle again, and another chain another one."""
    depot = StackDepot()
    handle = depot.save(["a", "b"])
    assert depot.save(("a", "b")) == handle
    assert depot.save(["b", "a"]) != handle


def test_each_owner_has_its_own_handle() -> None:
    """The same chain of two owners has two handles, and handles() lists those of an owner."""
    depot = StackDepot()
    first, second = depot.save(["a"], "first"), depot.save(["a"], "second")
    assert depot.fetch(first) == depot.fetch(second) == ("a",)
    assert depot.save(["a"], "first") == first != second
    third = depot.save(["b"], "first")
    assert (depot.handles("first"), depot.handles("second"), depot.handles("other")) == ([first, third], [second], [])


def test_handle_0_is_no_stack() -> None:
    """No saved chain gets handle 0, which means no chain."""
    depot = StackDepot()
    assert depot.save([]) != 0
    assert depot.save(["a"]) != 0
    assert depot.fetch(0) == ()


def test_at_most_16_frames() -> None:
    """Frames after the 16th are cut. Chains that differ only there are the same."""
    depot = StackDepot()
    frames = [f"f{number}" for number in range(20)]
    handle = depot.save(frames)
    assert depot.fetch(handle) == tuple(frames[:16])
    assert depot.save([*frames[:16], "other"]) == handle
    assert MAX_FRAMES == 16


def test_an_unknown_handle_is_an_error() -> None:
    """An unknown handle raises IndexError."""
    with pytest.raises(IndexError):
        StackDepot().fetch(1)
