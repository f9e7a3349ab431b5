"""Two people with notebooks of their own on one shared broker, over TLS."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.acceptance.cells import phases, plain, started, until
from tests.acceptance.test_sharing import _place
from tests.kernels import Kernel, wait_until
from tests.shared_broker import SharedBroker
from zerokernel.broker.identity import User
from zerokernel.client.rest import fetch_status, fetch_usage
from zerokernel.settings import CREDENTIALS

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def broker() -> Iterator[SharedBroker]:
    made = SharedBroker(
        (User("ada", "pro"), User("bob"), User("eve", "anonymous")),
        tls=True,
        more='names = ["GPU.example.org"]',
        policy="quotas = { pro = 1000, anonymous = 0 }\ngive_way_seconds = 4",
    )
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def kernels(broker: SharedBroker) -> Iterator[dict[str, Kernel]]:
    """A notebook of each; they outlive each broker of this module. Eve has no quota at all."""
    both = {user: Kernel(broker.environment(user)) for user in ("ada", "bob", "eve")}
    for one in both.values():
        one.load_extension()
    yield both
    for one in both.values():
        one.close()


@pytest.fixture
def ada(kernels: dict[str, Kernel]) -> Kernel:
    return kernels["ada"]


@pytest.fixture
def eve(kernels: dict[str, Kernel]) -> Kernel:
    return kernels["eve"]


@pytest.fixture
def bob(kernels: dict[str, Kernel]) -> Kernel:
    return kernels["bob"]


SECRETS = """%%gpu
import os, pathlib
begun = [pathlib.Path(f'/proc/{one}/environ').read_text() for one in ('self', os.getppid())]
names = [pair.partition('=')[0] for text in begun for pair in text.split('\\0')]
found = [one for one in (*names, *os.environ) if one in NAMES]
print(len(names) > 10, found)
"""


def test_two_users_take_turns(broker, ada, bob, gate):
    """Each is charged for their own; each sees of the other only that somebody is there."""
    long = ada.submit("%%gpu -d 100\n" + until(gate.path) + "mine = 'a'")
    ada.watch(long, started)
    waiting = bob.submit("%%gpu -d 100\nmine = 'b'")
    bob.watch(waiting, lambda run: _place(run) == 1)
    shown = fetch_status(broker.address("bob"))
    assert shown["slices"][0]["session_name"] == "another user"
    assert "ada" not in json.dumps(shown).replace(str(broker.directory), "")
    gate()
    assert ada.collect(long).status == "ok"
    assert bob.collect(waiting).status == "ok"
    assert (plain(ada, "print(mine)"), plain(bob, "print(mine)")) == ("a", "b")
    for user in ("ada", "bob"):
        (entry,) = fetch_usage(broker.address(user))["recent"]
        assert entry["user"] == user
        assert not entry["open"]
    supervisors = {one.pid for one in broker.supervisors()}
    workers = {kernel.run("%%gpu\nimport os; print(os.getppid())").text() for kernel in (ada, bob)}
    assert len(workers) == 2, "each user has a forkserver of their own"
    assert {int(one) for one in workers} <= supervisors


def test_a_cell_beyond_its_quota_gives_way(broker, ada, eve, gate):
    """It brings home what it has, costs nothing of the quota, and says whom it made way for."""
    beyond = eve.submit("%%gpu -d 100\nkept = [1]\n" + until(gate.path))
    eve.watch(beyond, started)
    mine = ada.submit("%%gpu -d 50\nwithin = 1")
    ended = eve.collect(beyond)
    error = ended.error()
    assert error["ename"] == "GpuDeadline"
    assert "somebody within theirs waits" in error["evalue"]
    assert any("ends for somebody" in one.get("note", "") for one in phases(ended))
    assert ada.collect(mine).status == "ok"
    assert plain(eve, "print(kept)") == "[1]"
    shown = ada.run("%gpu").own()[0]["data"]["text/plain"]
    assert "of 16 min 40 s left" in shown, shown
    assert "your quota" in ada.run("%%gpu --plan\nwithin").own()[0]["data"]["text/plain"]
    assert [one["weight"] for one in fetch_usage(broker.address("eve"))["recent"]] == [0]


def test_no_token_reaches_the_worker(broker, ada):
    """Neither its variables nor those that it or its forkserver began with."""
    names = sorted(CREDENTIALS)
    assert plain(ada, "import os; print(os.environ['ZEROKERNEL_BROKER_TOKEN'])").startswith("zk_")
    assert ada.run(SECRETS.replace("NAMES", repr(names))).text() == "True []\n"
    assert not list((broker.directory / "ada" / "rt").glob("broker*")), "none of its own started"


@pytest.mark.parametrize(
    ("host", "status"), [("gpu.example.org:443", 200), ("evil.example", 403), ("localhost", 200)]
)
def test_it_answers_to_its_names(broker, host, status):
    """Those that are configured, and those of loopback; no name that was rebound to it."""
    address = broker.address("ada")
    port = urlsplit(address.url).port
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=address.tls)
    headers = {"Authorization": f"token {address.token}", "Host": host}
    connection.request("GET", "/v1/usage", headers=headers)
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=["upgrade", "crash"])
def test_a_running_cell_outlives_its_broker(broker, ada, gate, number):
    """The next one has the lease, as its user's, and charges it once."""
    before = len(fetch_usage(broker.address("ada"))["recent"])
    cell = ada.submit("%%gpu -d 100\nx = [1]\n" + until(gate.path) + "x.append(2)")
    ada.watch(cell, started)
    assert broker.end(number) == (0 if number == signal.SIGHUP else -number)
    broker.start()
    (session,) = wait_until(lambda: fetch_status(broker.address("ada"))["sessions"], "the session")
    assert session["user"] == "ada"
    wait_until(
        lambda: fetch_status(broker.address("ada"))["sessions"][0]["connected"], "its return"
    )
    (returned,) = fetch_status(broker.address("ada"))["sessions"]
    assert returned["tier"] == "pro"
    assert returned["lease"]
    assert fetch_status(broker.address("bob"))["slices"][0]["session_name"] == "another user"
    gate()
    assert ada.collect(cell).status == "ok"
    assert plain(ada, "print(x)") == "[1, 2]"
    wait_until(lambda: not fetch_status(broker.address("ada"))["sessions"][0]["lease"], "the end")
    recent = fetch_usage(broker.address("ada"))["recent"]
    assert len(recent) == before + 1
    assert not recent[0]["open"]
    assert recent[0]["charged"] > 0


def test_running_cells_finish_when_it_is_told_to_end(broker, ada, bob, gate):
    """Who waits is told why and sent away; then the broker ends, and says where it went."""
    cell = ada.submit("%%gpu -d 100\n" + until(gate.path) + "done = True")
    ada.watch(cell, started)
    waiting = bob.submit("%%gpu -d 100\nnever = 1")
    bob.watch(waiting, lambda run: _place(run) == 1)
    broker.process.send_signal(signal.SIGTERM)
    error = bob.collect(waiting).error()
    assert error["ename"] == "BrokerLost"
    assert "being shut down" in error["evalue"]
    assert broker.process.poll() is None
    gate()
    assert ada.collect(cell).status == "ok"
    assert plain(ada, "print(done)") == "True"
    assert broker.process.wait(20) == 0
    away = bob.run("%%gpu\nnever = 1").error()
    assert away["ename"] == "BrokerUnavailable"
    assert "administrator" in away["evalue"]


@pytest.mark.slow
def test_who_says_it_twice_does_not_wait(broker, ada, gate):
    """The notebook comes back to a new broker by itself; a second SIGTERM ends its cell."""
    broker.start()
    plain(ada, "y = [1]")
    cell = ada.submit("%%gpu -d 100\ny.append(2)\n" + until(gate.path))
    ada.watch(cell, started)
    for ended in (False, True):
        broker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "told to end" in broker.log, "its word")
        assert ended or broker.process.poll() is None
    error = ada.collect(cell).error()
    assert error["ename"] == "BrokerLost"
    assert "Nothing was changed" in error["evalue"]
    assert broker.process.wait(20) == 0
    assert plain(ada, "print(y)") == "[1]"
