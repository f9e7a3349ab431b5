"""The client with a broker over real sockets."""

from __future__ import annotations

import dataclasses
import select
import socket
import sys
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from zerokernel.client import BrokerClient, connection
from zerokernel.errors import (
    BrokerLost,
    BrokerUnavailable,
    ProtocolMismatch,
    UnknownSize,
    WorkerStartFailed,
)
from zerokernel.messages import (
    CancelRequest,
    Granted,
    LeaseEnded,
    Message,
    OpenSession,
    Queued,
    Refused,
    RequestLease,
    WorkerGone,
)
from zerokernel.testing import FakeEngine, InProcessBroker, simulated_slices


@pytest.fixture
def broker() -> Iterator[InProcessBroker]:
    with InProcessBroker() as running:
        yield running


def opening(session: str | None = None) -> OpenSession:
    return OpenSession(session or uuid4().hex, "test.ipynb", sys.executable, {})


class Notebook:
    """A client and the messages that it got."""

    def __init__(self, broker: InProcessBroker) -> None:
        self.session = uuid4().hex
        self.client = BrokerClient(broker.address, opening(self.session))
        self.client.connect(10)
        self.waiting: list[Message] = []

    def next(self, kind: type[Message]) -> Message:
        """Waits for the next message of a kind; others before it are passed over."""
        while True:
            while self.waiting:
                message = self.waiting.pop(0)
                if isinstance(message, kind):
                    return message
            assert select.select([self.client], [], [], 10)[0], f"no {kind.__name__} in 10 s"
            self.waiting += self.client.events()


@pytest.fixture
def notebooks(broker: InProcessBroker) -> Iterator[list[Notebook]]:
    both = [Notebook(broker), Notebook(broker)]
    yield both
    for one in both:
        one.client.close()


def until_lost(client: BrokerClient) -> tuple[BrokerLost, list[Message]]:
    """Waits for the loss; gives it and what came before."""
    before: list[Message] = []
    while True:
        assert select.select([client], [], [], 10)[0], "not lost in 10 s"
        try:
            before += client.events()
        except BrokerLost as error:
            return error, before


def engine_of(broker: InProcessBroker) -> FakeEngine:
    assert isinstance(broker.engine, FakeEngine)
    return broker.engine


def test_a_session_opens_and_knows_its_supervisor(broker: InProcessBroker) -> None:
    """Address, secret and sizes come with it; repeating connect gives the same."""
    client = BrokerClient(broker.address, opening())
    opened = client.connect(10)
    assert (opened.address, opened.sizes) == ("unix:/nowhere", ("simulated",))
    assert client.connect(1) is client.session_opened is opened
    assert client.is_open
    assert client.events() == []
    assert not select.select([client], [], [], 0)[0]
    client.close()
    assert not client.is_open


def test_two_notebooks_take_turns(broker: InProcessBroker, notebooks: list[Notebook]) -> None:
    """The second sees its place, and gets its turn when the first is done."""
    one, two = notebooks
    one.client.send(RequestLease("r1", "", 60.0))
    granted = one.next(Granted)
    assert isinstance(granted, Granted)
    two.client.send(RequestLease("r2", "", 60.0))
    queued = two.next(Queued)
    assert isinstance(queued, Queued)
    assert queued.place == 1
    one.client.send(CancelRequest(granted.request))
    one.next(LeaseEnded)
    two.next(Granted)


def test_a_whole_cell_is_in_the_books(broker: InProcessBroker, notebooks: list[Notebook]) -> None:
    """Granted, forked, run, ended, charged; the worker is parked and shown."""
    one = notebooks[0]
    one.client.send(RequestLease("r1", "", 60.0))
    one.next(Granted)
    engine = engine_of(broker)
    broker.call(engine.fork, one.session)
    broker.call(engine.start_task, one.session)
    broker.call(engine.end_task, one.session)
    assert isinstance(one.next(LeaseEnded), LeaseEnded)
    assert one.client.usage()["leases"] == 1
    (slice_,) = one.client.status()["slices"]
    assert (slice_["state"], slice_["session"]) == ("parked", one.session)
    one.client.end_worker()
    gone = one.next(WorkerGone)
    assert isinstance(gone, WorkerGone)
    assert gone.cause == "restart"


def test_a_request_is_cancelled(notebooks: list[Notebook]) -> None:
    """One that waits is refused as cancelled; one that is unknown is a LookupError by REST."""
    one, two = notebooks
    one.client.send(RequestLease("r1", "", 60.0))
    one.next(Granted)
    two.client.send(RequestLease("r2", "", 60.0))
    two.next(Queued)
    two.client.cancel("r2")
    refused = two.next(Refused)
    assert isinstance(refused, Refused)
    assert refused.code == "RequestCancelled"
    with pytest.raises(LookupError):
        two.client.end_worker("nobody")


def test_the_lease_is_held_for_the_block(notebooks: list[Notebook]) -> None:
    """And given back after it, so that the next is granted; a refusal is its error."""
    one, two = (notebook.client for notebook in notebooks)
    with one.lease("", 60.0, timeout=10) as granted:
        assert granted.simulated
        with pytest.raises(TimeoutError), two.lease("", 60.0, timeout=0.1):
            pass
    with two.lease("", 60.0, timeout=10):
        pass
    with pytest.raises(UnknownSize, match="'simulated'"), one.lease("huge", 60.0):
        pass


def test_closing_gives_everything_back(broker: InProcessBroker, notebooks: list[Notebook]) -> None:
    """A notebook that leaves ends its lease at once."""
    one, two = notebooks
    one.client.send(RequestLease("r1", "", 60.0))
    one.next(Granted)
    two.client.send(RequestLease("r2", "", 60.0))
    two.next(Queued)
    one.client.close()
    one.client.close()
    two.next(Granted)
    with pytest.raises(BrokerLost):
        one.client.send(CancelRequest("r1"))


def test_a_lost_broker_is_noticed() -> None:
    """What had arrived is given first, then the loss is raised, and the descriptor stays ready."""
    with InProcessBroker() as broker:
        client = BrokerClient(broker.address, opening())
        client.connect(10)
        client.send(RequestLease("r1", "", 60.0))
        assert select.select([client], [], [], 10)[0]
    error, before = until_lost(client)
    assert [type(one) for one in before] == [Granted]
    assert "broker was ended" in str(error)
    assert client.is_over
    assert select.select([client], [], [], 0)[0]
    client.close()


def test_a_broker_that_hangs_is_noticed(
    broker: InProcessBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker whose connection stands but which answers no ping is lost."""
    monkeypatch.setattr(connection, "PING_SECONDS", 0.05)
    client = BrokerClient(broker.address, opening())
    client.connect(10)
    go_on = threading.Event()
    broker._loop.call_soon_threadsafe(go_on.wait)
    try:
        assert select.select([client], [], [], 10)[0]
        with pytest.raises(BrokerLost, match="did not answer"):
            client.events()
    finally:
        go_on.set()
        client.close()


def test_a_supervisor_that_does_not_start_is_the_sessions_error() -> None:
    """With the end of its log, as the engine gives it."""
    engine = FakeEngine()
    engine.failure = "it ended with code 1\n" + "a long log\n" * 100
    with InProcessBroker(engine=engine) as broker:
        client = BrokerClient(broker.address, opening())
        with pytest.raises(WorkerStartFailed, match="a long log"):
            client.connect(10)
        with pytest.raises(WorkerStartFailed):
            _ = client.session_opened
        client.close()


def test_nobody_at_the_address() -> None:
    """The message says where; closing is quick."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with InProcessBroker() as broker:
        address = dataclasses.replace(broker.address, url=f"http://127.0.0.1:{port}")
    client = BrokerClient(address, opening())
    with pytest.raises(BrokerUnavailable, match=str(port)):
        client.connect(10)
    client.close()


def test_a_wrong_token_is_refused(broker: InProcessBroker) -> None:
    """The client says that it was refused, not that it was lost."""
    address = dataclasses.replace(broker.address, token="wrong")
    client = BrokerClient(address, opening())
    with pytest.raises(BrokerUnavailable, match="refused"):
        client.connect(10)
    client.close()
    with pytest.raises(BrokerUnavailable, match="token"):
        client.status()


def test_another_version_says_what_to_restart(broker: InProcessBroker) -> None:
    """The broker's reason reaches the notebook."""
    client = BrokerClient(broker.address, dataclasses.replace(opening(), protocol=99))
    with pytest.raises(ProtocolMismatch, match="Restart"):
        client.connect(10)
    client.close()


def test_a_second_connection_takes_the_session_over(broker: InProcessBroker) -> None:
    """The first is told; lease and worker stay the session's."""
    again = dataclasses.replace(opening("5" * 32), requests=("r1",))
    first, second = (BrokerClient(broker.address, again) for _ in range(2))
    first.connect(10)
    first.send(RequestLease("r1", "", 60.0))
    assert select.select([first], [], [], 10)[0]
    second.connect(10)
    assert select.select([second], [], [], 10)[0]
    assert [type(one) for one in second.events()] == [Granted]
    error, _ = until_lost(first)
    assert "took the session over" in str(error)
    first.close()
    second.close()


def test_closing_while_connecting_is_quick() -> None:
    """Also where the address swallows the connection without an answer; its thread ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent, InProcessBroker() as broker:
        port = silent.getsockname()[1]
        address = dataclasses.replace(broker.address, url=f"http://127.0.0.1:{port}")
        client = BrokerClient(address, opening())
        client.start()
        (thread,) = [t for t in threading.enumerate() if t.name == "zerokernel-broker"]
        accepted, _ = silent.accept()
        client.close()
        accepted.close()
        thread.join(10)
        assert not thread.is_alive()
    with pytest.raises(BrokerLost):
        client.connect(1)


def test_no_thread_or_descriptor_is_left(broker: InProcessBroker) -> None:
    """Opening and closing many sessions leaves the process as it was."""
    import os

    def count() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def once() -> None:
        client = BrokerClient(broker.address, opening())
        client.connect(10)
        client.close()
        while broker.call(lambda: broker.broker.connected):
            pass

    once()
    before = count()
    for _ in range(5):
        once()
    assert count() <= before


def test_two_slices_serve_two_notebooks() -> None:
    """Neither waits for the other."""
    with InProcessBroker(slices=simulated_slices(2)) as broker:
        for notebook in [Notebook(broker), Notebook(broker)]:
            notebook.client.send(RequestLease(notebook.session, "", 60.0))
            notebook.next(Granted)
            broker.call(lambda: None)
        assert {s["state"] for s in broker.call(broker.broker.status)["slices"]} == {"leased"}
