"""A request is withdrawn for good, also where the broker cannot be told at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import zerokernel.client
from tests.kernels import wait_until
from zerokernel.broker.scheduling import Policy
from zerokernel.errors import BrokerUnavailable
from zerokernel.messages import RequestLease
from zerokernel.notebook.connection import Connection
from zerokernel.settings import Settings
from zerokernel.testing import InProcessBroker


@pytest.fixture
def broker() -> Iterator[InProcessBroker]:
    with InProcessBroker(policy=Policy(kernel_grace_seconds=10.0)) as running:
        yield running


@pytest.fixture
def connection(
    broker: InProcessBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    monkeypatch.setattr(zerokernel.client, "ensure_broker", lambda settings: broker.address)
    one = Connection(SimpleNamespace(), Settings(runtime_directory=tmp_path))
    one.open()
    yield one
    one.close()


def queue(broker: InProcessBroker) -> list[Any]:
    """Ids of the requests that the broker has, waiting or granted."""
    status = broker.call(lambda: broker.broker.status())
    leased = [one["lease"].partition(".")[0] for one in status["sessions"]]
    return [one["request"] for one in status["queue"]] + leased


def ask(broker: InProcessBroker, connection: Connection, request: str) -> None:
    connection.want(request)
    connection.client.send(RequestLease(request, "", 60.0))
    wait_until(lambda: request in queue(broker), "the request")


def lose(connection: Connection) -> None:
    """Ends the connection as a supervisor's failed start does: the broker keeps the session."""
    client = connection.client
    assert client._loop is not None
    assert client._socket is not None
    client._loop.call_soon_threadsafe(client._socket.protocol._abort)  # type: ignore[union-attr]  # no close frame
    wait_until(lambda: not client.is_open, "the loss")


def test_a_request_withdrawn_while_away_keeps_no_place(
    broker: InProcessBroker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker that kept the session drops it when the notebook comes back without it."""
    monkeypatch.setattr(connection, "_reconnect", lambda client: None)
    ask(broker, connection, "r1")
    lose(connection)
    connection.withdraw("r1")
    connection.open()
    wait_until(lambda: "r1" not in queue(broker), "the withdrawal")


def test_a_request_withdrawn_while_connecting_keeps_no_place(
    broker: InProcessBroker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening that was sent still named it, so it is cancelled after all."""
    monkeypatch.setattr(connection, "_reconnect", lambda client: None)
    ask(broker, connection, "r1")
    lose(connection)
    opening = connection._opening()
    connection.withdraw("r1")
    monkeypatch.setattr(connection, "_opening", lambda: opening)
    connection.open()
    wait_until(lambda: "r1" not in queue(broker), "the withdrawal")


def test_a_request_that_is_wanted_keeps_its_place(
    broker: InProcessBroker, connection: Connection
) -> None:
    """A connection that breaks under a waiting cell costs it nothing."""
    ask(broker, connection, "r1")
    lose(connection)
    wait_until(lambda: connection.opened is not None, "the next connection")
    assert "r1" in queue(broker)


def test_a_shared_broker_that_ends_as_it_answers_is_looked_for_again(
    broker: InProcessBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hands over answers for a moment yet: the notebook goes on to the next."""
    found: list[Any] = []

    def ensure_broker(settings: Settings) -> Any:
        found.append(len(found))
        if len(found) == 2:
            raise BrokerUnavailable("It was just ending.")
        return broker.address

    monkeypatch.setattr(zerokernel.client, "ensure_broker", ensure_broker)
    monkeypatch.setattr(zerokernel.client, "wait_for_shared", lambda settings: None)
    settings = Settings(runtime_directory=tmp_path, broker_url="http://127.0.0.1:1")
    one = Connection(SimpleNamespace(), settings)
    one.open()
    before = one.client
    lose(one)
    wait_until(lambda: one.client_after(before) is not None, "the next broker")
    assert found == [0, 1, 2]
    one.close()
