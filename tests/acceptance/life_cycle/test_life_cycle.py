"""Each cell of the table of zerokernel.lifecycle, made to happen."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.life_cycle.scene import Scene, opened
from tests.kernels import Run, wait_until
from zerokernel.lifecycle import FAILURES, Failure, Fate, Outcome, Party, Phase, outcome

SLACK_SECONDS = 4.0
"""A busy machine may be so much later than the table says."""

SHORT = {
    "bind_seconds": 2.0,
    "return_seconds": 2.0,
    "supervisor_silence_seconds": 3.0,
    "broker_silence_seconds": 6.0,
    "limit": 3.0,
}
"""Only the time that a case is about is short, so that nobody else's clock can act."""

_EVERY = frozenset(Phase)
_QUICK: dict[tuple[Party, Failure], frozenset[Phase]] = {
    (Party.KERNEL, Failure.DIES): frozenset(
        {Phase.QUEUED, Phase.GRANTED, Phase.RUNNING, Phase.COMMITTING}
    ),
    (Party.KERNEL, Failure.HANGS): frozenset({Phase.RUNNING}),
    (Party.WORKER, Failure.DIES): _EVERY,
    (Party.WORKER, Failure.HANGS): frozenset({Phase.BINDING}),
    (Party.SUPERVISOR, Failure.DIES): frozenset(
        {Phase.STAGING, Phase.QUEUED, Phase.RUNNING, Phase.PARKED}
    ),
    (Party.SUPERVISOR, Failure.HANGS): frozenset({Phase.RETURNING}),
    (Party.BROKER, Failure.DIES): _EVERY,
    (Party.BROKER, Failure.HANGS): frozenset({Phase.RUNNING}),
    (Party.MACHINE, Failure.DIES): frozenset({Phase.GRANTED, Phase.RUNNING}),
    (Party.NETWORK, Failure.CUT): frozenset({Phase.QUEUED, Phase.RUNNING, Phase.COMMITTING}),
}
"""What runs each time; the others are marked slow. Each row and each phase is here."""


def _cases() -> Iterator[Any]:
    for (party, failure), phase in itertools.product(FAILURES, Phase):
        name = f"{party} {failure} {phase}".replace("is cut", "cut")
        marks = [] if phase in _QUICK[party, failure] else [pytest.mark.slow]
        yield pytest.param(party, failure, phase, id=name.replace(" ", "-"), marks=marks)


@pytest.mark.parametrize(("party", "failure", "phase"), list(_cases()))
def test_it_happens_as_the_table_says(party: Party, failure: Failure, phase: Phase) -> None:
    """Who acts in time, what is charged, what the namespace holds, what the user reads."""
    rule = outcome(party, failure, phase)
    settings = {name: str(SHORT[name]) for name in (rule.within,) if name in SHORT}
    limit = float(settings.pop("limit", 60.0))
    with opened(Scene(limit, settings), phase in (Phase.QUEUED, Phase.GRANTED)) as one:
        one.reach(phase)
        if party is Party.MACHINE and phase.ran:
            wait_until(one.has_beat, "a heartbeat in the books")
        failed_at = one.fail(party, failure)
        _act(one, party, failure, phase, rule)
        seconds = time.monotonic() - failed_at
        _let_go(one)
        if rule.cause and (ended := one.lost_lease()):
            assert ended["cause"] == rule.cause
        if rule.fate is Fate.GONE:
            _check_gone(one, rule)
        else:
            _check_cell(one, rule, phase)
        if one.has_rival and party not in (Party.SUPERVISOR, Party.MACHINE):
            assert one.rivals_run().status == "ok", "it is nobody's victim"
    assert seconds < _within(rule) + SLACK_SECONDS


def _within(rule: Outcome) -> float:
    if isinstance(rule.within, str):
        return SHORT.get(rule.within, 10.0)
    return rule.within


# --- waiting for who acts -------------------------------------------------------------------


def _act(one: Scene, party: Party, failure: Failure, phase: Phase, rule: Outcome) -> None:
    """Waits until the one who has to act has acted."""
    if party is Party.MACHINE:
        one.kernel = one.another_kernel()
        wait_until(one.has_new_broker, "the next broker", 30)
        return
    if rule.actor is None:
        return
    if party is Party.BROKER:
        wait_until(one.has_new_broker, "the next broker", 30)
        return
    if party is Party.NETWORK:
        one.resume()  # a worker that stands still notices nothing
    if party is Party.KERNEL and failure is Failure.HANGS:
        one.gates.open_all()  # its cell has its turn, and what it made waits
        one.resume(one.worker)
    elif party is Party.WORKER and failure is Failure.HANGS:
        one.end_rival()  # nobody looks at a worker that is not needed
    wait_until(one.is_released, "the end of lease and worker", 30)


def _let_go(one: Scene) -> None:
    one.gates.open_all()
    one.resume()


# --- checking -------------------------------------------------------------------------------


def _check_gone(one: Scene, rule: Outcome) -> None:
    """The kernel is no more: the books are right, and another notebook is served."""
    charges = one.charges()
    assert (sum(charges) > 0) is rule.charged, charges
    if rule.actor is Party.BROKER and rule.within != "next start":
        one.kernel = one.another_kernel()
    run = one.run("%%gpu\ny = 1")
    assert run.status == "ok", _told(run)


def _check_cell(one: Scene, rule: Outcome, phase: Phase) -> None:
    if phase is Phase.PARKED:
        assert one.charges() == [], "nothing ran"
        one.run_cell()
    run = one.collect()
    charges = one.charges()
    state = one.plain("print(x, alias is x, 'fresh' in globals(), 'large' in globals())")
    if rule.fate is Fate.LOST:
        error = run.error()
        assert error["ename"] == rule.error, error
        assert "Nothing was changed" in error["evalue"]
        assert state == "[1] True False False"
        assert (sum(charges) > 0) is rule.charged, charges
    else:
        assert run.status == "ok", _told(run)
        assert state == "[1, 2] True True True"
        assert one.gates.noted("begun") == 1, "its first line ran once"
        assert charges[-1] > 0
        assert sum(charges[:-1]) == 0, charges
    _check_next_cell(one, state)


def _told(run: Run) -> str:
    """What a run shows, short enough for a failing test."""
    lines = [f"{line}" for output in run.outputs for line in output.get("traceback", ())]
    return f"{run.status}: " + "\n".join(lines)[-3000:] + run.text()[-500:]


def _check_next_cell(one: Scene, state: str) -> None:
    run = one.run("%%gpu\nx.append(3)")
    assert run.status == "ok", _told(run)
    before = state.partition("]")[0]
    assert one.plain("print(x, alias is x)") == f"{before}, 3] True"


def test_a_worker_that_dies_in_the_queue_does_not_cost_the_place() -> None:
    """The request stays where it is, and another worker takes what was packed."""
    with opened(Scene(), with_rival=True) as one:
        one.reach(Phase.QUEUED)
        (before,) = one.status()["queue"]
        one.fail(Party.WORKER, Failure.DIES)
        wait_until(lambda: one.worker_now().get("process") not in (None, one.worker.pid), "a fork")
        (now,) = one.status()["queue"]
        assert now["request"] == before["request"]
        one.end_rival()
        assert one.collect().status == "ok"
        assert len(one.charges()) == 1


@pytest.mark.parametrize("evicted", [False, True], ids=["parked", "evicted"])
def test_a_result_that_was_sent_arrives_at_a_kernel_that_stood_still(evicted: bool) -> None:
    """The slice serves others meanwhile; even the worker's end takes nothing of it back."""
    with opened(Scene(), with_rival=evicted) as one:
        cell = one.submit_held("x.append(2)\nheld.gates().pause('running')", gate="running")
        one.fail(Party.KERNEL, Failure.HANGS)
        one.gates.open_all()
        wait_until(lambda: one.worker_now().get("state") == "parked", "the end of the cell")
        if evicted:
            one.start_rival()
            wait_until(lambda: not one.worker_now(), "the eviction")
        one.resume()
        run = one.kernel.collect(cell)
        assert run.status == "ok", _told(run)
        assert one.plain("print(x, alias is x)") == "[1, 2] True"
