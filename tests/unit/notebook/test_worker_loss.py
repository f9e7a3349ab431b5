from __future__ import annotations

import pytest

from zerokernel.lifecycle import Cause
from zerokernel.messages import WorkerGone
from zerokernel.notebook.worker_loss import CAUSE_SECONDS, WorkerLoss

KILLED = WorkerGone("session", "killed")


@pytest.fixture
def loss() -> WorkerLoss:
    loss = WorkerLoss("session")
    loss.notice(10.0)
    return loss


def test_a_worker_that_lives_needs_no_explanation() -> None:
    """Nothing is lost before it is noticed, however late it is."""
    loss = WorkerLoss("session")
    assert not loss.noticed
    assert not loss.wants_reason
    assert loss.explanation(1e9, broker_away=False) is None


def test_what_the_broker_says_is_the_explanation(loss: WorkerLoss) -> None:
    """It is waited for, and then believed."""
    assert loss.wants_reason
    assert loss.explanation(10.0 + CAUSE_SECONDS, broker_away=False) is None
    loss.explain(KILLED)
    assert not loss.wants_reason
    assert loss.explanation(10.0, broker_away=False) is KILLED


@pytest.mark.parametrize(
    ("lease_end", "broker_away", "cause"),
    [
        ("", False, Cause.EXITED),
        ("", True, Cause.BROKER_LOST),
        (Cause.DEADLINE, True, Cause.DEADLINE),
    ],
)
def test_a_loss_that_nobody_explains(
    loss: WorkerLoss, lease_end: str, broker_away: bool, cause: Cause
) -> None:
    """After a while the lease's end stands for the reason, or the broker's silence does."""
    loss.lease_ended(lease_end)
    loss.notice(11.0)  # later news of the same
    found = loss.explanation(10.1 + CAUSE_SECONDS, broker_away)
    assert found == WorkerGone("session", cause)


@pytest.mark.parametrize(
    ("reason", "over"), [("", False), (Cause.FINISHED, False), (Cause.DEADLINE, True)]
)
def test_a_lease_that_ends_early_is_a_loss(reason: str, over: bool) -> None:
    """Unless its task finished; and only until the loss is noticed."""
    loss = WorkerLoss("session")
    loss.lease_ended(reason)
    assert loss.lease_is_over is over
    loss.notice(0.0)
    assert not loss.lease_is_over


def test_a_worker_is_replaced_once(loss: WorkerLoss) -> None:
    """A worker that dies while its cell waits has one successor; one that was taken, any number."""
    loss.explain(KILLED)
    assert loss.is_replaceable(Cause.EVICTED)
    loss.replaced()
    assert not loss.noticed
    assert not loss.is_replaceable(Cause.EVICTED)
    assert loss.is_replaceable(Cause.CANCELLED)
