"""Finding and reading scenarios: those that travel with pinnerfs by name, and anyone's own by path."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from itertools import product
from pathlib import Path

import msgspec

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.scenario.limits import LIMITS, Limits, check_limits
from pinnerfs.scenario.schema import CHOICES, TABLE_LISTS, Scenario, Stack

__all__ = ["gallery", "load", "parse"]

BLOCK = 1 << 16  # bytes read at once

# tomllib takes time and memory with the square of a key's parts. None of ours has more than three.
_KEY_PART = r"""(?:(?<![\w-])[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_ENDLESS_KEY = re.compile(rf"(?:{_KEY_PART}){{32}}")


def _folder() -> Path:
    """In an installed pinnerfs the scenarios lie inside the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "scenarios"
    return inside if inside.is_dir() else package.parent / "scenarios"


def gallery() -> dict[str, Path]:
    """The scenarios that travel with pinnerfs, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.toml"))}


def load(scenario: str | os.PathLike[str], limits: Limits = LIMITS) -> Scenario:
    """A scenario of the gallery by its name, or of a file by its path (with a `/` in it, or ending in .toml).

    PinnerfsError says what is wrong with it, and where; or that it takes more than the limits let it.
    """
    text = os.fspath(scenario)
    if isinstance(scenario, str) and "/" not in text and not text.endswith(".toml"):
        known = gallery()
        if text not in known:
            wanted = f"wanted one of {', '.join(known)}, or a path to a .toml file"
            raise _refused(f"no scenario {text!r} in the gallery: {wanted}")
        path = known[text]
    else:
        path = Path(text)
    try:
        source = _read(path, limits.file)
    except (OSError, ValueError) as error:
        raise _refused(f"cannot read scenario {text!r}: {getattr(error, 'strerror', error)}") from None
    return parse(source, text, limits)


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file, be it whose it may: what is looked at is what is read, and nothing is waited for.

    ValueError where there are more of them, or it is no such file.
    """
    # Opening a device may do something, so at first nothing is opened but the name.
    found = os.open(path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise ValueError("it is not a regular file")
        # Some files of /proc are regular ones that keep a reader waiting, and tell no size.
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(found)
    with open(descriptor, "rb", buffering=0) as file:
        parts, length = [], 0
        # In whole blocks: there are files of /proc that refuse anything else.
        while length <= most and (part := os.read(file.fileno(), BLOCK)):
            parts.append(part)
            length += len(part)
    if length > most:
        raise ValueError(f"it is larger than {most} bytes, which --limit file=SIZE raises")
    return b"".join(parts)


def _refused(message: str) -> PinnerfsError:
    return PinnerfsError(in_a_line(message), BAD_INPUT)


def parse(source: str | bytes, where: str = "the scenario", limits: Limits = LIMITS) -> Scenario:
    """A scenario from the text of a file. PinnerfsError says what is wrong with it, beginning with `where`."""
    tables: dict[str, object] = {}
    try:
        if isinstance(source, bytes):
            source = source.decode()
        tables = _toml(source)
        scenario = msgspec.convert(tables, Scenario)
    except UnicodeDecodeError as error:
        raise _refused(f"{where}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except msgspec.ValidationError as error:
        raise _refused(f"{where}: {_plain(_naming_the_stack(str(error), tables))}") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is an integer of thousands of digits
        raise _refused(f"{where}: not TOML: {error}") from None
    except RecursionError:
        raise _refused(f"{where}: not a scenario: its brackets are nested too deeply") from None
    try:
        check_limits(scenario, limits)
    except ValueError as error:
        raise _refused(f"{where}: {error}") from None
    return scenario


def _toml(source: str) -> dict[str, object]:
    if endless := _ENDLESS_KEY.search(source):
        line = source.count("\n", 0, endless.start()) + 1
        raise ValueError(f"a key of 32 parts and more (at line {line})")
    return tomllib.loads(source)


def _naming_the_stack(message: str, tables: dict[str, object]) -> str:
    """The message with the stack's name in its path, where msgspec has `$.stack[...]`."""
    if "`$.stack[...]" in message:
        for name, stack in msgspec.convert(tables["stack"], dict[str, object]).items():
            try:
                msgspec.convert(stack, Stack)
            except msgspec.ValidationError:
                return message.replace("`$.stack[...]", f"`$.stack[{name!r}]")
    return message


def _plain(message: str) -> str:
    """msgspec's words with the terms of TOML in place of its own; it lists a key's choices, which msgspec does not."""
    message = re.sub(r"^Object ", "", message)
    for before, behind in product("` ", "` "):
        message = message.replace(f"{before}object{behind}", f"{before}table{behind}")
    # The commonest slip: [task] makes one table, [[task]] a list of them.
    single = re.fullmatch(r"Expected `array`, got `table` - at `\$\.(?P<path>.*)`", message)
    if single and (name := re.sub(r"\[\d+\]", "", single["path"])) in TABLE_LISTS:
        return f"{message}: write [[{name}]] instead of [{name}]"
    choice = re.fullmatch(r"Invalid (?:enum )?value (?P<came>.*) - at `(?P<path>.*\.(?P<key>\w+))`", message, re.DOTALL)
    if choice and choice["key"] in CHOICES:
        wanted = ", ".join(map(repr, CHOICES[choice["key"]]))
        return f"{choice['key']} = {choice['came']} must be one of {wanted} - at `{choice['path']}`"
    return message
