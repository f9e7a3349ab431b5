"""A PID namespace for each worker: when its first process ends, the system kills the rest.

That first process is a small Python (``_INIT``), not the worker, so that a worker can be
killed by its own hand. Both become children of the supervisor, so the worker's status
reaches it untouched. Where the system gives namespaces to root alone, they are made in a
user namespace in which the user stays who he is and gets no rights that he had not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

from zerokernel.containment import inside, processes
from zerokernel.containment.port import Main

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_NAMESPACE = 0x20000000 | 0x00020000  # CLONE_NEWPID, CLONE_NEWNS
_NEW_USER = 0x10000000  # CLONE_NEWUSER
_SLAVE_BELOW = (1 << 19) | (1 << 14)  # MS_SLAVE, MS_REC: what is mounted outside appears inside
_NO_SURPRISES = 2 | 4 | 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_POLL_SECONDS = 0.0005

# Stops or continues all others in its namespace, in one call that no fork escapes. It ends
# with the supervisor, whose end of the pipe closes then.
_INIT = f"""import os
while word := os.read(0, 1):
    try:
        os.kill(-1, {int(signal.SIGSTOP)} if word == b"f" else {int(signal.SIGCONT)})
    except ProcessLookupError:
        pass
"""


class PidNamespace:
    """Forks each worker into a PID and a mount namespace of its own, with its own /proc."""

    name = "pid namespace"

    def __init__(self) -> None:
        self._lifelines: set[int] = set()  # our ends; a fork must not keep them open

    def fork(self, main: Main) -> NamespaceTree:
        """Forks a worker; returns when it is in its namespace.

        Raises:
            OSError: The system refuses it, or has no room for it.
        """
        theirs, ours = os.pipe()
        hear, say = os.pipe()
        try:
            maker = os.fork()
        except OSError:
            for descriptor in (theirs, ours, hear, say):
                os.close(descriptor)
            raise
        if maker == 0:
            for descriptor in (ours, hear, *self._lifelines):
                os.close(descriptor)
            processes.become(lambda: _make(theirs, say, main))
        os.close(theirs)
        os.close(say)
        init, worker, error = _understand(_read_all(hear))
        self._lifelines.add(ours)
        tree = NamespaceTree(maker, init, worker, ours, self._lifelines)
        if error:
            _abort(tree)
            raise OSError(error)
        return tree


class NamespaceTree:
    """A worker and what is in its namespace."""

    def __init__(
        self, maker: int, init: int, process: int, lifeline: int, lifelines: set[int]
    ) -> None:
        self.process = process
        self.roots = (process, init, maker)
        self.frozen = False
        self._maker = maker  # it takes some milliseconds to end, which a start need not wait for
        self._init = init
        self._lifeline = lifeline
        self._lifelines = lifelines

    def __repr__(self) -> str:
        return f"<NamespaceTree {self.process}{', frozen' if self.frozen else ''}>"

    def freeze(self) -> None:
        """Has the first process stop all others."""
        self.frozen = True
        self._say(b"f")

    def thaw(self) -> None:
        """Has the first process continue all others."""
        self.frozen = False
        self._say(b"t")

    def kill(self) -> None:
        """Kills the first process, and the system with it all others."""
        self._inherit()
        processes.send_signal(self._init, signal.SIGKILL)

    def clear(self) -> None:
        """Ends the namespace; the first process is gone when all others are."""
        if self._lifeline < 0:
            return
        self._inherit()
        os.close(self._lifeline)
        self._lifelines.discard(self._lifeline)
        self._lifeline = -1
        processes.send_signal(self._init, signal.SIGKILL)
        _await(self._init)

    def _inherit(self) -> None:
        """Waits for the maker's end: from then on what it made are this process's children."""
        if self._maker:
            _await(self._maker)
            self._maker = 0

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: so are the others
            os.write(self._lifeline, word)


def _abort(tree: NamespaceTree) -> None:
    """Takes back what was made before an error."""
    tree.kill()
    _await(tree.process)
    tree.clear()


def _await(process: int) -> None:
    """Waits for a child that ends, but not for one that hangs in the kernel. 0 is none."""
    if not process:
        return
    until = time.monotonic() + processes.KILL_SECONDS
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(process, os.WNOHANG)[0] == 0 and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)


def _understand(report: str) -> tuple[int, int, str]:
    """First process, worker (0: there is none), and what went wrong, "" if nothing."""
    said = dict(line.split(" ", 1) for line in report.splitlines())
    error = "" if "ready" in said else said.get("failed", "it ended before it was ready")
    return int(said.get("init", 0)), int(said.get("worker", 0)), error


def _read_all(descriptor: int) -> str:
    with open(descriptor, "rb") as pipe:
        return pipe.read().decode()


# --- in the forked processes ---------------------------------------------------------------


def _make(lifeline: int, say: int, main: Main) -> None:
    """Makes the namespace, its first process and the worker, and ends."""
    try:
        rights = _Rights.now()
        own_user = _leave()
        os.write(say, f"init {_start_init(lifeline)}\n".encode())
        worker = os.fork()
    except OSError as error:
        os.write(say, f"failed {error}\n".encode())
        return
    if worker == 0:
        os.close(lifeline)
        processes.become(lambda: _begin(say, rights if own_user else None, main))
    os.write(say, f"worker {worker}\n".encode())


def _leave() -> bool:
    """Lets children begin in new namespaces; returns whether that needed a user namespace."""
    user, group = os.geteuid(), os.getegid()
    with contextlib.suppress(PermissionError):
        _check("unshare", _libc.unshare(_NEW_NAMESPACE))
        return False
    _check("unshare", _libc.unshare(_NEW_NAMESPACE | _NEW_USER))
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    return True


def _start_init(lifeline: int) -> int:
    # Ignored signals stay ignored in it. The system reaps the children of a process that
    # ignores SIGCHLD, which for the first in a namespace is every orphan.
    ignored = (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in ignored]
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _INIT],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, lifeline, 0)],
            setpgroup=0,
        )
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _begin(say: int, rights: _Rights | None, main: Main) -> None:
    try:
        # While /proc is still the one of the supervisor's namespace.
        inside.remember_outside(int(os.readlink("/proc/self")))
        _mount(b"none", b"/", None, _SLAVE_BELOW)
        _mount(b"proc", b"/proc", b"proc", _NO_SURPRISES)
        if rights is not None:
            rights.take()
    except OSError as error:
        os.write(say, f"failed {error}\n".encode())
        return
    os.write(say, b"ready yes\n")
    os.close(say)
    main()


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    result = _libc.mount(source, target, kind, ctypes.c_ulong(flags), None)
    _check(f"mount {target.decode()}", result)


def _check(what: str, result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


class _Rights:
    """Capabilities of this process: who enters a user namespace has all of them there.

    A worker that kept them could write to its own read-only files, which a plain cell cannot.
    """

    _VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3

    def __init__(self, values: ctypes.Array[ctypes.c_uint32]) -> None:
        self._values = values

    @classmethod
    def now(cls) -> _Rights:
        """Those that this process has now."""
        values = (ctypes.c_uint32 * 6)()
        _check("capget", _libc.capget(cls._header(), values))
        return cls(values)

    def take(self) -> None:
        """Makes them those of this process."""
        _check("capset", _libc.capset(self._header(), self._values))

    @classmethod
    def _header(cls) -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * 2)(cls._VERSION, 0)
