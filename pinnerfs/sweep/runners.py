"""Where the plays of a sweep run: in this process, in several of this machine, or on a cluster of dask.

The results come in the order of the plays, so they are the same everywhere.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import resource_tracker
from typing import Any

import numpy as np

from pinnerfs import __version__
from pinnerfs.errors import BAD_INPUT, NO_ANSWER, PinnerfsError, in_a_line
from pinnerfs.mounts.namespace import die_with_parent
from pinnerfs.sweep.play import Result, play
from pinnerfs.sweep.points import Play

__all__ = ["results", "versions"]

# joblib would write large arguments into temporary files.
NO_FILES: dict[str, Any] = {"mmap_mode": None, "max_nbytes": None}

_Call = Callable[[bytes, dict[str, str]], Any]

TIMEOUT = 30  # seconds to wait for a scheduler and for its first worker


def versions() -> dict[str, str]:
    """Return the releases that decide which bytes a seed gives."""
    return {"pinnerfs": __version__, "numpy": np.__version__}


def results(
    plays: Iterable[Play], jobs: int = 1, backend: str = "processes", address: str | None = None
) -> Iterator[tuple[Result, ...]]:
    """Yield the results of each play, in their order.

    jobs: how many processes of this machine. address: the scheduler of dask, whose workers are all used.
    Raise PinnerfsError without joblib, without a scheduler, or if a process ends before its plays do.
    """
    if backend == "processes":
        yield from map(play, plays) if jobs == 1 else _on_processes(plays, jobs)
    else:
        yield from _on_dask(plays, address)


def _on_processes(plays: Iterable[Play], jobs: int) -> Iterator[tuple[Result, ...]]:
    joblib = _joblib(f"--jobs {jobs}")
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # loky's tracker cleans up behind killed processes, and warns of it.
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"]))
    with joblib.Parallel(jobs, "loky", return_as="generator", **NO_FILES) as parallel:
        try:
            # joblib's processes need it, and its start would unblock SIGINT.
            resource_tracker.ensure_running()
            with _sigint_blocked():
                list(parallel(joblib.delayed(int)() for _ in range(jobs)))  # starts the processes
            yield from _each(parallel, joblib, plays, partial(_play_in_process, parent=os.getpid()))
        except BrokenProcessPool:
            raise PinnerfsError(
                f"one of {jobs} processes was killed, perhaps because memory ran out; wanted fewer --jobs"
            ) from None
        finally:
            # Idle processes would wait for more work for some minutes.
            parallel._backend.abort_everything(ensure_ready=False)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT, also in the processes that start now.

    Ctrl-C on a terminal is for all processes of a sweep, and this one ends the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_dask(plays: Iterable[Play], address: str | None) -> Iterator[tuple[Result, ...]]:
    joblib = _joblib("--backend dask")
    if address is None:
        raise PinnerfsError("--backend dask needs --address with the scheduler, such as tcp://host:8786", BAD_INPUT)
    with (
        _silent(),
        _client(address) as client,
        joblib.parallel_config("dask", client=client, wait_for_workers_timeout=TIMEOUT),
    ):
        try:
            yield from _each(joblib.Parallel(-1, return_as="generator", **NO_FILES), joblib, plays, _on_any_worker())
        except TimeoutError:
            reason = f"the scheduler {address} has no worker after {TIMEOUT} s"
            raise PinnerfsError(in_a_line(reason), NO_ANSWER) from None
        except (OSError, CancelledError):
            raise PinnerfsError(in_a_line(f"lost the connection to the scheduler {address}"), NO_ANSWER) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Log nothing. dask logs each call that is lost, with tracebacks; what ends the sweep is raised as well."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise PinnerfsError("--backend dask needs the Python package distributed: pip install distributed") from None
    try:
        client = distributed.Client(address, timeout=TIMEOUT, set_as_default=False)
    except ValueError as error:
        raise PinnerfsError(in_a_line(f"--address {address}: {error}"), BAD_INPUT) from None
    except OSError as error:
        raise PinnerfsError(in_a_line(f"no answer from the scheduler {address}: {error}"), NO_ANSWER) from None
    with client:
        yield client


def _joblib(option: str) -> Any:
    try:
        import joblib
    except ImportError:
        raise PinnerfsError(f"{option} needs the Python package joblib: pip install 'pinnerfs[sweep]'") from None
    # joblib warns of the plays that an error or Ctrl-C cancels.
    warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning)
    return joblib


def _each(parallel: Any, joblib: Any, plays: Iterable[Play], call: _Call) -> Iterator[tuple[Result, ...]]:
    """Yield the results of each play from joblib's workers. `call` plays in a worker."""
    wanted = versions()
    # As bytes: joblib would store larger objects on one worker of dask, and they are lost with it.
    for result in parallel(joblib.delayed(call)(pickle.dumps(one), wanted) for one in plays):
        # joblib's generator never ends if a call on dask raises an exception.
        if isinstance(result, PinnerfsError):
            raise result
        if isinstance(result, str):
            raise PinnerfsError(in_a_line(result))
        yield result


def _play_elsewhere(pickled: bytes, wanted: dict[str, str]) -> tuple[Result, ...] | PinnerfsError:
    """Play in a worker, which must have the same releases. An error is returned and not raised."""
    if versions() != wanted:
        came, needed = (" and ".join(f"{name} {one}" for name, one in each.items()) for each in (versions(), wanted))
        return PinnerfsError(f"a worker on {platform.node()} has {came}: wanted {needed}, as here")
    try:
        return play(pickle.loads(pickled))
    except PinnerfsError as error:
        return error


def _play_in_process(pickled: bytes, wanted: dict[str, str], parent: int) -> tuple[Result, ...] | PinnerfsError:
    """Play in a process of this machine, which ends with its parent."""
    # Where joblib cannot start processes, such as without /dev/shm, it plays in threads of the parent.
    if os.getpid() != parent:
        # Otherwise the processes of a killed sweep wait for more work for some minutes, and keep its pipes open.
        die_with_parent(signal.SIGKILL, parent)
    return _play_elsewhere(pickled, wanted)


def _on_any_worker() -> _Call:
    """Return a function that plays in a worker. In a worker without pinnerfs it returns an error message.

    A local function is pickled with its code. A worker without pinnerfs could not load a function of this module, and
    joblib would wait forever.
    """

    def call(pickled: bytes, wanted: dict[str, str]) -> Any:
        try:
            from pinnerfs.sweep.runners import _play_elsewhere

            return _play_elsewhere(pickled, wanted)
        except Exception as error:
            import platform

            return f"a worker on {platform.node()} failed: {type(error).__name__}: {error}"

    return call
