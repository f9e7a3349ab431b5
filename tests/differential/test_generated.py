"""Programs that nobody wrote: random object graphs, read and changed in plain and GPU cells.

`ZEROKERNEL_PROGRAMS=N` says how many of them run (2,000 unless said, 100,000 in the slow test).
They come in lots of a fixed seed each, so that the id of a test that fails repeats it.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential.generated.quick_pair import QuickPair, script
from tests.differential.generated.writer import Round, write

LOT = 250
"""Programs of one test."""
USUAL = int(os.environ.get("ZEROKERNEL_PROGRAMS", 2_000))
MANY = 100_000

number = st.integers(0, 999)
draws = st.lists(st.tuples(number, number, number, number), min_size=1, max_size=6)
places = st.sampled_from(["gpu"] * 7 + ["plain"] * 3)
first = st.tuples(st.just("plain"), st.lists(st.tuples(number, number, number, number), max_size=5))
rounds = st.lists(st.tuples(places, draws), min_size=1, max_size=6)
losses = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["kill", "lost"])), max_size=1)


def lot(start: int, count: int, pair: QuickPair, *, torch: bool = True) -> None:
    """Judges so many programs of one seed; the shortest that fails is told as cells."""

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
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
    pytest.importorskip("torch")
    pair = QuickPair(tmp_path_factory.mktemp("quick-pair"))
    yield pair
    pair.close()


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
