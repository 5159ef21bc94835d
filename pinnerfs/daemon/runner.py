"""Run a command with a mount that only the command sees.

Three processes take part: this one, the command's, and the daemon's. The command's process creates a private mount
namespace and waits; the daemon enters that namespace and mounts; then the command starts. When the command ends, the
daemon is terminated. If this process dies, both are. If the daemon dies, the command goes on without the files.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from pinnerfs.daemon.daemon import Daemon
from pinnerfs.daemon.privileges import CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN, keep_capabilities
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import namespace
from pinnerfs.mounts.claim import Place, check_covered, open_covered
from pinnerfs.mounts.table import Proc
from pinnerfs.threads import start_thread

if TYPE_CHECKING:
    from pinnerfs.daemon.phone import Phone

__all__ = ["pass_on", "run"]

IGNORED = (signal.SIGINT, signal.SIGQUIT)  # as a shell does: they are for the command
FORWARDED = (signal.SIGTERM, signal.SIGHUP)
PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them; their earlier state is unknown
TERMINATION_TIMEOUT = 2  # seconds for the daemon to exit after a signal

_GO = b"go"


class _Signals:
    """The signal handling of this process while the command runs, and its state before, for the command."""

    def __init__(self) -> None:
        changed = (*IGNORED, *FORWARDED, signal.SIGCHLD)
        self._ignored = {number for number in changed if signal.getsignal(number) is signal.SIG_IGN}
        self._changed = changed
        self._early: list[int] = []
        self._command: int | None = None
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        # A signal that was ignored (nohup) stays ignored, here and for the command.
        for number in set(FORWARDED) - self._ignored:
            signal.signal(number, self._forward)
        # If SIGCHLD were ignored, waitpid would fail.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._command is None:
            self._early.append(number)
        else:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._command, number)

    def forward_to(self, command: int) -> None:
        """Forward signals to the process of this pidfd, including those that arrived earlier."""
        self._command = command
        for number in self._early:
            self._forward(number, None)

    def restore(self) -> None:
        """Restore the earlier state, in the command's process."""
        for number in self._changed:
            signal.signal(number, signal.SIG_IGN if number in self._ignored else signal.SIG_DFL)
        for number in PYTHONS_OWN:
            signal.signal(number, signal.SIG_DFL)


def run(daemon: Daemon, mountpoint: str, command: Sequence[str], phone: Phone | None = None) -> tuple[int, str | None]:
    """Run a command that sees the daemon's mount, and wait for both. Leaves this process's signal handling changed.

    With `phone` the command also sees that phone's other files.

    Returns the command's wait status, and a notice if the daemon ended before the command. PinnerfsError if the command
    cannot run (exit status 126 or 127, as a shell's), or if the mount fails.
    """
    signals = _Signals()
    me = os.getpid()
    ours, theirs = socket.socketpair()
    this_process = os.pidfd_open(me)
    # Until `restore` the child handles signals as this process does, which would swallow one meant for the command.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*IGNORED, *FORWARDED))
    child = os.fork()
    if child == 0:
        ours.close()
        signals.restore()
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        _become(command, mountpoint, theirs, me, phone)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    theirs.close()
    command_process = os.pidfd_open(child)
    signals.forward_to(command_process)
    served = None
    try:
        # No descriptors arrive from a child that was killed.
        refusal, descriptors, _, _ = socket.recv_fds(ours, 4096, 4)
        if descriptors:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)  # so that `close_inherited` keeps them
            served = daemon.start(
                mountpoint, partial(_attend, ours, descriptors, mountpoint, this_process, command_process)
            )
            # A command that was killed meanwhile closes the connection: that is no refusal.
            refusal = b""
            with suppress(BrokenPipeError, ConnectionResetError):
                ours.send(_GO, socket.MSG_NOSIGNAL)
                refusal = ours.recv(4096)
        ours.close()
        status = os.waitpid(child, 0)[1]
    finally:
        ours.close()
        notice = None if served is None else _terminate(served)
    if refusal:
        number, _, text = refusal.decode(errors="surrogateescape").partition(" ")
        raise PinnerfsError(text, exit_status=int(number))
    return status, notice


def _become(command: Sequence[str], mountpoint: str, gate: socket.socket, parent: int, phone: Phone | None) -> None:
    """Isolate the command's process, wait for the mount, and execute the command.

    An error is sent through the gate; a successful exec closes it.
    """
    try:
        namespaces = namespace.isolate()
        namespace.die_with_parent(signal.SIGKILL, parent)
        if phone is not None:
            phone.prepare(mountpoint)
        # In the new namespace, whose mounts are others than the parent's.
        place = open_covered(mountpoint)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        with Proc() as proc:
            socket.send_fds(gate, [_GO], [*namespaces, root, place.descriptor])
            if gate.recv(len(_GO)):
                check_covered(proc, place)
                if phone is not None:
                    phone.show(place.path)
                namespace.execute(command)
    except PinnerfsError as error:
        gate.send(f"{error.exit_status} {error}".encode(errors="surrogateescape"))
    finally:
        os._exit(1)


def _attend(gate: socket.socket, descriptors: Sequence[int], mountpoint: str, parent: int, command: int) -> Place:
    """Enter the command's namespaces in the daemon's process, and watch the parent. Return the directory to cover."""
    gate.close()
    for number in (*IGNORED, *FORWARDED):
        signal.signal(number, signal.SIG_DFL)
    *namespaces, root, place = descriptors
    namespace.enter(namespaces, root)
    keep_capabilities(CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN)  # CAP_KILL: the command may change its user
    start_thread(_watch, parent, command)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with Proc() as proc:
        return Place(mountpoint, proc.path(place), place)


def _watch(parent: int, command: int) -> None:
    """Wait for the parent's death, then kill the command and terminate this process.

    The command's own death signal does not suffice: executing a setuid program clears it.
    """
    select.select([parent], [], [])
    with suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(command, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate(daemon: int) -> str | None:
    """Terminate the daemon and wait for it. Return a notice if it had ended for another reason."""
    sent = set()
    process = os.pidfd_open(daemon)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            # A dying daemon closes its files, which may end the command, before it can be waited for.
            if select.select([process], [], [], 0)[0]:
                break
            signal.pidfd_send_signal(process, number)
            sent.add(number)
            if select.select([process], [], [], TERMINATION_TIMEOUT)[0]:
                break
        status = os.waitpid(daemon, 0)[1]
    finally:
        os.close(process)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) not in sent:
        ended = f"was killed by signal {os.WTERMSIG(status)}"
    elif os.WIFEXITED(status) and os.WEXITSTATUS(status):
        ended = f"exited with status {os.WEXITSTATUS(status)}"
    else:
        return None
    return f"the daemon {ended} while the command ran: its files stopped answering"


def pass_on(status: int) -> None:
    """Exit as another process did, by its wait status: with its exit status, or by its signal, without a core dump."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        namespace.dump_no_core()
        with suppress(OSError):  # SIGKILL takes no handler
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    raise SystemExit(os.waitstatus_to_exitcode(status))
