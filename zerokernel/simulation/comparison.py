"""One workload under each way of sharing, measured alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from zerokernel.broker.scheduling import Policy
from zerokernel.simulation.costs import Costs
from zerokernel.simulation.holding import hold
from zerokernel.simulation.measures import Measures, measure, spread
from zerokernel.simulation.outcomes import Run
from zerokernel.simulation.sharing import share, share_first_come
from zerokernel.simulation.workload import Workload

TOLD_SECONDS = 60.0
TOLD_PLACES = 100


@dataclass(frozen=True)
class Comparison:
    """The runs, their measures by the same names, and what they were made of."""

    workload: Workload
    layout: Mapping[str, int]
    runs: Mapping[str, Run]
    measures: Mapping[str, Measures]

    def as_plain(self) -> dict[str, Any]:
        """Gives all figures, JSON-able."""
        return {
            "workload": {
                "origin": self.workload.origin,
                "seconds": self.workload.seconds,
                "users": self.workload.users,
                "notebooks": len(self.workload.notebooks),
                "cells": len(self.workload),
                "work_hours": self.workload.work / 3600,
                "slices": dict(self.layout),
                **shape(self.workload),
            },
            "ways": {name: asdict(one) for name, one in self.measures.items()},
            "computed_in": {name: run.seconds for name, run in self.runs.items()},
        }


def shape(workload: Workload) -> dict[str, Any]:
    """Gives how a workload is distributed, JSON-able: what traces are described by.

    Times in seconds; `longest_tenth` is the share of all work that the longest tenth of the
    cells is, `busiest_tenth` that of the tenth of the users who need most.
    """
    cells = [cell for one in workload.notebooks for cell in one.cells]
    thoughts = [cell.think for one in workload.notebooks for cell in one.cells[1:]]
    users: Counter[str] = Counter()
    for one in workload.notebooks:
        users[one.account.user] += round(1000 * sum(cell.run for cell in one.cells))
    return {
        "run_s": asdict(spread(cell.run for cell in cells)),
        "limit_s": asdict(spread(cell.limit for cell in cells)),
        "think_s": asdict(spread(thoughts)),
        "cells_of_a_notebook": asdict(spread(len(one.cells) for one in workload.notebooks)),
        "longest_tenth": _share_of_tenth([cell.run for cell in cells]),
        "busiest_tenth": _share_of_tenth([float(one) for one in users.values()]),
    }


def _share_of_tenth(numbers: list[float]) -> float:
    most = sorted(numbers, reverse=True)[: math.ceil(len(numbers) / 10)]
    total = math.fsum(numbers)
    return math.fsum(most) / total if total else 0.0


def compare(
    workload: Workload, layout: Mapping[str, int], policy: Policy, costs: Costs
) -> Comparison:
    """Simulates a workload by the scheduler's order, as it came, and with slices held.

    Args:
        workload: What is asked for.
        layout: Slices by size.
        policy: The scheduler's numbers; it decides nothing by how often places are told.
        costs: What starting and ending costs.
    """
    runs = (
        share(workload, layout, policy, costs),
        share_first_come(workload, layout, policy, costs),
        hold(workload, layout, costs),
    )
    slices = sum(layout.values())
    measures = {one.name: measure(one, workload, slices, policy, costs) for one in runs}
    return Comparison(workload, layout, {one.name: one for one in runs}, measures)


def seldom_told(policy: Policy) -> Policy:
    """Gives a policy under which places are told seldom enough for a long simulation."""
    return replace(policy, places_at_once=0, places_seconds=TOLD_SECONDS, places_told=TOLD_PLACES)
