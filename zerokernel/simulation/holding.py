"""Every notebook holds a GPU: what shared servers do without leases. A model of its own.

A notebook waits for a slice at its first cell, first come, first served, keeps it until it
is closed, and its later cells start at once.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping

from zerokernel.simulation.costs import Costs
from zerokernel.simulation.outcomes import Outcome, Run
from zerokernel.simulation.workload import Notebook, Workload

HOLDING = "every notebook holds a GPU"


def hold(workload: Workload, layout: Mapping[str, int], costs: Costs | None = None) -> Run:
    """Serves a workload so that each notebook has its slice from its first cell to its end."""
    begun, run = time.process_time(), Run(HOLDING)
    free = {size: [0.0] * count for size, count in layout.items()}
    for notebook in sorted(workload.notebooks, key=_first_asked):
        if notebook.cells:
            slices = free[notebook.size]
            granted = max(_first_asked(notebook), slices[0])
            closed = _serve(run, notebook, granted, costs or Costs())
            heapq.heapreplace(slices, closed)
            run.held.append((granted, closed))
    run.outcomes.sort(key=lambda one: one.asked)
    run.seconds = time.process_time() - begun
    return run


def _first_asked(notebook: Notebook) -> float:
    return notebook.opens + (notebook.cells[0].think if notebook.cells else 0.0)


def _serve(run: Run, notebook: Notebook, granted: float, costs: Costs) -> float:
    """Runs all cells of a notebook that has its slice. Gives when it is closed."""
    free = granted
    for index, cell in enumerate(notebook.cells):
        asked = _first_asked(notebook) if index == 0 else free + cell.think
        start = granted + costs.fork + costs.bind if index == 0 else asked
        free = start + cell.run
        had = granted if index == 0 else asked
        run.outcomes.append(
            Outcome(notebook, index, asked, had, start, free, cell.run, "finished", grants=1)
        )
    return free + notebook.lingers
