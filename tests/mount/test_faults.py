"""Faults beside other calls: waits and their interruption, names that come and go, faults of scenarios."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, Mount, Mounts, environment, newest_first, outcome, scenario, shell
from tests.mount.test_inject import OPENERS, device, fired, inject, shared, tool

__all__ = ["device", "shared", "tool"]

FOREVER = "delay=1h"

# Reads a record; if SIGUSR1 ends that, reads again and prints the record.
INTERRUPTED = """
import os, signal
def stop(*_): raise RuntimeError
signal.signal(signal.SIGUSR1, stop)
file = os.open("longterm_pinner", os.O_RDONLY)
try: os.read(file, 4096)
except RuntimeError: os.write(1, os.read(file, 4096))
"""


@contextmanager
def started(device: Mount, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script of the tables of test_inject; at the end kill it, if it has not ended."""
    with subprocess.Popen(
        ["bash", "-c", script.replace("PYTHON", sys.executable)],
        cwd=device.path / "page_pinner",
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_ends_a_wait(device: Mount, tool: str, number: signal.Signals) -> None:
    """A call that would wait for an hour ends at a signal, and meanwhile other calls are answered."""
    inject(device, f"add,op=open,file=longterm_pinner,{FOREVER},times=1")
    _, script = OPENERS[tool]
    with started(device, script) as process:
        until(lambda: fired(device) == [1])
        assert b"".join(device.read_all()) == b"".join(newest_first(3))
        assert process.poll() is None
        process.send_signal(number)
        # A Python without a handler for SIGINT raises KeyboardInterrupt and dies of the signal, too.
        assert process.wait(DEADLINE) == -number


def test_an_interrupted_read_consumes_no_record(device: Mount) -> None:
    """A read that a signal handler ends is EINTR. The next read returns the record."""
    inject(device, f"add,op=read,{FOREVER},times=1")
    with started(device, f"exec PYTHON -c '{INTERRUPTED}'") as process:
        until(lambda: fired(device) == [1])
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=DEADLINE) == (newest_first(3)[0], b"")


def test_many_calls_wait_at_once(device: Mount) -> None:
    """Thirty calls wait for an hour at the same time, and other calls are answered."""
    inject(device, f"add,op=open,comm=cat,{FOREVER}")
    with ExitStack() as stack:
        processes = [stack.enter_context(started(device, "exec cat threshold")) for _ in range(30)]
        until(lambda: fired(device) == [30])
        assert device.threshold.read_text() == "300000\n"
        for process in processes:
            process.terminate()
        assert [process.wait(DEADLINE) for process in processes] == [-signal.SIGTERM] * 30
    inject(device, "removeall")
    assert device.shell("cat threshold").stdout == "300000\n"


def test_a_rule_that_is_removed_does_not_end_a_wait(device: Mount) -> None:
    """A call that met a rule with a delay waits to its end, and then gets its answer."""
    inject(device, "add,op=read,comm=cat,delay=500ms,errno=EIO,times=1")
    with started(device, "exec cat threshold") as process:
        until(lambda: fired(device) == [1])
        inject(device, "removeall")
        assert process.wait(DEADLINE) == 1
        assert process.stderr is not None and b"Input/output error" in process.stderr.read()


def test_a_delayed_write(mount: Mounts) -> None:
    """A delayed write takes effect after its delay, before it returns."""
    device = mount(None, "--start", "3s")
    inject(device, "add,op=write,file=threshold,delay=300ms,times=1")
    began = time.monotonic()
    device.threshold.write_text("5\n")
    assert time.monotonic() - began >= 0.3
    assert (device.threshold.read_text(), device.read_all()) == ("5\n", [])
    inject(device, f"removeall\nadd,op=write,file=threshold,{FOREVER}")
    with started(device, "echo 7 > threshold"):
        until(lambda: fired(device) == [1])
        assert device.threshold.read_text() == "5\n"
    assert device.threshold.read_text() == "5\n"


def test_a_daemon_ends_while_calls_wait(mount: Mounts) -> None:
    """SIGTERM to the daemon unmounts and ends the waits: the callers get an error."""
    device = mount(None, "--start", "3s")
    inject(device, f"add,op=open,comm=cat,{FOREVER}")
    with started(device, "exec cat longterm_pinner") as process:
        until(lambda: fired(device) == [1])
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        assert process.wait(DEADLINE) == 1


def test_missing_for_some_callers(mount: Mounts) -> None:
    """The directory can be missing for one program, and there for another at the same time."""
    device = mount()
    assert device.threshold.exists()
    inject(device, "add,missing,comm=cat")
    for _ in range(3):
        assert device.shell("cat $PWD/threshold").returncode == 1
        assert device.threshold.read_text() == "300000\n"
        assert os.listdir(device.path) == ["cma", "page_pinner"]
    assert device.shell(f"cd {device.path}; exec -a ls cat page_pinner/threshold").returncode == 1


def test_missing_for_a_process_inside(mount: Mounts) -> None:
    """A process in the directory finds nothing more there; a file that is open can be read."""
    device = mount()
    hide = "echo add,missing > ../.pinnerfs/inject"
    done = device.shell(f"exec 3< threshold; ls; {hide}; cat <&3; cat threshold; cat longterm_pinner; ls")
    assert (
        done.stdout == "longterm_pinner\nthreshold\n300000\n" or done.stdout == "threshold\nlongterm_pinner\n300000\n"
    )
    assert done.stderr.count("No such file or directory") == 3
    inject(device, "removeall")
    assert device.shell("cat threshold").stdout == "300000\n"


def test_missing_comes_and_goes_beside_readers(mount: Mounts) -> None:
    """However often the directory is hidden while readers look for it: each write returns, and then it is hidden."""
    device = mount()
    look = "while ls . page_pinner >/dev/null; stat page_pinner/threshold >/dev/null; :; do :; done 2>/dev/null"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(started(device, f"cd ..; {look}"))
        done = shell(
            [
                "bash",
                "-c",
                "for i in {1..100}; do echo add,missing > .pinnerfs/inject; test -e page_pinner && echo there; "
                "echo removeall > .pinnerfs/inject; test -e page_pinner || echo gone; done; echo over",
            ],
            device.path,
        )
        assert (done.stdout, done.stderr) == (b"over\n", b"")


FAULTS = """
[[fault]]
at = "5s"
op = "read"
file = "threshold"
errno = "ENOMEM"

[[fault]]
at = "10s"
missing = true

[[fault]]
at = "20s"
removeall = true
"""


def test_faults_of_a_scenario(mount: Mounts) -> None:
    """A fault is in force from its moment of the device's clock on, to the microsecond."""
    source = scenario(mount.directory)
    source.write_text(source.read_text() + FAULTS)
    device = mount(source)
    for step, control, threshold, listing in (
        ("0s", "", "300000\n", ["cma", "page_pinner"]),
        ("4999999us", "", "300000\n", ["cma", "page_pinner"]),
        ("1us", "add,op=read,file=threshold,errno=ENOMEM fired=0\n", -errno.ENOMEM, ["cma", "page_pinner"]),
        ("5s", "add,op=read,file=threshold,errno=ENOMEM fired=1\nadd,missing fired=0\n", -errno.ENOENT, ["cma"]),
        ("9999999us", "", -errno.ENOENT, ["cma"]),
        ("1us", "", "300000\n", ["cma", "page_pinner"]),
    ):
        device.advance(step)
        if step != "9999999us":
            assert device.control("inject") == control
        assert outcome(device.threshold.read_text) == threshold
        assert os.listdir(device.path) == listing


def test_faults_of_a_scenario_at_the_start(mount: Mounts) -> None:
    """A mount succeeds whatever its scenario does to page_pinner/, and so do `ctl` and the unmount."""
    source = scenario(mount.directory)
    source.write_text(source.read_text() + '[[fault]]\nmissing = true\n[[fault]]\nerrno = "EIO"\n')
    device = mount(source, "--start", "3s")
    assert os.listdir(device.path) == ["cma"]
    assert device.stats()["longterm_records"] == 3


def readers(name: str) -> dict[str, str]:
    """Return the readers that the comment of a gallery scenario shows: one that copes, and one that fails."""
    text = pinnerfs.gallery()[name].read_text()
    return dict(re.findall(r"^#   (copes|fails):  (.+)$", text, re.MULTILINE))


def _read(device: Mount, script: str) -> tuple[int, str]:
    done = shell(["bash", "-c", script], device.path)
    return done.returncode, done.stdout.decode()


def test_no_page_pinner(mount: Mounts) -> None:
    """The scenario's readers, without the directory: one says so, the other reports that there is nothing."""
    device = mount("no-page-pinner", "--start", "1min")
    scripts = readers("no-page-pinner")
    assert _read(device, scripts["copes"]) == (0, "no page_pinner: boot with page_pinner=on\n")
    assert _read(device, scripts["fails"]) == (0, "0 long pins\n")
    assert device.stats()["longterm_records"] == 96


def test_flaky_reads(mount: Mounts) -> None:
    """The scenario's readers, when reads fail: one has all records, the other stops early and does not say so."""
    device = mount("flaky-reads", "--start", "1min")
    scripts = readers("flaky-reads")
    assert _read(device, scripts["copes"]) == (0, "240\n")
    status, printed = _read(device, scripts["fails"])
    assert status == 0 and 0 < int(printed) < 240


def test_slow_reads(mount: Mounts) -> None:
    """The scenario's readers, when an open is slow: one gives up in time, the other waits until a signal ends it."""
    device = mount("slow-reads", "--start", "1min")
    scripts = readers("slow-reads")
    assert _read(device, scripts["copes"]) == (0, "longterm_pinner is late\n")
    (before,) = fired(device)
    with started(device, f"cd ..; exec {scripts['fails']}") as process:
        until(lambda: fired(device) == [before + 1])
        assert process.stdout is not None
        assert not select.select([process.stdout], [], [], 0.3)[0]
        process.terminate()
        assert process.wait(DEADLINE) == -signal.SIGTERM
