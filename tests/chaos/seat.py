"""One notebook of the chaos run: runs cells, checks each against its namespace, is replaced."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kernels import Kernel, KernelStuck, Run

ANSWER_SECONDS = 90.0
"""A cell that is not answered by then hangs."""

_SET_UP = """\
import json
from tests.chaos import witness
log = []; alias = log; counter = 0; made = b""; ballast = bytes(1 << 20)
"""
_CELL = """\
%%gpu -d 300
log.append({cell})
ballast
witness.attend({cell}, {seconds}, {child!r})
counter += 1
made = bytes({size})
"""
_LOOK = "print(json.dumps([log, counter, len(made), alias is log]))"


@dataclass(frozen=True)
class Plan:
    """One cell, as the seed has it.

    Attributes:
        pause: Seconds before it is sent.
        seconds: How long it runs on its slice.
        child: See `witness.attend`.
        size: Bytes that it makes and that travel home.
    """

    cell: int
    pause: float
    seconds: float
    child: str
    size: int


def plan(seed: int, cell: int) -> Plan:
    """Gives the cell of this number."""
    dice = random.Random(f"{seed} cell {cell}")
    return Plan(
        cell,
        pause=dice.choice([0.0, 0.0, dice.uniform(0, 0.5)]),
        seconds=dice.choice([0.0, 0.1, dice.uniform(0.1, 1.5)]),
        child=dice.choice(["", "", "program", "fork"]),
        size=dice.choice([0, 100, 4 << 20]),
    )


@dataclass(frozen=True)
class Answer:
    """What became of a cell.

    Attributes:
        fate: "ok", "error", "kernel lost", or "hung".
        error: Name and text of the error.
        ran: Seconds by its receipt, None where it has none.
        faults: What the notebook said that disagrees.
        sent_at, answered_at: Monotonic seconds.
    """

    cell: int
    fate: str
    sent_at: float
    answered_at: float
    error: str = ""
    ran: float | None = None
    faults: tuple[str, ...] = ()


class Seat:
    """Where one kernel after the other sits.

    Args:
        environment: Of its kernels.
        was_killed: Whether the killer has ended this process.
    """

    def __init__(self, environment: Mapping[str, str], was_killed: Callable[[int], bool]) -> None:
        self._environment = environment
        self._was_killed = was_killed
        self._kernel: Kernel | None = None
        self._state: list[Any] = []  # what the notebook's names should be
        self.process = 0  # the kernel that may be killed, 0 while there is none

    def run(self, planned: Plan) -> Answer:
        """Runs one cell, and looks what it has left."""
        time.sleep(planned.pause)
        sent_at = time.monotonic()
        try:
            kernel = self._ready_kernel()
            sent_at = time.monotonic()
            run = kernel.run(_CELL.format_map(vars(planned)), ANSWER_SECONDS)
            answered_at = time.monotonic()
            faults = self._compare(kernel, planned, run)
        except KernelStuck as stuck:
            lost = self._was_killed(self.process)
            self.leave()
            fate = "kernel lost" if lost else "hung"
            why = "" if lost else str(stuck)
            return Answer(planned.cell, fate, sent_at, time.monotonic(), why)
        error = "" if run.status == "ok" else _error_of(run)
        fate = "ok" if run.status == "ok" else "error"
        return Answer(planned.cell, fate, sent_at, answered_at, error, _ran(run), faults)

    def leave(self) -> None:
        """Ends the kernel, if there is one."""
        kernel, self._kernel, self.process = self._kernel, None, 0
        if kernel is not None:
            kernel.close()

    def _ready_kernel(self) -> Kernel:
        if self._kernel is None:
            self._kernel = kernel = Kernel(self._environment)
            self.process = kernel.pid
            kernel.load_extension()
            assert kernel.run(_SET_UP).status == "ok"
            self._state = [[], 0, 0, True]
        return self._kernel

    def _compare(self, kernel: Kernel, planned: Plan, run: Run) -> tuple[str, ...]:
        """All of a cell that ended well is there, and nothing of one that did not."""
        log, counter, size, alias = self._state
        if run.status == "ok":
            log, counter, size = [*log, planned.cell], counter + 1, planned.size
        expected = [log, counter, size, alias]
        look = kernel.run(_LOOK)
        found = json.loads(look.text("stdout")) if look.status == "ok" else look.reply
        self._state = expected
        if found == expected:
            return ()
        return (f"after {run.status} the notebook has {found} instead of {expected}",)


def _error_of(run: Run) -> str:
    reply = run.reply or {}
    return f"{reply.get('ename')}: {reply.get('evalue')}"


def _ran(run: Run) -> float | None:
    said = [output["metadata"]["zerokernel"] for output in run.own()]
    receipts = [one["ran"] for one in said if one.get("phase") == "receipt"]
    return receipts[-1] if receipts else None
