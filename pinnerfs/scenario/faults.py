"""The rules of faults: the `[[fault]]` tables of a scenario file, and the lines of `.pinnerfs/inject`.

The lines have the grammar of the block layer's error injection: `add,op=read,errno=EIO,chance=10`, or `removeall`.
Here `chance` is a percentage.
"""

# Annotations are not postponed: msgspec would compile each one again in every process.

import errno
import re

from pinnerfs.scenario.messages import nearest, shown
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Measure, Table

__all__ = ["CMA", "CMA_FILES", "FILES", "MAX_RULES", "Fault", "Rule", "parse_rules"]

OPERATIONS = ("open", "read", "write")
FINDING = ("lookup", "opendir", "open")  # the operations that find a file or a directory
FILES = ("longterm_pinner", "threshold", "alloc_contig_failed", "failure_tracking", "buffer", "buffer_size")

# Rules have the names CMA/DIRECTORY/FILE for the files of CMA areas.
CMA = "cma"
CMA_FILES = ("alloc", "free", "base_pfn", "count", "order_per_bit", "used", "maxchunk", "bitmap")

_CMA_FILE = re.compile(rf"{CMA}/[A-Za-z0-9_.@+-]+/(?:{'|'.join(CMA_FILES)})")

MAX_RULES = 256  # each request is compared with all of them
MAX_DELAY = 3600 * 10**6  # µs
MAX_COMM = 15  # bytes: TASK_COMM_LEN without its NUL
MAX_TIMES = (1 << 63) - 1
MAX_UID = (1 << 32) - 2  # -1 is no user
MAX_PID = 1 << 22  # PID_MAX_LIMIT

ERRNOS = {name: number for name, number in vars(errno).items() if name.startswith("E")}
# A server that answers ENOSYS to an open gets no more opens: fuse_file_open().
del ERRNOS["ENOSYS"]


class Rule(Table, frozen=True):
    """A rule: which requests it matches, and what happens to them. A key that is left out matches all requests.

    A rule with `removeall` removes all rules.
    """

    removeall: bool = False
    op: str | None = None
    file: str | None = None
    errno: str | None = None
    delay: Measure | None = None
    missing: bool = False
    cut: bool = False
    chance: int = 100
    times: int | None = None
    uid: int | None = None
    comm: str | None = None
    pid: int | None = None

    def __post_init__(self) -> None:
        _check_name("op", self.op, OPERATIONS)
        self._check_file()
        if self.errno == "ENOSYS":
            raise ValueError("errno = 'ENOSYS' is not possible: FUSE takes it for an unsupported operation")
        if self.errno is not None and self.errno not in ERRNOS:
            hint = nearest(self.errno, ERRNOS)
            raise ValueError(f"errno = {self.errno!r} is unknown: it must be a name such as 'EIO'{hint}")
        if self.delay is not None and not 1 <= parse_time("delay", self.delay) <= MAX_DELAY:
            raise ValueError(f"delay = {self.delay!r} must be from 1us to 1h")
        _check_range("chance", self.chance, 1, 100)
        _check_range("times", self.times, 1, MAX_TIMES)
        _check_range("uid", self.uid, 0, MAX_UID)
        _check_range("pid", self.pid, 1, MAX_PID)
        if self.comm is not None:
            self._check_comm(self.comm)
        self._check_combination()

    def _check_file(self) -> None:
        if self.file is None or not self.file.startswith(f"{CMA}/"):
            _check_name("file", self.file, FILES, f", or {CMA}/DIRECTORY/FILE")
        elif not _CMA_FILE.fullmatch(self.file):
            raise ValueError(f"file = {self.file!r} must be cma/DIRECTORY/FILE with a FILE of {', '.join(CMA_FILES)}")

    @staticmethod
    def _check_comm(comm: str) -> None:
        if not comm.isprintable() or "," in comm:
            raise ValueError(f"comm = {comm!r} must have printable characters and no comma")
        if not 1 <= len(comm.encode()) <= MAX_COMM:
            raise ValueError(f"comm = {comm!r} must have 1 to {MAX_COMM} bytes, as /proc/PID/comm has")

    def _check_combination(self) -> None:
        keys = self._keys()
        if self.removeall:
            if len(keys) > 1:
                raise ValueError(f"removeall removes all rules: leave out {keys[1]}")
            return
        if not {*keys} & {"errno", "delay", "missing", "cut"}:
            raise ValueError("the rule does nothing: it must have one of errno, delay, missing and cut")
        answers = [key for key in keys if key in ("errno", "missing", "cut")]
        if len(answers) > 1:
            raise ValueError(f"{answers[1]} does not go with {answers[0]}: a rule has one of errno, missing and cut")
        # The kernel looks up a name several times for one call, so neither a chance nor a number of calls makes sense.
        if self.missing and (other := {*keys} - {"missing", "uid", "comm", "pid"}):
            first = next(key for key in keys if key in other)
            raise ValueError(f"{first} does not go with missing, which hides the directory page_pinner from all calls")
        if self.cut and self.op not in (None, "read"):
            raise ValueError(f"op = {self.op!r} does not go with cut: only reads are cut")

    def _keys(self) -> list[str]:
        """Return the keys of the grammar that have other values than the default."""
        defaults = zip(Rule.__struct_fields__, Rule.__struct_defaults__, strict=True)
        return [key for key, default in defaults if getattr(self, key) != default]

    @property
    def text(self) -> str:
        """Return the rule as a line of `.pinnerfs/inject`."""
        if self.removeall:
            return "removeall"
        pairs = ((key, getattr(self, key)) for key in self._keys())
        return ",".join(["add", *(key if value is True else f"{key}={value}" for key, value in pairs)])

    def concerns(self, operation: str, file: str) -> bool:
        """Return whether the rule is about an operation on a file; "" is the directory page_pinner/.

        A rule without a file is about all of page_pinner/, and not about cma/.
        """
        if self.file is None and file.startswith(f"{CMA}/"):
            return False
        if self.missing:
            return operation in FINDING  # what is open already can be used
        operations = (self.op,) if self.op is not None else ("read",) if self.cut else OPERATIONS
        return operation in operations and self.file in (None, file)

    @property
    def number(self) -> int:
        """Return the number of the errno; 0 if a call does not fail."""
        return ERRNOS["ENOENT"] if self.missing else 0 if self.errno is None else ERRNOS[self.errno]

    @property
    def wait(self) -> int:
        """Return the delay in µs of wall-clock time."""
        return 0 if self.delay is None else parse_time("delay", self.delay)


class Fault(Rule, frozen=True):
    """A rule of a scenario, `[[fault]]`: it comes into force at a moment of the device's clock."""

    at: Measure = "0s"

    def __post_init__(self) -> None:
        parse_time("at", self.at)
        super().__post_init__()

    @property
    def moment(self) -> int:
        """Return when the rule comes into force, in µs."""
        return parse_time("at", self.at)


def parse_rules(text: str) -> list[Rule]:
    """Parse lines of `.pinnerfs/inject`. Raise ValueError for a bad line, with its number if there are several."""
    lines = [(number, line) for number, line in enumerate(map(str.strip, text.split("\n")), start=1) if line]
    if not lines:
        raise ValueError("the text has no rule: wanted add,errno=EIO or the like, or removeall")
    rules = []
    for number, line in lines:
        try:
            rules.append(_parse_rule(line))
        except ValueError as error:
            where = f"line {number}: " if len(lines) > 1 else ""
            raise ValueError(f"{where}{error}") from None
    return rules


def _parse_rule(line: str) -> Rule:
    command, *words = line.split(",")
    if command == "removeall" and not words:
        return Rule(removeall=True)
    if command != "add":
        raise ValueError(f"{line!r} must begin with add, or be removeall")
    given: dict[str, str | int | bool] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}: the keys are {', '.join(_KEYS)}{nearest(key, _KEYS)}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        if bool(equals) == (key in _FLAGS):
            raise ValueError(f"{word!r} must be {f'{key}, without a value' if key in _FLAGS else f'{key}=VALUE'}")
        given[key] = True if key in _FLAGS else _parse_number(key, value) if key in _NUMBERS else value
    return Rule(**given)  # type: ignore[arg-type]


_KEYS = Rule.__struct_fields__[1:]  # without removeall
_FLAGS = ("missing", "cut")
_NUMBERS = ("chance", "times", "uid", "pid")


def _parse_number(key: str, text: str) -> int:
    # No known number is long, and Python refuses to convert thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"{key} = {text!r} must be a whole number")
    return int(text)


def _check_name(key: str, value: str | None, known: tuple[str, ...], others: str = "") -> None:
    if value is not None and value not in known:
        raise ValueError(f"{key} = {value!r} must be one of {', '.join(known)}{others}{nearest(value, known)}")


def _check_range(key: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise ValueError(f"{key} = {shown(value)} must be from {least} to {most}")
