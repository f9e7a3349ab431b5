"""Ends processes of a chaos run at random: which and when, a seed decides as far as it can."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.chaos.population import Kind, is_same, kinds, living

EVERYBODY = {
    Kind.WORKER: 8,
    Kind.CHILD: 2,
    Kind.SUPERVISOR: 3,
    Kind.BROKER: 3,
    Kind.KERNEL: 4,
}
"""How often each is meant, beside the others."""

GUESTS = {Kind.WORKER: 4, Kind.CHILD: 1, Kind.KERNEL: 1}
"""Those whose end broker and supervisor outlive."""


@dataclass(frozen=True)
class Kill:
    """A SIGKILL that was sent, and when, in monotonic seconds."""

    at: float
    kind: Kind
    process: int


class Killer:
    """Sends SIGKILL to processes of a run.

    Args:
        kernels: The process ids of the kernels that live now.
    """

    def __init__(self, mark: str, seed: int, kernels: Callable[[], Collection[int]]) -> None:
        self._mark = mark
        self._dice = random.Random(f"{seed} killer")
        self._kernels = kernels
        self.kills: list[Kill] = []
        self._ended: set[int] = set()

    def has_killed(self, process: int) -> bool:
        """Whether this process was ended."""
        return process in self._ended

    def storm(self, count: int, pause: float, weights: dict[Kind, int], until: float) -> int:
        """Kills so many, mostly ``pause`` seconds apart, now and then two at once.

        Returns:
            How many it got to before ``until``, in monotonic seconds.
        """
        done = 0
        while done < count and time.monotonic() < until:
            done += self._kill_one(weights)
            time.sleep(self._dice.choice([0.02, 2 * self._dice.expovariate(1 / pause)]))
        return done

    def _kill_one(self, weights: dict[Kind, int]) -> bool:
        wanted = self._dice.choices(list(weights), list(weights.values()))[0]
        lot = self._dice.random()
        kernels = set(self._kernels())
        found = kinds(living(self._mark), kernels)[wanted]
        if not found:
            return False
        one = found[int(lot * len(found))]
        # Noted before: whoever misses a kernel then asks whether it was killed.
        self._ended.add(one.process)
        if not is_same(one):
            return False
        with contextlib.suppress(ProcessLookupError):
            at = time.monotonic()
            os.kill(one.process, signal.SIGKILL)
            self.kills.append(Kill(at, wanted, one.process))
            return True
        return False
