"""What the cells of the life-cycle tests use: gates at which they wait, in kernel and worker.

Imported by both processes, so that its classes travel by name.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

FOLDER = "LIFE_CYCLE_GATES"
"""Environment variable with the folder of the gates."""


class Gates:
    """Files that tell a process to wait, and the test that it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self, name: str) -> None:
        (self.folder / f"{name}.closed").touch()

    def open(self, name: str) -> None:
        (self.folder / f"{name}.closed").unlink(missing_ok=True)

    def open_all(self) -> None:
        for file in self.folder.glob("*.closed"):
            file.unlink(missing_ok=True)

    def is_closed(self, name: str) -> bool:
        return (self.folder / f"{name}.closed").exists()

    def is_reached(self, name: str) -> bool:
        return (self.folder / f"{name}.reached").exists()

    def pause(self, name: str) -> None:
        """Waits where the test has closed this gate."""
        (self.folder / f"{name}.reached").touch()
        while self.is_closed(name):
            time.sleep(0.005)

    def note(self, what: str) -> None:
        with (self.folder / "notes").open("a") as file:
            file.write(f"{what}\n")

    def noted(self, what: str) -> int:
        """How often that was noted."""
        notes = self.folder / "notes"
        return notes.read_text().splitlines().count(what) if notes.exists() else 0


def gates() -> Gates:
    return Gates(Path(os.environ[FOLDER]))


def enter_kernel() -> None:
    """Marks this process as the notebook's, and has it cut its connections when told to."""
    (gates().folder / "kernel").write_text(str(os.getpid()))
    threading.Thread(target=_cut_when_told, daemon=True).start()


def _here() -> str:
    marked = (gates().folder / "kernel").read_text()
    return "kernel" if marked == str(os.getpid()) else "worker"


class Parcel:
    """Stops at a gate wherever it is packed or unpacked."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        gates().pause(f"{self.kind} packed in {_here()}")
        return _unpack, (self.kind,)


def _unpack(kind: str) -> Parcel:
    gates().pause(f"{kind} unpacked in {_here()}")
    return Parcel(kind)


def work(seconds: float = 0.02) -> None:
    """Computes for so long: something to charge."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


# --- the network ----------------------------------------------------------------------------


def _cut_when_told() -> None:
    order = gates().folder / "cut"
    while not order.exists():
        time.sleep(0.005)
    port, directory = order.read_text().split()
    # All are found before the first is cut: descriptors are used again at once.
    found = [_connection(int(name), int(port), directory) for name in os.listdir("/proc/self/fd")]
    ours = [one for one in found if one is not None]
    for one in ours:
        with one, contextlib.suppress(OSError):  # the other side was quicker
            one.shutdown(socket.SHUT_RDWR)
    (gates().folder / "cut.done").write_text(str(len(ours)))


def _connection(descriptor: int, port: int, directory: str) -> socket.socket | None:
    """A second descriptor of a connection to the broker or to a worker; None of all else."""
    try:
        one = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None  # no socket
    with contextlib.suppress(OSError):  # not connected
        peer = one.getpeername()
        if peer[1] == port if isinstance(peer, tuple) else str(peer).startswith(directory):
            return one
    one.close()
    return None
