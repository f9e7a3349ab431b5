"""The chaos run itself: kernels, kills, quiet moments, and what is left at the end."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import audit, witness
from tests.chaos.enclosure import Enclosure
from tests.chaos.killer import EVERYBODY, GUESTS, Killer
from tests.chaos.population import MARK, Kind, kinds, living
from tests.chaos.seat import Answer, Plan, Seat, plan
from tests.kernels import ROOT, unique, wait_until
from tests.leftovers import broker_of, end_broker, shared_memory
from zerokernel.client.rest import fetch_status

_NO_TORCH = """\
import importlib.util as _util
_find = _util.find_spec
_util.find_spec = lambda name, package=None: None if name == "torch" else _find(name, package)
"""
"""Nothing here needs torch, which a forkserver imports for seconds where it finds it."""

_CALM_SECONDS = 30.0


@dataclass(frozen=True)
class Weather:
    """How hard it is.

    Attributes:
        kills: How many SIGKILLs in all; a fifth of them spare broker and supervisor.
        cells: At least so many cells.
        pause: Seconds between two kills, in the mean.
        seconds: After these no more is killed, and what is missing is a fault.
    """

    seed: int
    kills: int
    cells: int = 24
    kernels: int = 10
    slices: int = 2
    pause: float = 1.0
    seconds: float = 600.0


@dataclass
class Report:
    """What happened."""

    weather: Weather
    faults: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stall: float = 0.0
    descriptors: str = ""
    folder: str = ""

    def text(self) -> str:
        """For a person."""
        fates = Counter(one.fate for one in self.answers)
        errors = Counter(one.error.partition(":")[0] for one in self.answers if one.error)
        return "\n".join(
            [
                f"{self.weather}",
                f"{self.seconds:.0f} s, longest stall of a cell {self.stall:.2f} s",
                f"kills: {sum(self.kills.values())} {dict(self.kills)}",
                f"cells: {len(self.answers)} {dict(fates)}, errors {dict(errors)}",
                *(f"  for instance {one}" for one in self._samples()),
                f"descriptors: {self.descriptors}",
                f"faults: {len(self.faults)}{' (see ' + self.folder + ')' if self.faults else ''}",
                *(f"  - {fault}" for fault in self.faults),
            ]
        )

    def _samples(self) -> list[str]:
        """One error of each name, shortened."""
        firsts = {one.error.partition(":")[0]: one for one in reversed(self.answers) if one.error}
        return [f"cell {one.cell}: {one.error[:300]!r}" for one in firsts.values()]


class Storm:
    """One run."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._mark = unique("chaos")
        self._directory = Path(tempfile.mkdtemp(prefix="zk-"))
        self._folder = self._directory / "chaos"
        self._folder.mkdir()
        (self._folder / "sitecustomize.py").write_text(_NO_TORCH)
        self._enclosure = Enclosure(self._mark)
        self._shared_memory = shared_memory()
        self._killer = Killer(self._mark, weather.seed, self._kernels)
        environment = self._environment()
        self._seats = [
            Seat(environment | {"JPY_SESSION_NAME": f"seat {n}"}, self._killer.has_killed)
            for n in range(weather.kernels)
        ]
        # Changed by the seats' threads, under the lock.
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._report = Report(weather, folder=str(self._directory))

    def _environment(self) -> dict[str, str]:
        return {
            "ZEROKERNEL_RUNTIME_DIRECTORY": str(self._directory),
            "ZEROKERNEL_DEVICES": "simulated",
            "ZEROKERNEL_SIMULATED_SLICES": str(self._weather.slices),
            "ZEROKERNEL_LEDGER": "sql",
            "PYTHONPATH": f"{self._folder}{os.pathsep}{ROOT}",
            witness.FOLDER: str(self._folder),
            MARK: self._mark,
        }

    def _kernels(self) -> list[int]:
        return [seat.process for seat in self._seats if seat.process]

    # --- the course of it ---------------------------------------------------------------

    def run(self) -> Report:
        """Does all of it. Ends what it started, whatever happens."""
        begun = time.monotonic()
        try:
            self._rage(begun)
            self._end()
            self._examine()
        except Exception:
            self._fault(f"the run itself failed:\n{traceback.format_exc()}")
        finally:
            self._enclosure.leave()
        self._report.seconds = time.monotonic() - begun
        self._report.kills = Counter(str(one.kind) for one in self._killer.kills)
        if not self._report.faults:
            shutil.rmtree(self._directory)
        return self._report

    def give_up(self) -> Report:
        """Ends everything from another thread; tells what happened so far."""
        self._fault(f"it was ended, while there were: {self._who_is_there()}")
        self._enclosure.leave()
        return self._report

    def _rage(self, begun: float) -> None:
        weather, until = self._weather, begun + self._weather.seconds
        few = weather.kills // 5
        with ThreadPoolExecutor(weather.kernels) as pool:
            self._each(pool, self._calm_cell)
            self._kill(pool, weather.kills - few, EVERYBODY, until)
            self._each(pool, self._calm_cell)
            before = self._settled_descriptors()
            self._kill(pool, few, GUESTS, until)
            self._each(pool, self._calm_cell)
            self._compare_descriptors(before)
            self._each(pool, Seat.leave)
        if (missing := weather.kills - len(self._killer.kills)) > 0:
            self._fault(f"{missing} kills were not got to within {weather.seconds:.0f} s")

    def _kill(
        self, pool: ThreadPoolExecutor, count: int, weights: dict[Kind, int], until: float
    ) -> None:
        """Kills while all seats run one cell after the other, at least their share of cells."""
        share = len(self._report.answers) + self._weather.cells * count // self._weather.kills
        stop = threading.Event()
        working = [pool.submit(self._work, seat, stop) for seat in self._seats]
        self._killer.storm(count, self._weather.pause, weights, until)
        while len(self._report.answers) < share and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()
        for one in working:
            one.result()

    def _work(self, seat: Seat, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                planned = plan(self._weather.seed, next(self._numbers))
            self._run_cell(seat, planned)

    def _calm_cell(self, seat: Seat) -> None:
        """When nobody kills, every cell ends well."""
        with self._lock:
            planned = Plan(next(self._numbers), 0.0, 0.05, "", 100)
        answer = self._run_cell(seat, planned)
        if answer is not None and answer.fate != "ok":
            self._fault(f"a cell in a quiet moment failed: {answer}")

    def _run_cell(self, seat: Seat, planned: Plan) -> Answer | None:
        try:
            answer = seat.run(planned)
        except Exception:
            self._fault(f"cell {planned.cell}:\n{traceback.format_exc()}")
            seat.leave()
            return None
        if answer.fate == "hung":
            self._fault(f"while cell {planned.cell} hung: {self._who_is_there()}")
        with self._lock:
            self._report.answers.append(answer)
        return answer

    def _each(self, pool: ThreadPoolExecutor, action: Callable[[Seat], None]) -> None:
        for _ in pool.map(action, self._seats):
            pass

    def _fault(self, text: str) -> None:
        with self._lock:
            self._report.faults.append(text)

    def _who_is_there(self) -> str:
        found = kinds(living(self._mark), self._kernels())
        return ", ".join(f"{kind}: {[o.process for o in each]}" for kind, each in found.items())

    # --- descriptors --------------------------------------------------------------------

    def _descriptors(self) -> dict[str, int]:
        """Open descriptors of broker and supervisors."""
        found = kinds(living(self._mark), self._kernels())
        return {
            f"{kind} {one.process}": len(os.listdir(f"/proc/{one.process}/fd"))
            for kind in (Kind.BROKER, Kind.SUPERVISOR)
            for one in found[kind]
        }

    def _settled_descriptors(self) -> dict[str, int]:
        """The same, once those are over that were started while another was."""

        def settled() -> bool:
            address = broker_of(self._directory)
            assert address is not None
            known = {one["process"] for one in fetch_status(address)["engine"]["supervisors"]}
            found = kinds(living(self._mark), self._kernels())
            supervisors = {one.process for one in found[Kind.SUPERVISOR]}
            return len(found[Kind.BROKER]) == 1 and supervisors <= known

        try:
            wait_until(settled, "the end of spare brokers and supervisors", _CALM_SECONDS)
        except AssertionError:
            self._fault(f"spare brokers or supervisors: {self._who_is_there()}")
        return self._descriptors()

    def _compare_descriptors(self, before: dict[str, int]) -> None:
        """Those of the same processes with as many notebooks must not be more."""

        def grown() -> list[str]:
            after = self._descriptors()
            self._report.descriptors = f"{before}, then {after}"
            return [name for name, count in before.items() if after.get(name, 99999) > count]

        try:
            wait_until(lambda: not grown(), "the closing of descriptors", 10)
        except AssertionError:
            self._fault(f"descriptors grow: {self._report.descriptors}")

    # --- the end ------------------------------------------------------------------------

    def _end(self) -> None:
        try:
            end_broker(self._directory)
        except Exception as error:
            self._fault(f"the end of the broker: {error!r}; {self._who_is_there()}")
        for what, find in (
            ("processes", self._enclosure.processes),
            ("control groups", self._enclosure.groups),
            ("files", self._files),
            ("shared memory", lambda: sorted(shared_memory() - self._shared_memory)),
        ):
            self._wait_for_end(what, find)

    def _wait_for_end(self, what: str, find: Callable[[], list[str]]) -> None:
        try:
            wait_until(lambda: not find(), f"the end of {what}", _CALM_SECONDS)
        except AssertionError:
            self._fault(f"{what} are left: {find()}")

    def _files(self) -> list[str]:
        """Sockets, addresses and records; logs are meant to stay."""
        names = (
            path.name for path in self._directory.iterdir() if path.is_file() or path.is_socket()
        )
        suffixes = (".sock", ".address", ".process", ".new", ".json")
        return sorted(name for name in names if name.endswith(suffixes))

    def _examine(self) -> None:
        lines = witness.read(self._folder, witness.LOG)
        violations = witness.read(self._folder, witness.VIOLATIONS)
        books = audit.read_books(self._directory / "ledger.sqlite")
        report, kills = self._report, self._killer.kills
        record = "".join(f"{one}\n" for one in (*kills, *report.answers))
        (self._folder / "record").write_text(record)
        report.stall = audit.longest_stall(lines)
        report.faults += audit.examine(report.answers, lines, violations, books, kills)
