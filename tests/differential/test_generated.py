"""Programs that nobody wrote: random object graphs, read and changed in plain and GPU cells.

`ZEROKERNEL_PROGRAMS=N` says how many of them run (2,000 unless said, 100,000 with the slow tests).
They come in lots of a fixed seed each. Hypothesis also tries numbers that it finds in the modules
that are loaded, so that a lot is the same only after the same tests; a program that fails is told
as cells, which repeat it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential.generated.mutants import HOOK, MUTANTS, VARIABLE
from tests.differential.generated.quick_pair import QuickPair, script
from tests.differential.generated.writer import Round, write
from tests.differential.judge import ALL_LIBRARIES
from tests.kernels import ROOT
from tests.leftovers import end_broker

LOT = 250
"""Programs of one test."""
USUAL = int(os.environ.get("ZEROKERNEL_PROGRAMS", 2_000))
MANY = 100_000

HAS_TORCH = "torch" in ALL_LIBRARIES

number = st.integers(0, 999)
draws = st.lists(st.tuples(number, number, number, number), min_size=1, max_size=6)
places = st.sampled_from(["gpu"] * 7 + ["plain"] * 3)
first = st.tuples(st.just("plain"), st.lists(st.tuples(number, number, number, number), max_size=5))
rounds = st.lists(st.tuples(places, draws), min_size=1, max_size=6)
losses = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["kill", "lost"])), max_size=1)


def lot(
    start: int, count: int, pair: QuickPair, *, torch: bool = HAS_TORCH, shrink: bool = True
) -> None:
    """Judges so many programs of one seed; the shortest that fails is told as cells."""

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(first, rounds, st.booleans(), st.integers(0, 9), losses)
    def agrees(
        first: Round, rounds: list[Round], hold: bool, chance: int, losses: list[tuple[int, str]]
    ) -> None:
        cells = [first, *rounds]
        for place, how in losses if chance == 9 else ():
            _, draws = cells[place % len(cells)]
            cells.insert(place % len(cells) + 1, (how, draws))
        program = write(cells, hold=hold, torch=torch)
        differences = pair.judge(program)
        assert not differences, "\n\n".join([script(program), *differences])

    agrees()


@pytest.fixture(scope="session")
def quick_pair(tmp_path_factory: pytest.TempPathFactory):
    pair = QuickPair(tmp_path_factory.mktemp("quick-pair"))
    yield pair
    pair.close()


@pytest.fixture
def mutated_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QuickPair]:
    """A pair whose leasing side has a fault, with a broker and a forkserver of its own."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    runtime = Path(tempfile.mkdtemp(prefix="zk-"))  # short: it holds sockets
    environment = {
        VARIABLE: request.param,
        "PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]),
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(runtime),
    }
    pair = QuickPair(tmp_path, libraries="numpy", environment=environment)
    yield pair
    pair.close()
    end_broker(runtime)
    shutil.rmtree(runtime)


def _lots() -> list[pytest.ParameterSet]:
    return [
        pytest.param(start, marks=[] if start * LOT < USUAL else [pytest.mark.slow])
        for start in range(MANY // LOT)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", _lots())
def test_generated_programs_agree(start: int, quick_pair: QuickPair) -> None:
    """Outputs, errors and namespaces of each program agree with a plain run, cell by cell."""
    lot(start, LOT, quick_pair)


FOUND = r"cell \d|fails after|sub-exc|the observer failed"
"""What is said of a difference, of several, or where the namespace cannot even be looked at."""
QUICK_MUTANTS = ("dict_order", "lists_unchanged", "lost_alias")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "mutated_pair",
    [
        pytest.param(name, marks=[] if name in QUICK_MUTANTS else [pytest.mark.slow])
        for name in MUTANTS
    ],
    indirect=True,
)
def test_a_fault_in_the_crossing_is_found(mutated_pair: QuickPair) -> None:
    """Few programs suffice to find a crossing that is wrong in one respect."""
    with pytest.raises((AssertionError, BaseExceptionGroup), match=FOUND):
        lot(0, LOT, mutated_pair, torch=False, shrink=False)
