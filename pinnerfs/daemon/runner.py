"""A command that alone sees the fake: its process, the daemon's, and this one, which waits for both.

The command's process makes mounts of its own and waits; the daemon enters them and mounts; then the command begins.
Whoever of the three dies, the mount and the other two do not stay behind.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import FrameType

from pinnerfs.daemon.daemon import Daemon
from pinnerfs.daemon.privileges import CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN, keep_capabilities
from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts import namespace

__all__ = ["pass_on", "run"]

IGNORED = (signal.SIGINT, signal.SIGQUIT)  # as a shell does: they are for the command
FORWARDED = (signal.SIGTERM, signal.SIGHUP)
# Python ignores them from its start on, so that nobody can tell how they were.
PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)
PATIENCE = 2  # seconds that the daemon has to end when it is told to

_GO = b"go"


class _Signals:
    """What signals do here while the command runs; the command finds them as they were."""

    def __init__(self) -> None:
        taken = (*IGNORED, *FORWARDED, signal.SIGCHLD)
        self._ignored = {number for number in taken if signal.getsignal(number) is signal.SIG_IGN}
        self._taken = taken
        self._early: list[int] = []
        self._command: int | None = None
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        # Under nohup the command is to live on, and this process with it.
        for number in set(FORWARDED) - self._ignored:
            signal.signal(number, self._forward)
        # Ignored, it would let no child be waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._command is None:
            self._early.append(number)
        else:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._command, number)

    def forward_to(self, command: int) -> None:
        """Say whom the forwarded ones are for, by a pidfd; what came before goes there now."""
        self._command = command
        for number in self._early:
            self._forward(number, None)

    def restore(self) -> None:
        """In the command's process: everything as it was."""
        for number in self._taken:
            signal.signal(number, signal.SIG_IGN if number in self._ignored else signal.SIG_DFL)
        for number in PYTHONS_OWN:
            signal.signal(number, signal.SIG_DFL)


def run(daemon: Daemon, command: Sequence[str]) -> tuple[int, str | None]:
    """Run a command that sees the daemon's mount, to its end and the mount's. Signals stay as they were meanwhile.

    Returns the command's wait status, and a word where the daemon did not live as long. PinnerfsError where it cannot
    be run, by its exit status a shell's (126, 127), or nothing can be mounted for it.
    """
    signals = _Signals()
    me = os.getpid()
    ours, theirs = socket.socketpair()
    this_process = os.pidfd_open(me)
    child = os.fork()
    if child == 0:
        ours.close()
        signals.restore()
        _become(command, theirs, me)
    theirs.close()
    command_process = os.pidfd_open(child)
    signals.forward_to(command_process)
    served = None
    try:
        # Nothing comes from one that was killed.
        refusal, namespaces, _, _ = socket.recv_fds(ours, 4096, 2)
        if namespaces:
            for descriptor in namespaces:
                os.set_inheritable(descriptor, False)  # this process's own, as those that it opens
            served = daemon.start(partial(_attend, ours, namespaces, this_process, command_process))
            # A command that was killed meanwhile breaks the connection, and refuses nothing.
            refusal = b""
            with suppress(BrokenPipeError, ConnectionResetError):
                ours.send(_GO)
                refusal = ours.recv(4096)
        ours.close()
        status = os.waitpid(child, 0)[1]
    finally:
        ours.close()
        word = None if served is None else _end(served)
    if refusal:
        number, _, text = refusal.decode(errors="surrogateescape").partition(" ")
        raise PinnerfsError(text, exit_status=int(number))
    return status, word


def _become(command: Sequence[str], gate: socket.socket, parent: int) -> None:
    """The command's process, from the fork to the command. A refusal goes through the gate, which exec closes."""
    try:
        namespaces = namespace.isolate()
        namespace.die_with_parent(signal.SIGKILL, parent)
        socket.send_fds(gate, [_GO], namespaces)
        if gate.recv(len(_GO)):
            namespace.execute(command)
    except PinnerfsError as error:
        gate.send(f"{error.exit_status} {error}".encode(errors="surrogateescape"))
    finally:
        os._exit(1)


def _attend(gate: socket.socket, namespaces: Sequence[int], parent: int, command: int) -> None:
    """In the daemon's process: enter the command's mounts, and be ready for the end of who waits for both."""
    gate.close()
    for number in (*IGNORED, *FORWARDED):
        signal.signal(number, signal.SIG_DFL)
    namespace.enter(namespaces)
    keep_capabilities(CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SYS_ADMIN)  # the command may be another user's by now
    # The signals are for others.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    threading.Thread(target=_watch, args=(parent, command), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _watch(parent: int, command: int) -> None:
    """When the parent has died, kill the command (a setuid one has lost its own death signal) and this process."""
    select.select([parent], [], [])
    with suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(command, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(daemon: int) -> str | None:
    """Let the daemon unmount and end. Returns a word where something else had ended it."""
    sent = set()
    process = os.pidfd_open(daemon)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            # One that is dying closes its files, which ends the command, before it can be waited for.
            if select.select([process], [], [], 0)[0]:
                break
            signal.pidfd_send_signal(process, number)
            sent.add(number)
            if select.select([process], [], [], PATIENCE)[0]:
                break
        status = os.waitpid(daemon, 0)[1]
    finally:
        os.close(process)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) not in sent:
        return f"the daemon died under the command, of signal {os.WTERMSIG(status)}: its files answered no more"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return f"the daemon left with {os.WEXITSTATUS(status)} under the command: its files answered no more"
    return None


def pass_on(status: int) -> None:
    """End this process as another ended, by its wait status: with its exit status, or of its signal, without a core."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        namespace.dump_no_core()
        with suppress(OSError):  # SIGKILL has no handler to be reset
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    raise SystemExit(os.waitstatus_to_exitcode(status))
