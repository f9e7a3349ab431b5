"""The embedded broker as real processes: started once, replaced when dead, gone when idle."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

import zerokernel
from zerokernel import settings as configuration
from zerokernel.client import (
    BrokerAddress,
    BrokerClient,
    ensure_broker,
    fetch_status,
    find_broker,
)
from zerokernel.client.address import address_file, read_address, write_address
from zerokernel.errors import BrokerLost, BrokerUnavailable, ProtocolMismatch
from zerokernel.messages import OpenSession
from zerokernel.settings import Settings, as_environment

ROOT = str(Path(zerokernel.__file__).parents[1])


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a private runtime directory; on the way out every process of it is gone."""
    made = Settings(tmp_path / "rt", devices="simulated", broker_idle_seconds=60.0)
    yield made
    for process in broker_processes(made):
        process.terminate()
        process.wait(10)
    assert not supervisors(made)
    assert not address_file(made).exists()


def mine(settings: Settings, module: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if module in process.cmdline() and process.cwd() == str(settings.runtime_directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


def broker_processes(settings: Settings) -> list[psutil.Process]:
    return mine(settings, "zerokernel.cli")


def supervisors(settings: Settings) -> list[psutil.Process]:
    return mine(settings, "zerokernel.worker.forkserver")


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a dead one may wait for its parent to take note."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_for(what: object, seconds: float = 20.0) -> None:
    assert callable(what)
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)


def client_of(address: BrokerAddress) -> BrokerClient:
    opening = OpenSession(uuid4().hex, "t.ipynb", sys.executable, dict(os.environ))
    return BrokerClient(address, opening)


def test_the_first_kernel_starts_it_and_the_second_finds_it(settings: Settings) -> None:
    """Address file and directory are for the owner only; all figures in it are true."""
    address = ensure_broker(settings)
    assert ensure_broker(settings) == address == find_broker(settings)
    assert fetch_status(address)["pid"] == address.pid
    file = address_file(settings)
    assert file.stat().st_mode & 0o777 == 0o600
    assert settings.runtime_directory.stat().st_mode & 0o777 == 0o700
    assert address.token not in repr(address)
    assert address.token not in (settings.runtime_directory / "broker.log").read_text()
    assert os.getsid(address.pid) == address.pid


def test_eight_kernels_race_and_start_exactly_one(settings: Settings) -> None:
    """All get the same broker."""
    code = (
        "from zerokernel import settings; from zerokernel.client import ensure_broker;"
        "print(ensure_broker(settings.load()).pid)"
    )
    environment = {**os.environ, **as_environment(settings), "PYTHONPATH": ROOT}
    racers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    pids = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(pids) == 1
    assert [one.pid for one in broker_processes(settings)] == [int(pids.pop())]


def test_a_killed_broker_is_replaced(settings: Settings) -> None:
    """Its notebooks notice; the next one takes its forkserver over, as warm as it was."""
    first = ensure_broker(settings)
    client = client_of(first)
    client.connect(60)
    (left,) = supervisors(settings)
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(BrokerLost):
        wait_for(client.events)
    client.close()
    second = ensure_broker(settings)
    assert second.pid != first.pid
    status = fetch_status(second)
    assert [one["state"] for one in status["slices"]] == ["free"]
    assert [one["process"] for one in status["engine"]["supervisors"]] == [left.pid]
    assert is_alive(left)


def test_a_stopped_broker_is_noticed(settings: Settings) -> None:
    """A broker that hangs is named with what to do; a session with it is lost within seconds."""
    address = ensure_broker(settings)
    client = client_of(address)
    client.connect(60)
    os.kill(address.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable, match=f"kill -9 {address.pid}"):
            ensure_broker(settings)
        with pytest.raises(BrokerLost):
            wait_for(client.events, 10.0)
    finally:
        os.kill(address.pid, signal.SIGCONT)
        client.close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 1}', "null", '{"pid": "x"}'])
def test_a_broken_address_file_is_replaced(settings: Settings, content: str) -> None:
    """Left by a crash, or by something else."""
    settings.runtime_directory.mkdir(mode=0o700)
    file = address_file(settings)
    file.write_text(content)
    file.chmod(0o600)
    assert fetch_status(ensure_broker(settings))["slices"]


@pytest.mark.parametrize("pid", [0, 1, pytest.param(os.getpid(), id="our own"), 2**22 + 5])
def test_a_stale_address_file_is_replaced(settings: Settings, pid: int) -> None:
    """A process id that is gone, or by now somebody else's."""
    settings.runtime_directory.mkdir(mode=0o700)
    stale = BrokerAddress("http://127.0.0.1:9", "old", pid, 1, "0", "python")
    write_address(address_file(settings), stale)
    assert ensure_broker(settings).pid != pid


def test_another_version_is_not_replaced_but_named(settings: Settings) -> None:
    """Its notebooks still need it; the message says what to restart."""
    address = ensure_broker(settings)
    write_address(address_file(settings), dataclasses.replace(address, protocol=99))
    with pytest.raises(ProtocolMismatch, match="Restart"):
        ensure_broker(settings)
    write_address(address_file(settings), address)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666])
def test_an_address_file_others_can_read_is_not_trusted(settings: Settings, mode: int) -> None:
    """Its token may be known."""
    ensure_broker(settings)
    address_file(settings).chmod(mode)
    with pytest.raises(BrokerUnavailable, match="not yours alone"):
        find_broker(settings)
    address_file(settings).chmod(0o600)


def test_links_are_not_followed(settings: Settings, tmp_path: Path) -> None:
    """Neither as the runtime directory nor as the address file."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    settings.runtime_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BrokerUnavailable, match="link"):
        ensure_broker(settings)
    settings.runtime_directory.unlink()
    settings.runtime_directory.mkdir(mode=0o700)
    target = tmp_path / "elsewhere" / "address.json"
    target.write_text("{}")
    address_file(settings).symlink_to(target)
    with pytest.raises(BrokerUnavailable, match="cannot be read"):
        read_address(address_file(settings))
    address_file(settings).unlink()


def test_a_directory_others_may_enter_is_not_used(settings: Settings) -> None:
    """The message says how to close it."""
    settings.runtime_directory.mkdir()
    settings.runtime_directory.chmod(0o755)
    with pytest.raises(BrokerUnavailable, match="chmod 700"):
        ensure_broker(settings)


def test_a_broker_that_cannot_start_says_why(settings: Settings) -> None:
    """The end of its log is in the message."""
    broken = dataclasses.replace(settings, devices="nvidia")
    environment = {**os.environ, "ZEROKERNEL_VISIBLE_DEVICES": "0"}
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has the devices whose absence is tested")
    with pytest.raises(BrokerUnavailable, match=r"code 1(.|\n)*no NVIDIA driver"):
        ensure_broker(broken, environment)


def test_an_idle_broker_ends_and_leaves_nothing(settings: Settings) -> None:
    """Not while a notebook is connected, and soon after the last has left."""
    quick = dataclasses.replace(settings, broker_idle_seconds=1.0)
    address = ensure_broker(quick)
    client = client_of(address)
    client.connect(60)
    assert broker_processes(quick)
    client.close()
    wait_for(lambda: not address_file(quick).exists())
    wait_for(lambda: not broker_processes(quick) and not supervisors(quick))
    left = {one.name for one in quick.runtime_directory.iterdir()}
    assert left == {"broker.lock", "broker.log", "broker.running", "ledger.sqlite"}


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stop"])
def test_it_ends_when_told_to(settings: Settings, how: str) -> None:
    """By signal or by command: workers, supervisors and files go with it."""
    address = ensure_broker(settings)
    client = client_of(address)
    client.connect(60)
    if how == "stop":
        assert "ends" in command(settings, "stop")
    else:
        os.kill(address.pid, signal.Signals[how])
    with pytest.raises(BrokerLost):
        wait_for(client.events)
    client.close()
    wait_for(lambda: not broker_processes(settings))
    assert not supervisors(settings)
    assert "No broker runs" in command(settings, "stop")


def test_a_new_broker_waits_for_one_that_is_ending(settings: Settings) -> None:
    """Two are never there at once, so devices are not held twice."""
    first = ensure_broker(settings)
    os.kill(first.pid, signal.SIGTERM)
    wait_for(lambda: not address_file(settings).exists())
    second = ensure_broker(settings)
    assert second.pid != first.pid
    assert [one.pid for one in broker_processes(settings)] == [second.pid]


def test_status_for_people_and_programs(settings: Settings) -> None:
    """The command shows slices and notebooks, or all of it as JSON."""
    assert "No broker runs" in command(settings, "status")
    assert json.loads(command(settings, "status", "--json")) == {}
    client = client_of(ensure_broker(settings))
    client.connect(60)
    shown = command(settings, "status")
    assert "simulated 1 · 8 GB" in shown
    assert "t.ipynb" in shown
    assert json.loads(command(settings, "status", "--json"))["sizes"] == ["simulated"]
    client.close()


def command(settings: Settings, *words: str) -> str:
    """Runs the `zerokernel` command and gives what it prints."""
    environment = {**os.environ, **as_environment(settings), "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, "-m", "zerokernel.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def test_a_setting_that_is_not_understood_is_an_error_not_a_traceback(settings: Settings) -> None:
    """The command says what is wrong and exits with 1."""
    assert configuration.load({**as_environment(settings)}) == settings
    environment = {**os.environ, "PYTHONPATH": ROOT, "ZEROKERNEL_CHANNEL": "pigeon"}
    done = subprocess.run(
        [sys.executable, "-m", "zerokernel.cli", "status"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "pigeon" in done.stderr
    assert "Traceback" not in done.stderr
