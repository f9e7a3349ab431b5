"""Real Jupyter kernels for tests: started from this interpreter, driven message by message."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
"""Seconds after which a test that waits for a kernel fails; never waited in full if all is well."""


class KernelStuck(AssertionError):
    """The kernel died or said nothing for as long as the test was ready to wait."""


def joined(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs with the pieces of a stream joined: how many there are is a matter of time."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        last = found[-1] if found else {}
        if output["type"] == "stream" and (last.get("type"), last.get("name")) == (
            "stream",
            output["name"],
        ):
            last["text"] += output["text"]
        else:
            found.append(dict(output))
    return found


@dataclass
class Run:
    """What came of one execute request: its outputs in order, and its reply."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    idle: bool = False

    @property
    def done(self) -> bool:
        return self.idle and self.reply is not None

    @property
    def status(self) -> str:
        return str(self.reply["status"]) if self.reply else "unanswered"

    def text(self, name: str | None = None) -> str:
        """All that was written to the streams, or to the named one."""
        return "".join(
            o["text"] for o in self.outputs if o["type"] == "stream" and name in (None, o["name"])
        )

    def error(self) -> dict[str, Any]:
        errors = [o for o in self.outputs if o["type"] == "error"]
        assert len(errors) == 1, f"expected one error output, got {self.outputs}"
        return errors[0]

    def own(self) -> list[dict[str, Any]]:
        """The displays that zerokernel itself made (status line, receipt)."""
        return [o for o in self.outputs if "zerokernel" in (o.get("metadata") or {})]


class Kernel:
    """One running kernel and its client. Use it as a context manager, or call ``close``."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        directory: Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self._runs: dict[str, Run] = {}
        # Not TCP: somebody else may take a port between its choice and the kernel's start.
        self._folder = tempfile.mkdtemp(prefix="zk-kernel-")
        self._manager = KernelManager(
            transport="ipc", connection_file=os.path.join(self._folder, "kernel.json")
        )
        self._manager._kernel_spec = KernelSpec(
            argv=[
                *(sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"),
                *("-f", "{connection_file}", *arguments),
            ],
            display_name="under test",
            language="python",
        )
        self._manager.start_kernel(
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            cwd=str(directory or Path.cwd()),
        )
        # A client that is slow for a moment drops nothing: that would look like the kernel's loss.
        self._manager.context.setsockopt(zmq.RCVHWM, 0)
        self.client: BlockingKernelClient = self._manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=PATIENCE)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    def load_extension(self) -> None:
        run = self.run("%load_ext zerokernel", silent=True)
        assert run.status == "ok", run

    # --- cells ---------------------------------------------------------------------------

    def submit(self, code: str, *, subshell: str | None = None, **content: Any) -> str:
        """Sends an execute request without waiting; gives its id."""
        request = {
            "code": code,
            "silent": False,
            "store_history": not content.get("silent", False),
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
            **content,
        }
        message = self.client.session.msg("execute_request", request)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        identity = str(message["header"]["msg_id"])
        self._runs[identity] = Run()
        return identity

    def collect(self, identity: str, timeout: float = PATIENCE) -> Run:
        """Waits until a submitted request is answered and all its outputs are here."""
        self.watch(identity, lambda run: run.done, timeout)
        return self._runs.pop(identity)

    def run(
        self, code: str, timeout: float = PATIENCE, *, subshell: str | None = None, **content: Any
    ) -> Run:
        return self.collect(self.submit(code, subshell=subshell, **content), timeout)

    def open_subshell(self) -> str:
        """Makes a subshell, which runs cells while the main shell is busy; gives its id."""
        session, control = self.client.session, self.client.control_channel
        asked = session.msg("create_subshell_request")
        control.send(asked)
        while (reply := control.get_msg(timeout=PATIENCE))["parent_header"]["msg_id"] != asked[
            "msg_id"
        ]:
            pass
        return str(reply["content"]["subshell_id"])

    def watch(self, identity: str, until: Callable[[Run], bool], timeout: float = PATIENCE) -> Run:
        """Reads what the kernel says until the condition holds for that request."""
        end = time.monotonic() + timeout
        run = self._runs[identity]
        while not until(run):
            if run.done:
                raise KernelStuck(f"the cell is over and it did not happen: {run}")
            if time.monotonic() > end:
                raise KernelStuck(f"nothing more within {timeout} s; so far {run}")
            self._read(0.2)
            if not self._manager.is_alive():
                raise KernelStuck(f"the kernel died; so far {run}")
        return run

    def _read(self, timeout: float) -> None:
        """Takes in all messages that are here, waiting for the first."""
        poller = zmq.Poller()
        sockets = [c.socket for c in (self.client.shell_channel, self.client.iopub_channel)]
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        poller.poll(timeout * 1000)
        for socket in sockets:
            while socket.get(zmq.EVENTS) & zmq.POLLIN:
                parts = zmq.Socket.recv_multipart(socket)
                _, parts = self.client.session.feed_identities(parts)
                self._take(self.client.session.deserialize(parts))

    def _take(self, message: dict[str, Any]) -> None:
        run = self._runs.get((message["parent_header"] or {}).get("msg_id", ""))
        if run is None:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "execute_reply":
            run.reply = content
        elif kind == "status":
            run.idle = run.idle or content["execution_state"] == "idle"
        elif kind != "execute_input":
            run.outputs.append({"type": kind, **content})

    # --- the kernel's life ---------------------------------------------------------------

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """Ends the kernel as `kill -9` does, and waits until it is gone."""
        process = psutil.Process(self.pid)
        process.send_signal(signal.SIGKILL)
        self._manager.provisioner.process.wait(PATIENCE)  # type: ignore[union-attr]

    def close(self) -> None:
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=not self._manager.is_alive())
        self._manager.cleanup_resources()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def offer_kernelspec(directory: Path) -> dict[str, str]:
    """Puts the repository's kernelspec where Jupyter looks, if it is told by these variables."""
    shutil.copytree(ROOT / "kernelspec", directory / "kernels" / "zerokernel")
    return {"JUPYTER_PATH": str(directory), "PYTHONPATH": str(ROOT)}


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Polls for something that gives no event, such as the end of a foreign process."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen within {timeout} s"
        time.sleep(0.01)
    return value


def processes_with(variable: str, value: str) -> Iterator[psutil.Process]:
    """The live processes that were started with this environment variable."""
    needle = f"{variable}={value}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                process = psutil.Process(int(entry.name))
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process
        except (OSError, psutil.NoSuchProcess):
            continue


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"
