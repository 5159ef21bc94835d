"""Find scenarios: those of the gallery by name, any other by its path; and parse their text."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line, reason_of
from pinnerfs.scenario.limits import LIMITS, Limits, check_limits
from pinnerfs.scenario.messages import nearest
from pinnerfs.scenario.reading import Input, read_path, read_stdin
from pinnerfs.scenario.references import check_references
from pinnerfs.scenario.schema import Scenario, Stack
from pinnerfs.scenario.tables import TableError
from pinnerfs.scenario.toml import TomlError, parse_toml

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Source",
    "cannot_read",
    "checked",
    "gallery",
    "gallery_directory",
    "load",
    "parse",
    "read_source",
    "scenario_of",
]


def gallery() -> dict[str, Path]:
    """Return the paths of the scenarios that come with pinnerfs, by name."""
    from pathlib import Path  # takes longer than reading a scenario

    return {name: Path(path) for name, path in _gallery().items()}


def gallery_directory() -> Path:
    """Return the directory of the scenarios that come with pinnerfs."""
    from pathlib import Path

    return Path(_directory())


@functools.cache
def _directory() -> str:
    # In an installed pinnerfs it is inside the package, in a checkout beside it.
    package = os.path.dirname(os.path.dirname(__file__))
    inside = os.path.join(package, "scenarios")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "scenarios")


def _gallery() -> dict[str, str]:
    directory = _directory()
    files = sorted(file for file in os.listdir(directory) if file.endswith(".toml"))
    return {file.removesuffix(".toml"): os.path.join(directory, file) for file in files}


class Source(NamedTuple):
    """A scenario file that was read. where: how messages name it."""

    where: str
    text: str
    tables: dict[str, object]


def load(scenario: str | os.PathLike[str], limits: Limits = LIMITS, opened: Input | None = None) -> Scenario:
    """Load a scenario: of the gallery by name, of a file by path (with a `/`, or ending in .toml), "-" from stdin.

    opened: the pipe that `scenario` names, if it was opened to look at its first bytes. Raise PinnerfsError that says
    what is wrong and where, also for a scenario that exceeds the limits.
    """
    return scenario_of(read_source(scenario, limits, opened), limits)


def read_source(scenario: str | os.PathLike[str], limits: Limits = LIMITS, opened: Input | None = None) -> Source:
    """Return the tables of a scenario file, unchecked. Raise PinnerfsError if it cannot be read or is not TOML.

    opened: as in `load`.
    """
    text = os.fspath(scenario)
    named = isinstance(scenario, str) and "/" not in text and not text.endswith(".toml")
    try:
        if named and text == "-":
            return _tables(read_stdin(limits.file, opened), "stdin")
        if opened is not None:
            source = opened.read_all(limits.file)
        else:
            source = read_path(_of_gallery(text) if named else scenario, limits.file)
    except (OSError, ValueError) as error:
        raise cannot_read(text, error) from None
    return _tables(source, text)


def cannot_read(scenario: str, error: OSError | ValueError) -> PinnerfsError:
    """Return the error for a scenario that cannot be read."""
    where = "from stdin" if scenario == "-" else repr(scenario)
    return _refused(f"cannot read scenario {where}: {reason_of(error)}")


def _of_gallery(name: str) -> str:
    if not name:
        raise _refused("the scenario name is empty")
    path = os.path.join(_directory(), f"{name}.toml")
    if not os.path.isfile(path):
        known = _gallery()
        # A relative path needs its ./ so that a name always means the gallery's scenario, whatever the directory.
        files = [f"./{file}" for file in (name, f"{name}.toml") if os.path.isfile(file)]
        hint = f"; did you mean the file {files[0]!r}?" if files else nearest(name, known)
        wanted = f"wanted one of {', '.join(known)}, or a path to a .toml file"
        raise _refused(f"no scenario {name!r} in the gallery: {wanted}{hint}")
    return path


def _refused(message: str) -> PinnerfsError:
    return PinnerfsError(in_a_line(message), BAD_INPUT)


def parse(source: str | bytes, where: str = "scenario", limits: Limits = LIMITS) -> Scenario:
    """Parse the text of a scenario file. Raise PinnerfsError that says what is wrong, beginning with `where`."""
    return scenario_of(_tables(source, where), limits)


def checked(tables: dict[str, object], limits: Limits = LIMITS) -> Scenario:
    """Return the scenario of a file's tables. Raise TableError if something is wrong with them."""
    scenario = _convert(tables)
    check_references(scenario)
    check_limits(scenario, limits)
    return scenario


def _tables(source: str | bytes, where: str) -> Source:
    try:
        text = source.decode() if isinstance(source, bytes) else source
        return Source(where, text, parse_toml(text))
    except UnicodeDecodeError as error:
        _check_no_dump(error.object, where)
        raise _refused(f"{where}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except TomlError as error:
        _check_no_dump(text.encode(errors="surrogateescape"), where)
        place = where if error.line is None else f"{where}:{error.line}"
        raise _refused(f"{place}: not TOML: {error}") from None
    except RecursionError:
        raise _refused(f"{where}: not a scenario: its brackets are nested too deeply") from None


def _check_no_dump(text: bytes, where: str) -> None:
    from pinnerfs.scenario.content import is_dump  # only wrong files need it

    if is_dump(text):
        wanted = "`pinnerfs mount`, `run` and `dump` replay one"
        raise _refused(f"{where}: it is a capture of a device, not a scenario; {wanted}") from None


def scenario_of(source: Source, limits: Limits = LIMITS) -> Scenario:
    """Return the scenario of a file that was read. Raise PinnerfsError that says what is wrong and where."""
    try:
        return checked(source.tables, limits)
    except TableError as error:
        from pinnerfs.scenario.positions import describe, line_of  # only wrong files need it

        line = line_of(source.text, source.tables, error.path, error.key)
        place = "" if error.complete else describe(error.path, source.tables)
        parts = [source.where if line is None else f"{source.where}:{line}", place, str(error)]
        raise _refused(": ".join(filter(None, parts))) from None


def _convert(tables: dict[str, object]) -> Scenario:
    try:
        return msgspec.convert(tables, Scenario)
    except msgspec.ValidationError as error:
        from pinnerfs.scenario.structure import check_structure  # only wrong files need it

        check_structure(tables)
        raise _table_error(error, tables) from None


def _table_error(error: msgspec.ValidationError, tables: dict[str, object]) -> TableError:
    """Return the message of a table's own check as a TableError; msgspec writes the path behind it."""
    match = re.fullmatch(r"(?P<message>.*?)(?: - at `\$(?P<path>[^`]*)`)?", str(error), re.DOTALL)
    assert match is not None
    message, path = match["message"], list[str | int]()
    for key, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", match["path"] or ""):
        path.append(key or (int(index) if index != "..." else _refused_stack(tables)))
    # A message that is about one key begins with it.
    first = re.match(r"\w+", message)
    return TableError(message, tuple(path), first[0] if first else None)


def _refused_stack(tables: dict[str, object]) -> str:
    """Return the name of the first stack that is refused: msgspec writes `...` for the keys of a dict."""
    stacks = tables["stack"]
    assert isinstance(stacks, dict)
    for name, stack in stacks.items():
        try:
            msgspec.convert(stack, Stack)
        except msgspec.ValidationError:
            return str(name)
    raise AssertionError("msgspec refused a stack, and then accepted all")
