"""Whole notebooks with every cell on a slice: those that users read first, and studies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.differential.judge import Pair
from tests.differential.program import Cell, Program, as_cases, load_all
from tests.kernels import ROOT

HERE = Path(__file__).parent / "notebooks"
SLOW = {"03-models-on-cuda"}
LEFT_OUT = re.compile(r"%load_ext|^%gpu|^%%expect|--cpu|zerokernel|getpid", re.MULTILINE)
"""Cells about zerokernel itself: a plain kernel has nothing to compare them with."""


def _everywhere(cell: Cell) -> str:
    return f"%%gpu --quiet\n{cell.source}"


def shipped(path: Path) -> Program:
    """A notebook of ours as a program: its GPU cells without their first line."""
    content = json.loads(path.read_text())
    cells = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not LEFT_OUT.search(source):
            cells.append(Cell(re.sub(r"^%%gpu.*\n", "", source), True))
    return Program(path.stem, "a notebook that is shipped", tuple(cells))


def _programs() -> list[Program]:
    return [*load_all(HERE), *map(shipped, sorted((ROOT / "notebooks").glob("*.ipynb")))]


def _cases() -> list[pytest.ParameterSet]:
    """Each notebook; those that take a minute are slow."""
    slow = [pytest.mark.slow]
    return [
        pytest.param(*case.values, id=case.id, marks=slow) if case.id in SLOW else case
        for case in as_cases(_programs(), {})
    ]


def _pair_for(program: Program) -> str:
    """The kernels that a notebook needs: with torch, and with a `cuda` device."""
    text = "".join(cell.source for cell in program.cells)
    return "cuda_pair" if '.to("cuda")' in text else "torch_pair" if "torch" in text else "pair"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", _cases())
def test_a_notebook_in_which_every_cell_is_a_gpu_cell(
    program: Program, request: pytest.FixtureRequest
) -> None:
    """Each cell shows, raises and answers what it would in a plain kernel.

    What later cells see of the namespace is told by their results, as to a reader; every object
    that libraries keep inside figures and estimators is not looked at.
    """
    for library in ("sklearn", "pandas", "matplotlib", "transformers", "diffusers"):
        if any(library in cell.source for cell in program.cells):
            pytest.importorskip(library)
    pair: Pair = request.getfixturevalue(_pair_for(program))
    found = pair.differences(program, _everywhere, timeout=120)
    assert program.cells
    differences = [one for one in found if "(namespace)" not in one.partition("\n")[0]]
    assert not differences, f"{program.name}\n\n" + "\n\n".join(differences)
