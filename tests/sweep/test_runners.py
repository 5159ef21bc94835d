"""Plays in this process, in several, and on a cluster of dask: the same results."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import distributed
import joblib
import msgspec
import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import read_source
from pinnerfs.scenario.limits import LIMITS
from pinnerfs.scenario.settings import parse_setting
from pinnerfs.sweep.plan import plan
from pinnerfs.sweep.points import Play
from pinnerfs.sweep.runners import _each, _on_any_worker, results, versions
from tests.cli.test_sweep import sweeping
from tests.mount.support import DEADLINE, ROOT

SWEEP = plan(
    read_source("camera-stall"),
    settings=[parse_setting("task.camera.instances=2,4")],
    seeds=range(10),
    thresholds=(300_000, 1_000_000),
    moment=10_000_000,
    kernel="introduced",
    limits=LIMITS,
)

# Runs the sweep of the tests on a cluster. After some plays it kills a worker by its process id, if there is one.
ON_DASK = """
import os, signal, sys
import msgspec
from pinnerfs.sweep.runners import results
from tests.sweep.test_runners import SWEEP
address, *worker = sys.argv[1:]
def plays():
    for number, play in enumerate(SWEEP.each_play()):
        if number == 7 and worker:
            os.kill(int(worker[0]), signal.SIGKILL)
        yield play
print(msgspec.json.encode([*results(plays(), backend="dask", address=address)]).decode())
"""


@pytest.fixture(scope="module")
def alone() -> list[object]:
    """The results of the sweep in one process."""
    return [*results(SWEEP.each_play())]


def test_in_processes(alone: list[object]) -> None:
    """Two processes give the results of one, in the same order."""
    assert [*results(SWEEP.each_play(), jobs=2)] == alone
    assert len(alone) == 20 and len({str(result) for result in alone}) > 10


def test_where_no_process_can_be_started(alone: list[object]) -> None:
    """joblib plays in threads then, as without /dev/shm, with the same results."""
    code = """
import os
os.environ["JOBLIB_MULTIPROCESSING"] = "0"
import msgspec
from pinnerfs.sweep.runners import results
from tests.sweep.test_runners import SWEEP
print(msgspec.json.encode([*results(SWEEP.each_play(), jobs=2)]).decode())
"""
    done = run(code)
    assert done.stdout == msgspec.json.encode(alone).decode() + "\n", done.stderr


def test_no_joblib(monkeypatch: pytest.MonkeyPatch, alone: list[object]) -> None:
    """Without joblib one process works, and more of them are refused with what to install."""
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert next(results(SWEEP.each_play())) == alone[0]
    for options, name in (({"jobs": 2}, "--jobs 2"), ({"backend": "dask", "address": "x"}, "--backend dask")):
        with pytest.raises(PinnerfsError, match=rf"^{name} needs .* joblib: pip install 'pinnerfs\[sweep\]'$"):
            next(results(SWEEP.each_play(), **options))


def test_no_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without distributed a cluster is refused with what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PinnerfsError, match=r"^--backend dask needs .* distributed: pip install distributed$"):
        next(results(SWEEP.each_play(), backend="dask", address="tcp://127.0.0.1:1"))


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer is an error with its address and status 75; a wrong address has status 2."""
    monkeypatch.setattr("pinnerfs.sweep.runners.TIMEOUT", 0.2)
    for address, error, status in (
        ("tcp://127.0.0.1:1", "no answer from the scheduler tcp://127.0.0.1:1: ", 75),
        ("nonsense://x", "--address nonsense://x: ", 2),
    ):
        with pytest.raises(PinnerfsError, match=f"^{error}") as caught:
            next(results(SWEEP.each_play(), backend="dask", address=address))
        assert caught.value.exit_status == status
    with pytest.raises(PinnerfsError, match=r"^--backend dask needs --address"):
        next(results(SWEEP.each_play(), backend="dask"))


def test_the_error_of_a_play() -> None:
    """An error of a play in another process is the error of the sweep."""
    wrong = [Play(play.scenario, (), 1, (1,), "android14-6.1", 1) for play in SWEEP.each_play()]
    with pytest.raises(PinnerfsError, match=r"^kernel android14-6\.1 has no threshold"):
        [*results(wrong, jobs=2)]


def test_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with another release is an error: its results may differ."""
    monkeypatch.setattr("pinnerfs.sweep.runners.versions", lambda: {"pinnerfs": "0.0", "numpy": "1.0"})
    here = versions()
    wanted = rf"has pinnerfs {here['pinnerfs']} and numpy {here['numpy']}: wanted pinnerfs 0\.0 and numpy 1\.0, as here"
    with pytest.raises(PinnerfsError, match=f"^a worker on .* {wanted}$"):
        [*results(SWEEP.each_play(), jobs=2)]


def test_a_worker_without_pinnerfs() -> None:
    """A worker that cannot import pinnerfs returns the reason, which is the error of the sweep."""
    code = "import pickle, sys; sys.modules['pinnerfs'] = None; print(pickle.load(sys.stdin.buffer)(b'', {}))"
    dumps: Any = distributed.protocol.pickle.dumps
    done = subprocess.run(
        [sys.executable, "-c", code], input=dumps(_on_any_worker()), capture_output=True, timeout=DEADLINE, check=True
    )
    reason = done.stdout.decode().removesuffix("\n")
    assert re.match("a worker on .* failed: ModuleNotFoundError: .*pinnerfs", reason)

    def parallel(calls: Iterable[Any]) -> Iterator[object]:
        return (reason for _ in calls)

    with pytest.raises(PinnerfsError, match=re.escape(reason)):
        next(_each(parallel, joblib, SWEEP.each_play(), _on_any_worker()))


def test_a_killed_process() -> None:
    """A process that is killed is one error, and no process is left."""
    code = """
import os, signal
from pinnerfs.errors import PinnerfsError
from pinnerfs.sweep.runners import results
from tests.sweep.test_runners import SWEEP
import pinnerfs.sweep.runners as runners

def killed(*arguments, parent):
    os.kill(os.getpid(), signal.SIGKILL)

runners._play_in_process = killed
try:
    print([*results(SWEEP.each_play(), jobs=2)])
except PinnerfsError as error:
    print(error, flush=True)
os._exit(0)
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "one of 2 processes was killed, perhaps because memory ran out; wanted fewer --jobs\n",
        "",
    )


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[int]]]:
    """A scheduler with two workers on loopback: its address, and the process ids of the workers."""
    directory = tmp_path_factory.mktemp("dask")
    about = directory / "scheduler.json"
    with ExitStack() as using:

        def start(kind: str, *options: str) -> int:
            process = using.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, "--scheduler-file", str(about)],
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            using.callback(process.kill)
            return process.pid

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        workers = [
            start("worker", "--nthreads", "2", "--no-nanny", "--no-dashboard", "--local-directory", str(directory))
            for _ in range(2)
        ]
        yield wait_for_workers(about), workers


def wait_for_workers(about: Path) -> str:
    """Return the address of a scheduler when it has both workers."""
    deadline = time.monotonic() + DEADLINE
    while not about.exists() or not about.read_bytes().endswith(b"}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    address = str(msgspec.json.decode(about.read_bytes())["address"])
    client: Any = distributed
    with client.Client(address, timeout=DEADLINE, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=DEADLINE)
    return address


def test_ctrl_c_on_a_cluster(cluster: tuple[str, list[int]], tmp_path: Path) -> None:
    """Ctrl-C is one line on stderr: nothing of what dask logs then, and no traceback."""
    with sweeping(tmp_path / "results", "--backend", "dask", "--address", cluster[0]) as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert err.startswith("Interrupted: ") and err.count("\n") == 1


def test_a_lost_scheduler(cluster: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that is lost is an error with its address and status 75."""

    def lost(*arguments: object) -> Iterator[object]:
        client: Any = distributed.client
        raise client.FutureCancelledError("a-key", "scheduler-connection-lost")
        yield

    monkeypatch.setattr("pinnerfs.sweep.runners._each", lost)
    with pytest.raises(PinnerfsError, match=f"^lost the connection to the scheduler {cluster[0]}$") as caught:
        next(results(SWEEP.each_play(), backend="dask", address=cluster[0]))
    assert caught.value.exit_status == 75


def test_on_a_cluster(cluster: tuple[str, list[int]], alone: list[object]) -> None:
    """A cluster gives the results of one process, also if a worker is killed halfway: nothing is lost."""
    address, workers = cluster
    for killed in [], [str(workers[0])]:
        done = run(ON_DASK, address, *killed)
        assert done.returncode == 0, done.stderr
        assert done.stdout == msgspec.json.encode(alone).decode() + "\n"
