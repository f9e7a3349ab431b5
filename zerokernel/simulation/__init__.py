"""The simulator: a workload under the very scheduler that brokers run, beside two other ways."""

from zerokernel.simulation.comparison import Comparison, compare
from zerokernel.simulation.costs import Costs
from zerokernel.simulation.holding import HOLDING, hold
from zerokernel.simulation.measures import Measures, Spread, measure
from zerokernel.simulation.outcomes import Outcome, Run
from zerokernel.simulation.population import Population, generate
from zerokernel.simulation.sharing import FIRST_COME, OURS, share, share_first_come
from zerokernel.simulation.traces import read_trace, sample_path, write_trace
from zerokernel.simulation.workload import Cell, Notebook, Workload

__all__ = [
    "FIRST_COME",
    "HOLDING",
    "OURS",
    "Cell",
    "Comparison",
    "Costs",
    "Measures",
    "Notebook",
    "Outcome",
    "Population",
    "Run",
    "Spread",
    "Workload",
    "compare",
    "generate",
    "hold",
    "measure",
    "read_trace",
    "sample_path",
    "share",
    "share_first_come",
    "write_trace",
]
