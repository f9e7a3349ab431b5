"""Finds the broker of this person and machine, or starts it: exactly one, whoever races."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from zerokernel.client.address import (
    BrokerAddress,
    address_file,
    prepare_directory,
    read_address,
)
from zerokernel.client.interpreter import last_lines, with_package
from zerokernel.client.rest import fetch_status
from zerokernel.client.shared import find_shared
from zerokernel.errors import BrokerUnavailable
from zerokernel.messages import check_protocol
from zerokernel.settings import Settings, as_environment

_POLL_SECONDS = 0.01
_ALIVE_SECONDS = 3.0
"""A broker on this machine answers in milliseconds; one that does not by then is stopped."""


def ensure_broker(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> BrokerAddress:
    """Gives a broker that answers; starts the embedded one where there is none.

    Where the settings name a shared one it is that, and none is started.

    Args:
        settings: Where to look, and how long to wait for a start.
        environment: For a broker that is started; None for this process's own. Its
            ZEROKERNEL_VISIBLE_DEVICES, else CUDA_VISIBLE_DEVICES where that is not empty,
            limits the devices.

    Raises:
        BrokerUnavailable: None could be started; the message has the end of its log. Or the
            shared one does not answer.
        TokenRefused, BadSetting: The shared one wants another token.
        ProtocolMismatch: The one that runs is of another version.
    """
    _reap()
    prepare_directory(settings.runtime_directory)
    if found := find_broker(settings):  # always, of a shared one
        return found
    with _starting(settings):
        # Another kernel may have started it while this one waited for the lock.
        return find_broker(settings) or _start(settings, environment)


def replace_hung_broker(settings: Settings) -> None:
    """Ends this person's broker if it runs but does not answer; `ensure_broker` starts the next.

    Workers and running cells outlive it, and the next broker takes them over.
    """
    with _starting(settings):
        address = read_address(address_file(settings))
        if address is None or not _runs(address.pid) or not _is_broker(address.pid):
            return
        with contextlib.suppress(BrokerUnavailable):
            fetch_status(address, _ALIVE_SECONDS)
            return
        with contextlib.suppress(psutil.Error):
            broker = psutil.Process(address.pid)
            broker.kill()
            broker.wait(_ALIVE_SECONDS)


def find_broker(settings: Settings) -> BrokerAddress | None:
    """Gives the broker that runs, None where none does.

    Raises:
        BrokerUnavailable: The address file is not to be trusted, or the broker hangs, or the
            shared one does not answer.
        TokenRefused, BadSetting: The shared one wants another token.
        ProtocolMismatch: It is of another version.
    """
    if settings.broker_url:
        return find_shared(settings)
    address = read_address(address_file(settings))
    if address is None or not _runs(address.pid):
        return None
    try:
        status = fetch_status(address, _ALIVE_SECONDS)
    except BrokerUnavailable as error:
        if not _is_broker(address.pid) or read_address(address_file(settings)) != address:
            return None  # it has just ended, or its process id belongs to somebody else by now
        raise BrokerUnavailable(
            f"The broker, process {address.pid}, runs but does not answer. End it with "
            f"`kill -9 {address.pid}` and run the cell again."
        ) from error
    if status.get("pid") != address.pid:
        return None
    check_protocol(address.protocol)
    return address


@contextlib.contextmanager
def _starting(settings: Settings) -> Iterator[None]:
    """Holds the lock under which a broker is started."""
    path = settings.runtime_directory / "broker.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + settings.broker_start_seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise BrokerUnavailable(
                        "Another kernel is starting the broker and does not get it done. "
                        f"Its log is {_log(settings)}."
                    ) from error
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _start(settings: Settings, environment: Mapping[str, str] | None) -> BrokerAddress:
    log = _log(settings)
    file = address_file(settings)
    file.unlink(missing_ok=True)  # a dead broker's
    process = _spawn(settings, dict(os.environ if environment is None else environment), log)
    until = time.monotonic() + settings.broker_start_seconds
    while time.monotonic() < until:
        if (address := read_address(file)) is not None:
            return address
        if process.poll() is not None:
            raise _failed(f"ended with code {process.returncode}", log)
        time.sleep(_POLL_SECONDS)
    process.kill()
    process.wait()
    raise _failed(f"did not start within {settings.broker_start_seconds:g} s", log)


def _spawn(settings: Settings, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    environment = with_package(environment) | as_environment(settings)
    if visible := environment.pop("CUDA_VISIBLE_DEVICES", ""):
        # Empty is what the kernel set for itself: it sees no device, but its cells shall.
        environment.setdefault("ZEROKERNEL_VISIBLE_DEVICES", visible)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(log, flags, 0o600), "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "zerokernel.cli", "broker", "--embedded"],
            env=environment,
            cwd=settings.runtime_directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _started.append(process)
    return process


# Brokers that this process started: meant to outlive it, and reaped if they do not.
_started: list[subprocess.Popen[bytes]] = []


def _reap() -> None:
    _started[:] = [process for process in _started if process.poll() is None]


@atexit.register
def _leave_running() -> None:
    """Keeps Popen from complaining that its process outlives this one."""
    for process in _started:
        process.returncode = 0


def _failed(why: str, log: Path) -> BrokerUnavailable:
    tail = last_lines(log)
    return BrokerUnavailable(
        f"The broker {why}. `%%gpu --cpu` runs the cell in the notebook."
        + (f"\nThe end of its log {log}:\n{tail}" if tail else "")
    )


def _log(settings: Settings) -> Path:
    return settings.runtime_directory / "broker.log"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return False  # somebody else's
    return pid > 0


def _is_broker(pid: int) -> bool:
    try:
        return b"zerokernel" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
