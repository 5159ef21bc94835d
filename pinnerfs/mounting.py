"""Mount a scenario from Python in a temporary directory, and unmount it at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pinnerfs.arguments import checked_retries, checked_seed, checked_step
from pinnerfs.client import Client
from pinnerfs.daemon.ready import not_ready
from pinnerfs.errors import BAD_INPUT, NO_ANSWER, PinnerfsError
from pinnerfs.forkserver import run_forked
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.mounts.directories import (
    end_daemon,
    make_directory,
    process_name,
    remove_directory,
    remove_left_directories,
)
from pinnerfs.mounts.unmount import fusermount
from pinnerfs.polling import wait_readable
from pinnerfs.simulation import generation, memory_management
from pinnerfs.threshold import no_threshold, parse_threshold

__all__ = ["MountedDevice", "mounted"]

MOUNT_TIMEOUT = 30  # seconds
CALL_TIMEOUT = 60.0  # seconds without progress


class MountedDevice(Client):
    """A fake device that this process has mounted. If its daemon hangs, it is ended and the call raises an error."""

    def __init__(self, directory: Path, serving: int) -> None:
        """Find the mount in a directory. `serving` is a pipe that ends when its daemon no longer serves it."""
        super().__init__(directory / "mnt", CALL_TIMEOUT)
        self._directory = directory
        self._serving = serving
        self._daemon = process_name(int(self._read("pid")))
        (directory / "daemon").write_text(self._daemon)

    def close(self) -> None:
        """Unmount and end the daemon. PinnerfsError with its log if it had died before."""
        alive = not wait_readable(0, self._serving)
        log = (self._directory / "log").read_text(errors="replace").strip()
        remove_directory(self._directory, self._serving)
        if not alive:
            raise PinnerfsError(f"the daemon died before the unmount; its log: {log or 'empty'}")

    def _no_answer(self) -> PinnerfsError:
        end_daemon(self._daemon)
        return PinnerfsError(f"ended the daemon: it did not answer within {self._max_wait:g} s", NO_ANSWER)


@contextmanager
def mounted(
    scenario: str | os.PathLike[str] = "camera-stall",
    *,
    seed: int | None = None,
    threshold: int | str | None = None,
    kernel: str | None = None,
    mm: str | None = None,
    cma_retries: int | None = None,
    quiet_migration: bool = False,
    over: int | str | None = None,
    loop: bool = False,
    clock: Literal["manual", "real"] = "manual",
) -> Iterator[MountedDevice]:
    """Mount a scenario, by name or path, or a capture by path, in a temporary directory; unmount it at the end.

    The arguments are options of `pinnerfs mount`. ValueError for a wrong threshold, or for one on a kernel that has
    none. PinnerfsError for any other wrong argument, or if the mount fails, with the exit status of `pinnerfs mount`.
    """
    options = [
        *(f"--{name}={value}" for name, value in _checked_options(seed, threshold, kernel, clock).items()),
        *_mm_options(mm, cma_retries, quiet_migration),
        *([] if over is None else [f"--over={checked_step(over, 'over')}us"]),
        *(["--loop"] if loop else []),
    ]
    source = _located(scenario)
    if os.geteuid() != 0:
        fusermount()  # it is needed at the end, when PATH may be another
    remove_left_directories()
    directory = make_directory()
    serving = None
    try:
        serving = _start_daemon(source, directory, options)
        device = MountedDevice(directory, serving)
    except BaseException:
        remove_directory(directory, serving)
        raise
    try:
        yield device
    finally:
        device.close()
        os.close(serving)


def _located(scenario: str | os.PathLike[str]) -> str:
    """Return a name as it is, and a path independent of the working directory."""
    text = os.fspath(scenario)
    if text == "-":
        raise PinnerfsError("scenario = '-': wanted a name or a path: the daemon has no standard input", BAD_INPUT)
    is_path = not isinstance(scenario, str) or "/" in text or text.endswith(".toml")
    return os.path.abspath(text) if is_path else text


def _checked_options(
    seed: int | None, threshold: int | str | None, kernel: str | None, clock: str
) -> Mapping[str, object]:
    """Return the options of `pinnerfs mount` for these arguments."""
    if seed is not None:
        checked_seed(seed)
    if kernel is not None:
        generation(kernel)
    if clock not in ("manual", "real"):
        raise PinnerfsError(f"clock = {clock!r}: wanted one of manual, real", BAD_INPUT)
    if kernel is not None and threshold is not None and not GENERATIONS[kernel].has_threshold:
        raise ValueError(no_threshold(f"kernel {kernel}"))
    unsigned = None if threshold is None else parse_threshold(threshold) % (1 << 64)
    options = {"seed": seed, "threshold": unsigned, "kernel": kernel, "clock": clock}
    return {name: value for name, value in options.items() if value is not None}


def _mm_options(mm: str | None, cma_retries: int | None, quiet_migration: bool) -> list[str]:
    """Return the options of `pinnerfs mount` for the memory management."""
    options = []
    if mm is not None:
        memory_management(mm)
        options.append(f"--mm={mm}")
    if cma_retries is not None:
        options.append(f"--cma-retries={checked_retries(cma_retries)}")
    if quiet_migration:
        options.append("--quiet-migration")
    return options


def _start_daemon(scenario: str, directory: Path, options: Sequence[str]) -> int:
    """Mount, and return a pipe that ends when the daemon no longer serves the mount."""
    root = directory / "mnt"
    root.mkdir()
    # A process of its own: a file system that this process serves would wait for itself.
    arguments = ["mount", "--log", str(directory / "log"), *options, "--", scenario, str(root)]
    try:
        status, text, serving = run_forked(str(directory), arguments, MOUNT_TIMEOUT)
    except TimeoutError:
        raise PinnerfsError(f"pinnerfs mount {scenario} {root} did not finish within {MOUNT_TIMEOUT} s") from None
    if status:
        os.close(serving)
        message = "; ".join(line.removeprefix("Error: ") for line in text.splitlines())
        raise PinnerfsError(message or not_ready(str(root), status), status)
    return serving
