"""One supervisor: the process that forks the workers of one Python environment."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from zerokernel.broker.engines.leftovers import SupervisorRecord, is_alive, write_record
from zerokernel.broker.engines.port import Door
from zerokernel.client.interpreter import last_lines, with_package
from zerokernel.containment import end_remains, end_supervisor, group_prefix
from zerokernel.errors import (
    ChannelClosed,
    MalformedMessage,
    WorkerStartFailed,
    ZeroKernelError,
)
from zerokernel.messages import (
    Hello,
    Message,
    Shutdown,
    SupervisorReady,
    WorkerKept,
    check_protocol,
)
from zerokernel.settings import CREDENTIALS, Settings, as_environment
from zerokernel.wire import Channel, connect

MODULE = "zerokernel.worker.forkserver"
_POLL_SECONDS = 0.01
_SOCKET_PATH_LIMIT = 107  # bytes of sun_path, less its final zero
_CLOSE_SECONDS = 5.0
"""A supervisor that was asked to end and did not by then is killed."""

_BUSY_SECONDS = 10.0
"""An import on a busy machine is over by then."""
_WORKING = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)

_numbers = itertools.count(1)
_running: set[int] = set()
"""The supervisors that this process started and did not yet wait for."""


class Supervisor:
    """Starts the process, connects to it, sends orders and reads reports.

    Args:
        heard: Called with each message in the event loop's thread.
        lost: Called once, with the reason, when the process or its channel ended by itself.
        user: For whom it forks.
    """

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        settings: Settings,
        heard: Callable[[Message], None],
        lost: Callable[[str], None],
        module: str = MODULE,
        user: str = "",
    ) -> None:
        self._user = user
        self._command = [python, "-m", module]
        self._environment = environment
        self._settings = settings
        self._heard = heard
        self._lost = lost
        self._secret = secrets.token_hex(32)
        self._base = settings.runtime_directory / f"supervisor-{os.getpid()}-{next(_numbers)}"
        # Set by `start` or `take_over`, taken back by `_drop`.
        self._process: psutil.Process | None = None
        self._groups = ""
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Supervisor of {self._command[0]}, process {self.process}>"

    @property
    def process(self) -> int:
        """Its process id, 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._base.with_suffix(".log")

    async def start(self) -> Door:
        """Starts the process and waits until it can fork.

        Raises:
            WorkerStartFailed: It ended or did not get ready in time.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._spawn()
            async with asyncio.timeout(self._settings.worker_start_seconds):
                address = await self._listening()
                self._record(address)
                await self._connect(address)
                self.listen()
        except (TimeoutError, OSError, ZeroKernelError) as error:
            await self._fail(error)
        except BaseException:
            self._drop(kill=True)
            raise
        return Door(address, self._secret)

    async def take_over(
        self, file: Path, record: SupervisorRecord, wait: float
    ) -> tuple[Door, list[WorkerKept]]:
        """Connects to a supervisor that an earlier broker started; `listen` comes after.

        Returns:
            Its door, and the workers that it still has.

        Raises:
            WorkerStartFailed: It does not answer within ``wait`` seconds although it has
                nothing to do, or is busy for much longer; it is ended.
        """
        self._loop = asyncio.get_running_loop()
        self._base, self._secret = file.with_suffix(""), record.secret
        self._process, self._groups = record.find_process(), record.groups
        _running.add(record.process)
        try:
            if not record.address:
                raise WorkerStartFailed("its broker ended while it started")
            kept = await self._reach(record.address, wait)
        except (TimeoutError, OSError, ZeroKernelError) as error:
            await self._fail(error)
        return Door(record.address, self._secret), kept

    async def _reach(self, address: str, wait: float) -> list[WorkerKept]:
        """Connects; one that computes, such as an import, or gets no processor does not hang."""
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                async with asyncio.timeout(wait):
                    return await self._connect(address, wait)
            except TimeoutError:
                if not _is_working(self._process) or time.monotonic() > until:
                    raise

    def send(self, message: Message) -> None:
        """Sends an order; a supervisor that does not take it is given up."""
        if self._channel is None:
            return
        try:
            if not _writable(self._channel):
                raise ChannelClosed("it does not read what it is sent")
            self._channel.send(message)
        except (ChannelClosed, OSError, ValueError) as error:
            self._gone(str(error))

    async def close(self) -> None:
        """Ends it with all its workers. Idempotent."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ZeroKernelError, OSError, ValueError):
            if self._channel is not None and _writable(self._channel):
                self._channel.send(Shutdown())
        self._close_channel()
        for _ in range(int(_CLOSE_SECONDS / _POLL_SECONDS)):
            if not is_alive(process):
                break
            await asyncio.sleep(_POLL_SECONDS)
        self._drop(kill=True)
        self.log.unlink(missing_ok=True)

    # --- starting -----------------------------------------------------------------------

    def _spawn(self) -> None:
        environment = with_package(self._environment) | as_environment(self._settings)
        for name in CREDENTIALS & environment.keys():
            del environment[name]
        environment["ZEROKERNEL_SUPERVISOR_SECRET"] = self._secret
        arguments = ["--address", self._wanted_address(), "--address-file", str(self._address_file)]
        self._address_file.unlink(missing_ok=True)
        with open(self.log, "wb", opener=_private) as log:
            self._process = psutil.Popen(
                [*self._command, *arguments],
                env=environment,
                # Not the notebook's folder: its files must not shadow what is imported.
                cwd=self._settings.runtime_directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _running.add(self._process.pid)
        self._groups = group_prefix(self._process.pid)
        self._record("")  # already now: it makes control groups before it listens

    def _record(self, address: str) -> None:
        """Writes down how the broker after this one finds the process."""
        assert self._process is not None
        record = SupervisorRecord(
            self._process.pid,
            self._process.create_time(),
            self._command[0],
            address,
            self._secret,
            self._groups,
            self._user,
        )
        write_record(self._base.with_suffix(".process"), record)

    @property
    def _address_file(self) -> Path:
        return self._base.with_suffix(".address")

    def _wanted_address(self) -> str:
        if self._settings.channel == "tcp":
            return "tcp:127.0.0.1:0"
        path = str(self._base.with_suffix(".sock"))
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            raise WorkerStartFailed(
                f"The path {path} is too long for a socket. Set ZEROKERNEL_RUNTIME_DIRECTORY "
                "to a shorter one."
            )
        return f"unix:{path}"

    async def _listening(self) -> str:
        while True:
            with contextlib.suppress(FileNotFoundError):
                if address := self._address_file.read_text().strip():
                    return address
            self._check_alive()
            await asyncio.sleep(_POLL_SECONDS)

    def _check_alive(self) -> None:
        if isinstance(self._process, psutil.Popen) and (code := self._process.poll()) is not None:
            raise WorkerStartFailed(f"it ended with code {code}")

    async def _connect(self, address: str, wait: float = 0.0) -> list[WorkerKept]:
        """Connects in a thread: a supervisor that imports for seconds answers late."""
        wait = max(wait or self._settings.worker_start_seconds, 0.1)
        self._channel, kept = await asyncio.to_thread(self._greet, address, wait)
        return kept

    def _greet(self, address: str, wait: float) -> tuple[Channel, list[WorkerKept]]:
        hello, secret = Hello("broker", process=os.getpid()), bytes.fromhex(self._secret)
        channel = connect(address, hello, secret, timeout=wait)
        try:
            ready = channel.receive(wait).message
            if not isinstance(ready, SupervisorReady):
                raise MalformedMessage(f"it began with {type(ready).__name__}")
            check_protocol(ready.protocol)
            kept = [channel.receive(wait).message for _ in range(ready.kept)]
        except BaseException:
            channel.close()
            raise
        return channel, [one for one in kept if isinstance(one, WorkerKept)]

    def listen(self) -> None:
        """Begins to read its reports."""
        assert self._loop is not None
        assert self._channel is not None
        self._loop.add_reader(self._channel.fileno(), self._read)
        if self._channel.pending:
            self._loop.call_soon(self._read)

    async def _fail(self, error: Exception) -> None:
        why = "it did not get ready in time" if isinstance(error, TimeoutError) else str(error)
        self._drop(kill=True)
        tail = last_lines(self.log)
        raise WorkerStartFailed(
            f"The forkserver of {self._command[0]} could not be started: {why}."
            + (f"\nThe end of its log {self.log}:\n{tail}" if tail else "")
        ) from error

    # --- running ------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while self._channel is not None:
                self._heard(self._channel.receive(0).message)
        except TimeoutError:
            return
        except (ChannelClosed, MalformedMessage, OSError) as error:
            self._gone(str(error))

    def give_up(self, reason: str) -> None:
        """Ends a supervisor that hangs, and reports its loss."""
        self._gone(reason)

    def _gone(self, reason: str) -> None:
        if self._process is None:
            return
        self._drop(kill=True)
        tail = last_lines(self.log, 5)
        self._lost(f"{reason}\n{tail}" if tail else reason)

    def _drop(self, kill: bool) -> None:
        """Lets go of process, channel and files. The workers end with their supervisor."""
        self._close_channel()
        process, self._process = self._process, None
        if process is not None:
            if kill and is_alive(process):
                end_supervisor(process.pid, self._groups)
            with contextlib.suppress(psutil.Error):
                process.wait(_CLOSE_SECONDS)
            _running.discard(process.pid)
        end_remains(self._groups, _running)
        for suffix in (".address", ".sock", ".process"):
            self._base.with_suffix(suffix).unlink(missing_ok=True)

    def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            if self._loop is not None and channel.fileno() >= 0:
                self._loop.remove_reader(channel.fileno())
            channel.close()


def _is_working(process: psutil.Process | None) -> bool:
    """Whether it runs, or would if there were a processor or the disk's answer."""
    try:
        return process is not None and process.status() in _WORKING
    except psutil.Error:
        return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _writable(channel: Channel) -> bool:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLOUT)
    return bool(poll.poll(0))
