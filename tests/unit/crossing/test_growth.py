"""What both sides note of objects goes with the objects."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pytest

from zerokernel.crossing import KernelReplica, WorkerReplica

CELLS = 80


class Thing:
    """Has a state of its own, so that a digest is kept of it."""

    def __init__(self) -> None:
        self.items = [1]

    def __getstate__(self) -> dict[str, Any]:
        return {"items": self.items}


def _noted(owner: object, depth: int = 3) -> int:
    """The entries of all containers that an object of the crossing keeps."""
    found = 0
    for value in vars(owner).values():
        if isinstance(value, dict | set | list) and value is not getattr(owner, "namespace", None):
            found += len(value)
            nested = value.values() if isinstance(value, dict) else value
        else:
            nested = (value,)
        for one in list(nested)[:50] if depth else ():
            if type(one).__module__.startswith("zerokernel.crossing") and hasattr(one, "__dict__"):
                found += _noted(one, depth - 1)
    return found


@pytest.mark.usefixtures("small_heap")
def test_cells_that_make_all_anew_leave_nothing_behind() -> None:
    """Arrays, generators, objects with a digest and lists: both tables stay as they were."""
    here: dict[str, Any] = {"__name__": "__main__"}
    there: dict[str, Any] = {"__name__": "__main__"}
    kernel, worker = KernelReplica(here), WorkerReplica(there)
    sizes = []
    for _ in range(CELLS):
        here["x"] = [np.zeros(4), random.Random(1), Thing(), [[]], bytearray(9)]
        shipment = kernel.ship(["x"])
        kernel.settle()
        worker.receive(shipment.payload, [])
        there["x"][3].append(np.ones(3))
        kernel.stage(worker.returns({}).payload, []).commit()
        kernel.prune()
        gc.collect()
        sizes.append((_noted(kernel), _noted(worker)))
    # They go up and down: some of what is gone is only looked for now and then.
    for early, late in zip(_most(sizes[: CELLS // 2]), _most(sizes[CELLS // 2 :]), strict=True):
        assert late <= early * 1.1, sizes


def _most(sizes: list[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(map(max, zip(*sizes, strict=True)))
