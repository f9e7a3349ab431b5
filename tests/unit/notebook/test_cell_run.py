"""What a cell makes of the end of its worker while it waits."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from zerokernel.errors import RequestCancelled, WorkerKilled
from zerokernel.lifecycle import Cause
from zerokernel.messages import Granted, WorkerGone
from zerokernel.notebook.cell_run import CellRun


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    link = MagicMock()
    link.receive.side_effect = TimeoutError
    connection = MagicMock(id="s", link=link)
    connection.is_our_worker.return_value = True
    connection.drop_worker.side_effect = lambda: setattr(connection, "link", None)
    run = CellRun(MagicMock(), connection, MagicMock(), MagicMock(duration=60.0), MagicMock())
    monkeypatch.setattr(run, "_prepare", MagicMock())
    return run


def granted(run: Any) -> Granted:
    return Granted(run.request, f"{run.request}.1", "simulated 1", 60.0, 0.0, True)


@pytest.mark.parametrize("channel_closed_first", [False, True])
def test_a_worker_that_ended_for_an_earlier_cell_is_replaced(
    run: Any, channel_closed_first: bool
) -> None:
    """Its end and the grant, which is for the next worker, may arrive together."""
    if channel_closed_first:
        run._lose_worker()
    run._on_broker(WorkerGone("s", Cause.CANCELLED, process=7))
    run._on_broker(granted(run))
    run._check_lost()
    assert run._connection.ensure_link.called


def test_a_worker_that_ends_twice_is_not_replaced_for_ever(run: Any) -> None:
    """One that dies at every start is an error in the end."""
    run._on_broker(WorkerGone("s", Cause.KILLED, process=7))
    run._on_broker(WorkerGone("s", Cause.KILLED, process=8))
    with pytest.raises(WorkerKilled):
        run._check_lost()


def test_a_cell_that_was_cancelled_hears_it(run: Any) -> None:
    """After the grant the end of the worker is that of the cell."""
    run._on_broker(granted(run))
    run._on_broker(WorkerGone("s", Cause.CANCELLED, process=7))
    with pytest.raises(RequestCancelled):
        run._check_lost()
