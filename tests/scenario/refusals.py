"""A task to put mistakes into, and the message that comes of them."""

from __future__ import annotations

import re

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse

__all__ = ["PHASE", "refusal"]

PHASE = 'for = "1s", every = "10ms", hold = "1ms"'


def refusal(text: str) -> str:
    """Return the message with which a scenario is refused, without the file and the line."""
    with pytest.raises(PinnerfsError) as caught:
        parse(text)
    return re.sub(r"^scenario(:[0-9]+)?: ", "", str(caught.value))
