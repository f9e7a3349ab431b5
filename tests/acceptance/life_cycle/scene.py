"""A machine of its own for each case: brings a cell into a phase, and lets a party fail."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.acceptance.life_cycle.held import FOLDER, Gates
from tests.kernels import ROOT, Kernel, Run, processes_with, unique, wait_until
from tests.leftovers import broker_of, end_broker, ended
from zerokernel.client.rest import fetch_status, fetch_usage
from zerokernel.errors import BrokerUnavailable
from zerokernel.lifecycle import Failure, Party, Phase

MARK = "LIFE_CYCLE_MACHINE"
_SET_UP = """\
from tests.acceptance.life_cycle import held
held.enter_kernel()
x = [1]; alias = x
parcel = held.Parcel("sent")
"""
_CELL = """\
%%gpu -d {limit}
held.gates().note("begun")
x.append(2)
fresh = parcel.kind
held.work()
held.gates().pause("running")
made = held.Parcel("made")
large = bytes(4 << 20)
"""
_RIVAL = "%%gpu -d 100\nheld.work()\nheld.gates().pause('rival')\ndone = 1"
_NO_TORCH = """\
import importlib.util as _util
_find = _util.find_spec
_util.find_spec = lambda name, package=None: None if name == "torch" else _find(name, package)
"""
"""Nothing here needs torch, which a forkserver imports for seconds where it finds it."""

_GATE_OF = {
    Phase.STAGING: "sent packed in kernel",
    Phase.BINDING: "sent unpacked in worker",
    Phase.RUNNING: "running",
    Phase.RETURNING: "made packed in worker",
    Phase.COMMITTING: "made unpacked in kernel",
}


class Scene:
    """One slice, a kernel whose cell is watched, and where it has to wait a rival that holds it.

    Args:
        limit: Seconds that the watched cell may run.
        settings: Of zerokernel, by the names of their fields.
        directory: The runtime directory; by default a new one.
        prelude: Code that kernels run before they load the extension.
    """

    def __init__(
        self,
        limit: float = 60.0,
        settings: Mapping[str, str] = MappingProxyType({}),
        directory: Path | None = None,
        prelude: str = "",
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="zk-"))
        folder = self.directory / "test"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_NO_TORCH)
        self.gates = Gates(folder)
        self._limit = limit
        self._mark = unique("machine")
        self._settings = settings
        self._prelude = prelude
        self._kernels: list[Kernel] = []
        self._stopped: list[psutil.Process] = []
        self._rival: Kernel | None = None
        self._rivals_cell = ""
        self._cell = ""
        self._known: set[str] = set()  # leases that are not the watched cell's
        self._lease = ""  # the watched cell's, when the failure comes
        self.kernel: Kernel
        # Everybody, as the failure finds them.
        self.worker: psutil.Process
        self.supervisor: psutil.Process
        self.broker: psutil.Process
        self.port = 0

    # --- kernels ------------------------------------------------------------------------

    def start(self, with_rival: bool = False) -> None:
        """Starts the kernels, and runs a first cell so that there is a parked worker."""
        self.kernel = self._start_kernel("mine")
        self._rival = self._start_kernel("rival") if with_rival else None
        self.plain(_SET_UP)
        assert self.run("%%gpu\nheld.work()").status == "ok"
        self._known = {entry["lease"] for entry in self.books()}

    def _start_kernel(self, name: str) -> Kernel:
        python_path = f"{self.gates.folder}{os.pathsep}{ROOT}"
        environment = {
            "ZEROKERNEL_RUNTIME_DIRECTORY": str(self.directory),
            "ZEROKERNEL_DEVICES": "simulated",
            "ZEROKERNEL_SIMULATED_SLICES": "1",
            "ZEROKERNEL_EXTEND_LIMITS": "false",
            "PYTHONPATH": python_path,
            "JPY_SESSION_NAME": name,
            FOLDER: str(self.gates.folder),
            MARK: self._mark,
            **{f"ZEROKERNEL_{key.upper()}": value for key, value in self._settings.items()},
        }
        kernel = Kernel(environment)
        self._kernels.append(kernel)
        if self._prelude:
            assert kernel.run(self._prelude).status == "ok"
        kernel.load_extension()
        return kernel

    def another_kernel(self) -> Kernel:
        """A kernel that comes after the failure."""
        return self._start_kernel("mine")

    def plain(self, code: str) -> str:
        run = self.run(code)
        assert run.status == "ok", run
        return run.text("stdout").strip()

    def run(self, code: str) -> Run:
        return self.kernel.run(code)

    def run_cell(self) -> None:
        """Sends the watched cell."""
        self._cell = self.kernel.submit(_CELL.format(limit=self._limit))

    @property
    def has_cell(self) -> bool:
        return bool(self._cell)

    def collect(self) -> Run:
        """What became of the watched cell."""
        return self.kernel.collect(self._cell)

    # --- phases -------------------------------------------------------------------------

    def reach(self, phase: Phase) -> None:
        """Brings the watched cell into a phase and holds it there."""
        if phase is Phase.PARKED:
            wait_until(lambda: self.worker_now().get("state") == "parked", "the parking")
        elif phase in (Phase.QUEUED, Phase.GRANTED):
            self._wait_in_queue()
        else:
            gate = _GATE_OF[phase]
            (self.gates.folder / f"{gate}.reached").unlink(missing_ok=True)
            self.gates.close(gate)
            self.run_cell()
            wait_until(lambda: self.gates.is_reached(gate), f"the phase {phase}")
        self.look_who_is_there()
        if phase is Phase.GRANTED:
            self._stop(self.worker)
            self.end_rival()
            wait_until(lambda: self.worker_now().get("state") == "bound", "the grant")
        elif phase is Phase.STAGING:
            wait_until(lambda: self.worker_now().get("state") == "bound", "the grant")

    def submit_held(self, code: str, gate: str) -> str:
        """Sends a cell and waits until it is held at a gate."""
        self.gates.close(gate)
        cell = self.kernel.submit(f"%%gpu\n{code}")
        wait_until(lambda: self.gates.is_reached(gate), f"the gate {gate!r}")
        self.look_who_is_there()
        return cell

    def start_rival(self) -> None:
        """Has the rival hold the slice."""
        assert self._rival is not None
        self.gates.close("rival")
        self._rival.run("from tests.acceptance.life_cycle import held")
        self._rivals_cell = self._rival.submit(_RIVAL)
        wait_until(lambda: self.gates.is_reached("rival"), "the rival's cell")
        self._known.add(self._session("rival")["lease"])

    def _wait_in_queue(self) -> None:
        self.start_rival()
        packed = self.gates.folder / f"{_GATE_OF[Phase.STAGING]}.reached"
        packed.unlink(missing_ok=True)
        self.run_cell()
        wait_until(lambda: self.status()["queue"], "the queueing")
        wait_until(packed.exists, "the packing")
        wait_until(lambda: self.worker_now().get("state") == "forked", "the fork")

    def end_rival(self) -> None:
        """Lets the rival's cell end, if there is one."""
        self.gates.open("rival")

    @property
    def has_rival(self) -> bool:
        return self._rival is not None

    def rivals_run(self) -> Run:
        """What became of the rival's cell."""
        assert self._rival is not None
        return self._rival.collect(self._rivals_cell)

    def look_who_is_there(self) -> None:
        address = broker_of(self.directory)
        assert address is not None
        status = fetch_status(address)
        self.port = urlsplit(address.url).port or 0
        self.broker = psutil.Process(address.pid)
        (supervisor,) = status["engine"]["supervisors"]
        self.supervisor = psutil.Process(supervisor["process"])
        self.worker = psutil.Process(self.worker_now()["process"])
        self._lease = self._session("mine")["lease"]

    # --- failures -----------------------------------------------------------------------

    def fail(self, party: Party, failure: Failure) -> float:
        """Has a party fail; gives the time at which it did (monotonic seconds)."""
        if party is Party.NETWORK:
            self._cut()
        elif party is Party.MACHINE:
            self._kill_everything()
        elif failure is Failure.HANGS:
            self._stop(self._process_of(party))
        elif party is Party.KERNEL:
            self.kernel.kill()
        else:
            self._process_of(party).kill()
        return time.monotonic()

    def _process_of(self, party: Party) -> psutil.Process:
        return {
            Party.KERNEL: psutil.Process(self.kernel.pid),
            Party.WORKER: self.worker,
            Party.SUPERVISOR: self.supervisor,
            Party.BROKER: self.broker,
        }[party]

    def _stop(self, process: psutil.Process) -> None:
        process.suspend()
        self._stopped.append(process)
        wait_until(lambda: _stops(process), "the stop")

    def resume(self, only: psutil.Process | None = None) -> None:
        """Continues what was stopped and still lives."""
        for process in [one for one in self._stopped if only in (None, one)]:
            self._stopped.remove(process)
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _kill_everything(self) -> None:
        for process in (self.broker, self.supervisor, self.worker):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for kernel in self._kernels:
            kernel.kill()
        wait_until(lambda: ended(self.supervisor) and ended(self.broker), "the machine's end")

    def _cut(self) -> None:
        order = self.gates.folder / "cut"
        draft = order.with_suffix(".new")
        draft.write_text(f"{self.port} {self.directory}")
        draft.rename(order)
        done = self.gates.folder / "cut.done"
        wait_until(lambda: done.exists() and done.read_text(), "the cut")
        assert int(done.read_text()) >= 2, "a connection to the broker and one to the worker"

    # --- what can be seen ---------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The broker's; {} while none answers."""
        with suppress(BrokerUnavailable):
            if address := broker_of(self.directory):
                return fetch_status(address)
        return {}

    def _session(self, name: str) -> dict[str, Any]:
        sessions = self.status().get("sessions", ())
        return next((one for one in sessions if one["name"] == name), {})

    def worker_now(self) -> dict[str, Any]:
        """The watched notebook's worker, as the broker knows it; {} where it has none."""
        return self._session("mine").get("worker") or {}

    def books(self) -> list[dict[str, Any]]:
        """The ledger's entries of leases, newest first."""
        address = broker_of(self.directory)
        assert address is not None
        return list(fetch_usage(address)["recent"])

    def has_beat(self) -> bool:
        """Whether the books know already that the watched cell runs, or ran."""
        own = (entry for entry in self.books() if entry["lease"] not in self._known)
        return any(entry["ran"] or entry["charged"] for entry in own)

    def lost_lease(self) -> dict[str, Any] | None:
        """The entry of the lease that was held when the failure came, once it is settled."""

        def entry() -> dict[str, Any] | None:
            return next((e for e in self.books() if e["lease"] == self._lease), None)

        wait_until(lambda: not (entry() or {}).get("open"), "the settling of the lease", 10)
        return entry()

    def charges(self) -> list[int]:
        """What the watched cell's leases were charged, in ms, once they are settled."""

        def settled() -> list[dict[str, Any]] | None:
            own = [entry for entry in self.books() if entry["lease"] not in self._known]
            return None if any(entry["open"] for entry in own) else [*own, {}]

        entries = wait_until(settled, "the settling of all leases", 10)[:-1]
        return [entry["charged"] for entry in reversed(entries)]

    def is_released(self) -> bool:
        """Whether worker and lease, as they were at the failure, are gone."""
        lease = self._session("mine").get("lease", "")
        return ended(self.worker) and (not lease or lease != self._lease) and bool(self.status())

    def has_new_broker(self) -> bool:
        """Whether another broker than at the failure serves, and the notebook is back with it."""
        status = self.status()
        sessions = [one["name"] for one in status.get("sessions", ())]
        return status.get("pid", self.broker.pid) != self.broker.pid and "mine" in sessions

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Ends everything; fails where something cannot be ended or outlives the rest."""
        self.gates.open_all()
        self.resume()
        try:
            while self._kernels:
                self._kernels.pop().close()
            end_broker(self.directory)
            wait_until(lambda: not list(self._left()), "the end of all processes", 10)
        except BaseException as error:
            for process in self._left():
                error.add_note(f"left: {process.pid} {process.status()} {process.cmdline()}")
                process.kill()
            raise
        finally:
            shutil.rmtree(self.directory, ignore_errors=self.directory.is_mount())

    def _left(self) -> Iterator[psutil.Process]:
        return processes_with(MARK, self._mark)


@contextmanager
def opened(one: Scene, with_rival: bool = False) -> Iterator[Scene]:
    """Starts a scene, and closes it however the block ends."""
    try:
        one.start(with_rival)
        yield one
    finally:
        one.close()


def _stops(process: psutil.Process) -> bool:
    """Whether a process is stopped, or will be when it thaws: a frozen one keeps the signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    is_pending = int(pending.split()[1], 16) & 1 << signal.SIGSTOP - 1
    return bool(is_pending) or process.status() == psutil.STATUS_STOPPED
