"""Two users of one broker over real sockets: neither reaches or learns of what is the other's."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.kernels import wait_until
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import User
from zerokernel.broker.ledger import MemoryLedger
from zerokernel.broker.scheduling import SchedulerState
from zerokernel.broker.users import FileIdentity, UserFile, add, remove
from zerokernel.client import BrokerClient, fetch_status
from zerokernel.client.rest import end_worker, shut_down
from zerokernel.errors import BrokerLost, BrokerUnavailable, TokenRefused
from zerokernel.messages import Granted, OpenSession, RequestLease, WorkerKept
from zerokernel.testing import FakeEngine, InProcessBroker, simulated_slices

TIERS = ("free", "pro")


@dataclasses.dataclass
class Shared:
    """A broker, its file of users, and their tokens."""

    broker: InProcessBroker
    file: UserFile
    tokens: dict[str, str]

    def client(self, user: str, session: str = "") -> BrokerClient:
        address = dataclasses.replace(self.broker.address, token=self.tokens[user])
        opening = OpenSession(session or uuid4().hex, f"{user}.ipynb", sys.executable, {})
        return BrokerClient(address, opening)

    def ask(self, user: str, method: str, path: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.broker.url).port)
        try:
            headers = {"Authorization": f"token {self.tokens[user]}"}
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    file = UserFile(tmp_path / "users")
    users = (User("ada", "pro", "lab"), User("bob"), User("eve", admin=True))
    tokens = {user.name: add(file, user, TIERS) for user in users}
    with InProcessBroker(identity=FileIdentity(file, TIERS)) as broker:
        yield Shared(broker, file, tokens)


def waited(client: BrokerClient) -> list[Any]:
    assert select.select([client], [], [], 10)[0], "nothing came in 10 s"
    return client.events()


def test_tier_and_group_reach_the_scheduler(shared: Shared) -> None:
    """As the file has them, and nobody else's word for it."""
    client = shared.client("ada")
    client.connect(10)
    (session,) = fetch_status(client.address)["sessions"]
    assert (session["user"], session["tier"], session["group"]) == ("ada", "pro", "lab")
    client.close()


def test_anothers_things_are_as_if_they_were_not_there(shared: Shared) -> None:
    """The same answer, to the byte, for what is another's and for what nobody has."""
    session, request = uuid4().hex, uuid4().hex
    ada = shared.client("ada", session)
    ada.connect(10)
    ada.send(RequestLease(request, "", 60.0))
    assert isinstance(waited(ada)[0], Granted)
    for path in ("/v1/requests/{}/cancel", "/v1/sessions/{}/end-worker"):
        for other in ("bob", "eve"):
            taken = shared.ask(other, "POST", path.format(session))
            assert taken == shared.ask(other, "POST", path.format(uuid4().hex))
            assert taken[0] == 404
        assert shared.ask("bob", "POST", path.format(request))[0] == 404
    seen = json.dumps(shared.ask("bob", "GET", "/v1/status")[1])
    assert not [one for one in (session, request, "ada") if one in seen]
    assert shared.ask("bob", "GET", "/v1/usage")[1]["recent"] == []
    assert ada.status()["slices"][0]["session"] == session
    ada.close()


def test_a_session_of_anothers_is_refused_without_a_word_of_whose(shared: Shared) -> None:
    """The session stays with its own; the refusal names nobody."""
    session = uuid4().hex
    ada, bob = shared.client("ada", session), shared.client("bob", session)
    ada.connect(10)
    with pytest.raises(BrokerLost) as error:
        bob.connect(10)
    assert str(error.value) == "A session of this id cannot be opened."
    ada.send(RequestLease("r", "", 60.0))
    assert isinstance(waited(ada)[0], Granted)
    bob.close()
    ada.close()


def test_only_an_administrator_ends_it(shared: Shared) -> None:
    """The others are told why not."""
    for user in ("ada", "bob"):
        with pytest.raises(BrokerUnavailable, match="only an administrator"):
            shut_down(shared.client(user).address)
    assert not shared.broker.shutdown_asked.is_set()
    shut_down(shared.client("eve").address)
    assert shared.broker.shutdown_asked.wait(10)


def test_a_user_who_is_removed_can_ask_for_nothing_more(shared: Shared) -> None:
    """Neither over the connection that stands nor over a new one; what to do is said."""
    client = shared.client("ada")
    client.connect(10)
    remove(shared.file, "ada")
    client.send(RequestLease("r", "", 60.0))
    with pytest.raises(BrokerLost, match="Ask its administrator"):
        waited(client)
    client.close()
    again = shared.client("ada")
    with pytest.raises(TokenRefused, match="administrator"):
        again.connect(10)
    with pytest.raises(TokenRefused, match=r"zerokernel user token"):
        again.status()
    with pytest.raises(TokenRefused):
        end_worker(again.address, "x")
    again.close()


def test_each_user_has_a_forkserver_of_their_own(shared: Shared) -> None:
    """The engine is told for whom it opens: a forkserver's secret and variables are one user's."""
    engine = shared.broker.engine
    assert isinstance(engine, FakeEngine)
    for user in ("ada", "bob"):
        client = shared.client(user)
        client.connect(10)
        client.close()
    assert engine.opened_for == ["ada", "bob"]


def test_what_is_taken_over_is_its_users(shared: Shared) -> None:
    """With the tier and group that the users have now; nobody else gets at it."""
    session = "5" * 32
    identity = FileIdentity(shared.file, TIERS)

    async def life() -> Broker:
        state = SchedulerState(simulated_slices())
        broker = Broker(state, FakeEngine(), MemoryLedger(), accounts=identity.named)
        held = WorkerKept(session, 7, "r.1", "r", state.offers()[0].id, 60.0, 1.0)
        broker.adopted(held, "ada")
        broker.adopted(dataclasses.replace(held, session="6" * 32, lease="", slice_id=""), "gone")
        await broker.close()
        return broker

    broker = asyncio.run(life())
    account = broker.state.sessions[session].account
    assert (account.user, account.group, account.tier) == ("ada", "lab", "pro")
    assert broker.state.sessions["6" * 32].user == "gone"
    assert broker.has_lease(session, "ada")
    assert not broker.has_lease(session, "bob")
    assert [entry.user for entry in broker.ledger.open_leases()] == ["ada"]


def test_a_broker_that_lets_go_ends_nothing(shared: Shared) -> None:
    """A connection that breaks then, as all do, costs nobody the lease, without any grace."""
    client = shared.client("ada")
    client.connect(10)
    client.send(RequestLease("r", "", 60.0))
    assert isinstance(waited(client)[0], Granted)
    broker = shared.broker.broker
    (connection,) = broker._connections.values()
    shared.broker.call(broker.let_go)
    shared.broker.call(connection.replaced)
    with pytest.raises(BrokerLost):
        waited(client)
    client.close()
    wait_until(lambda: connection._on_close_called, "the end of the connection")
    assert shared.broker.call(lambda: broker.leases) == 1
    assert broker.state.policy.kernel_grace_seconds == 0


def test_a_broker_that_closes_takes_nothing_new(shared: Shared) -> None:
    """Idle notebooks are told why and sent away; a cell that runs has its notebook to the end."""
    running, idle = shared.client("ada"), shared.client("bob")
    running.connect(10)
    idle.connect(10)
    running.send(RequestLease("r", "", 60.0))
    assert isinstance(waited(running)[0], Granted)
    shared.broker.call(shared.broker.broker.close_to_new, "It closes for the night.")
    with pytest.raises(BrokerLost, match="for the night"):
        waited(idle)
    assert idle.is_over
    running.send(RequestLease("another", "", 60.0))
    (refused,) = waited(running)
    assert (refused.code, refused.reason) == ("BrokerUnavailable", "It closes for the night.")
    assert shared.broker.call(lambda: shared.broker.broker.leases) == 1
    late = shared.client("bob")
    with pytest.raises(BrokerLost, match="for the night"):
        late.connect(10)
    late.close()
    running.close()
    idle.close()
