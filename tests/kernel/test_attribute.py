"""The text of a simple attribute, as the kernel reads it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed, to_signed_32


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"300000", 300000),
        (b"300000\n", 300000),
        (b"0", 0),
        (b"00", 0),
        (b"+5", 5),
        (b"+0x10\n", 16),
        (b"0x1F", 31),
        (b"0X1f", 31),
        (b"017", 15),
        (b"+017", 15),
        (b"18446744073709551615", (1 << 64) - 1),
        (b"0xffffffffffffffff", (1 << 64) - 1),
        (b"01777777777777777777777", (1 << 64) - 1),
        (b"5\0junk", 5),
        (b"5\n\0junk", 5),
        # The 24th byte and all later ones are ignored.
        (b"00000000000000000000012z", 0o12),
        (b"0000000000000000000012\nzzzz", 0o12),
    ],
)
def test_accepted(text: bytes, value: int) -> None:
    """An optional +, then 0x hex, a leading 0 octal, else decimal, then at most one newline."""
    assert parse_simple_attribute(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"\0",
        b"\x005",
        b"abc",
        b"-1",
        b"+-1",
        b"++1",
        b"+",
        b" 5",
        b"5 ",
        b"5\n\n",
        b"5\n ",
        b"5\r\n",
        b"5.0",
        b"1e3",
        b"1_000",
        b"0x",
        b"0xg",
        b"+0x\n",
        b"08",
        b"09",
        b"0o17",
        b"0b1",
        b"5us",
        "٣".encode(),
        b"\xff",
        # Cut after 23 bytes, which still leaves a byte after the newline.
        b"000000000000000000012\nzz",
    ],
)
def test_invalid(text: bytes) -> None:
    """Anything else, a negative number or an empty string is EINVAL."""
    with pytest.raises(OSError) as caught:
        parse_simple_attribute(text)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "text",
    [
        b"18446744073709551616",
        b"18446744073709551616\n",
        b"99999999999999999999",
        b"+99999999999999999999",
        b"0x10000000000000000",
        b"02000000000000000000000",
        # The kernel checks the range before the rest of the text.
        b"99999999999999999999x",
        b"0x10000000000000000 us",
        # The first 23 digits are already too large.
        b"9" * 100,
    ],
)
def test_out_of_range(text: bytes) -> None:
    """A number over 64 bits is ERANGE, whatever follows it."""
    with pytest.raises(OSError) as caught:
        parse_simple_attribute(text)
    assert caught.value.errno == errno.ERANGE


@pytest.mark.parametrize(
    ("unsigned", "signed"),
    [
        (0, 0),
        (300_000, 300_000),
        ((1 << 63) - 1, (1 << 63) - 1),
        (1 << 63, -(1 << 63)),
        ((1 << 64) - 1, -1),
    ],
)
def test_kept_as_signed(unsigned: int, signed: int) -> None:
    """The value is kept as a signed 64-bit number."""
    assert to_signed(unsigned) == signed


@given(st.binary(max_size=40) | st.text(alphabet="0123456789xXabcf+-\n \0", max_size=30).map(str.encode))
def test_any_bytes_are_a_number_or_refused(data: bytes) -> None:
    """Any bytes are a 64-bit number, EINVAL or ERANGE. Bytes from the 24th on make no difference."""
    answers: list[int | None] = []
    for text in (data, data[:23], data[:23] + b"9"):
        try:
            answers.append(parse_simple_attribute(text))
            assert 0 <= (answers[-1] or 0) < 1 << 64
        except OSError as error:
            assert error.errno in (errno.EINVAL, errno.ERANGE)
            answers.append(None)
    assert answers[0] == answers[1]
    assert len(data) < 23 or answers[1] == answers[2]


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (5, 5),
        ((1 << 31) - 1, (1 << 31) - 1),
        (1 << 31, -(1 << 31)),
        ((1 << 64) - 1, -1),
        (1 << 32, 0),
        ((1 << 32) + 1, 1),
    ],
)
def test_cut_to_an_int(number: int, kept: int) -> None:
    """The lowest 32 bits are kept as a signed number."""
    assert to_signed_32(number) == kept
