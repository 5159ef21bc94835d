"""JSON text of a command's data, for scripts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["FORMAT", "json_text"]

FORMAT = 1  # fields are only added; a change of a field's meaning gets a new number


def json_text(data: Mapping[str, object]) -> str:
    """Return data as JSON, with its `format` first.

    It is ASCII: no escape sequence of a file reaches a terminal, and names with undecodable bytes can be printed.
    """
    import json  # late: most calls of most commands print none

    built: dict[str, object] = msgspec.to_builtins(dict(data))
    return json.dumps({"format": FORMAT, **built}, indent=1).replace("\x7f", "\\u007f") + "\n"
