"""What a test run leaves behind: processes, leases, shared memory, sockets."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from tests.kernels import processes_with, wait_until
from zerokernel.client.address import BrokerAddress, address_file
from zerokernel.client.rest import fetch_status, shut_down
from zerokernel.client.start import find_broker
from zerokernel.settings import load

MARK = "ZEROKERNEL_TEST_RUN"
"""Set in the environment of everything that the tests start, so that it can be found again."""


def broker_of(directory: Path) -> BrokerAddress | None:
    """The broker that serves this runtime directory now, if any."""
    return find_broker(load({"ZEROKERNEL_RUNTIME_DIRECTORY": str(directory)}))


def live_leases(address: BrokerAddress) -> list[str]:
    """Says which slices are leased or asked for, in words for a failing test."""
    status = fetch_status(address)
    leased = [
        f"{s['name']} by {s['session']}" for s in status["slices"] if s["remaining"] is not None
    ]
    return leased + [f"queued: {row['request']}" for row in status["queue"]]


def end_broker(directory: Path) -> None:
    """Ends the broker of a runtime directory, which by then must have no live lease.

    Raises:
        AssertionError: A lease outlives the kernel that held it, the broker does not end,
            or it leaves its address file or a socket.
    """
    if (address := broker_of(directory)) is None:
        return
    left = wait_until(lambda: not live_leases(address), "the end of all leases", 10)
    assert left
    broker = psutil.Process(address.pid)
    shut_down(address)
    wait_until(lambda: ended(broker), "the end of the broker", 20)
    sockets = [path.name for path in directory.iterdir() if path.is_socket()]
    files = [address_file(load({"ZEROKERNEL_RUNTIME_DIRECTORY": str(directory)})).name]
    assert not sockets + [name for name in files if (directory / name).exists()]


def ended(process: psutil.Process) -> bool:
    """Whether a process is over; one that nobody has waited for counts as over."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def check_processes(mark: str) -> None:
    """Fails if a process of this test run still lives after a moment; ends it by its id."""
    try:
        wait_until(lambda: not list(processes_with(MARK, mark)), "the end of all processes", 10)
    except AssertionError:
        found = list(processes_with(MARK, mark))
        told = [f"{process.pid}: {' '.join(process.cmdline())[:200]}" for process in found]
        for process in found:
            process.kill()
        raise AssertionError("processes outlive the tests:\n" + "\n".join(told)) from None


def shared_memory() -> set[str]:
    """The names under which zerokernel has shared memory now."""
    return {name for name in os.listdir("/dev/shm") if "zerokernel" in name}


def descriptors() -> dict[str, str]:
    """This process's open descriptors, each with what it leads to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the one by which the folder was listed
    return found
