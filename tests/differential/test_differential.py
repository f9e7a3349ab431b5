from __future__ import annotations

import pytest

from tests.differential.judge import Pair
from tests.differential.program import Program, as_cases, load_all

WARN = {"sparse-and-quantised"}
"""Programs of which torch warns, of the line that called it: it is the emulation's where one is."""

KNOWN_DIFFERENCES: dict[str, str] = {}
"""Programs that do not agree yet, each with the reason. Strict: one that agrees must leave."""


@pytest.mark.parametrize("program", as_cases(load_all(), KNOWN_DIFFERENCES))
def test_gpu_cells_are_local_cells(program: Program, request: pytest.FixtureRequest) -> None:
    """Outputs, replies and the whole namespace agree, cell by cell, with a plain run."""
    pair: Pair = request.getfixturevalue(_pair_for(program))
    differences = pair.differences(program)
    assert not differences, f"{program.purpose}\n\n" + "\n\n".join(differences)


def _pair_for(program: Program) -> str:
    if program.name.startswith("cuda-") or program.name in WARN:
        return "cuda_pair"
    uses_torch = any("torch" in cell.source for cell in program.cells)
    return "torch_pair" if uses_torch else "pair"


def test_known_differences_are_programs() -> None:
    """The list of differences names only programs that there are."""
    assert set(KNOWN_DIFFERENCES) <= {program.name for program in load_all()}
