"""The kinds of files: a text, a number, a command."""

from __future__ import annotations

import errno

from pinnerfs.debugfs.attributes import command_file, number_file, text_file
from tests.mount.support import outcome


def test_a_text_is_sampled_at_open() -> None:
    """Reads of any size continue in the text as it was at open, then return b""; each open samples again."""
    samples = iter(["first\n", "second\n"])
    file = text_file("text", lambda: next(samples))
    assert file.mode == 0o444
    opened = file.open()
    other = file.open()
    assert [opened.read(4), opened.read(100), opened.read(100)] == [b"firs", b"t\n", b""]
    assert other.read(100) == b"second\n"
    assert text_file("secret", str, 0o400).mode == 0o400


def test_a_text_has_no_write() -> None:
    """A write is EINVAL, and the text stays."""
    opened = text_file("text", lambda: "x\n").open()
    assert outcome(lambda: opened.write(b"1")) == -errno.EINVAL
    assert opened.read(10) == b"x\n"


def test_a_number_is_sampled_at_the_first_read() -> None:
    """Reads continue in the text of the first one, although the number changes meanwhile."""
    values = [300_000]
    file = number_file("number", lambda: values[-1], values.append)
    opened, other = file.open(), file.open()
    assert opened.read(3) == b"300"
    other.write(b"0x10\n")
    assert (opened.read(100), opened.read(100), other.read(100)) == (b"000\n", b"", b"16\n")
    assert values == [300_000, 16]


def test_a_refused_number_puts_nothing() -> None:
    """A write that is no number is EINVAL, one over 64 bits ERANGE; the number stays."""
    values = [5]
    opened = number_file("number", lambda: values[-1], values.append).open()
    assert outcome(lambda: opened.write(b"-1")) == -errno.EINVAL
    assert outcome(lambda: opened.write(b"18446744073709551616")) == -errno.ERANGE
    assert values == [5]
    opened.write(b"18446744073709551615")
    assert values == [5, 2**64 - 1]


def test_a_number_without_get_or_put() -> None:
    """Its mode lacks the permission, and root, who can open it, gets EACCES from the call."""
    values: list[int] = []
    read_only, write_only = number_file("count", lambda: 7), number_file("alloc", put=values.append)
    both = number_file("both", lambda: 7, values.append)
    assert (read_only.mode, write_only.mode, both.mode) == (0o444, 0o200, 0o644)
    assert outcome(lambda: read_only.open().write(b"1")) == -errno.EACCES
    assert read_only.open().read(100) == b"7\n"
    assert outcome(lambda: write_only.open().read(100)) == -errno.EACCES
    write_only.open().write(b"8")
    assert values == [8]


def test_a_command_gets_each_write() -> None:
    """Each write is run whole, an OSError is the writer's, and a read is EINVAL."""
    taken: list[bytes] = []

    def run(data: bytes) -> None:
        if not data:
            raise OSError(errno.EPERM, "an empty command")
        taken.append(data)

    file = command_file("do", run)
    assert file.mode == 0o200
    opened = file.open()
    opened.write(b"a b\n")
    opened.write(b"\xff")
    assert outcome(lambda: opened.write(b"")) == -errno.EPERM
    assert taken == [b"a b\n", b"\xff"]
    assert outcome(lambda: opened.read(10)) == -errno.EINVAL
