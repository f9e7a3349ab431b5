"""A Jupyter kernel whose cells are timed from outside, as a front end sees them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import KernelManager
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec

PLAIN = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]


class CellFailed(Exception):
    """A cell of a benchmark raised; the benchmark says nothing then."""


class TimedKernel:
    """A plain ipykernel of this interpreter."""

    def __init__(self, environment: dict[str, str] | None = None, timeout: float = 120) -> None:
        self.timeout = timeout
        self.manager = KernelManager(transport="ipc")
        self.manager._kernel_spec = KernelSpec(
            argv=[*PLAIN, "-f", "{connection_file}"], display_name="timed", language="python"
        )
        self.manager.start_kernel(env={**os.environ, **(environment or {})})
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=timeout)

    def reply_time(self, code: str) -> float:
        """Seconds from sending a cell to its reply."""
        started = time.perf_counter()
        message = self.client.execute(code)
        reply = self._reply(message)
        elapsed = time.perf_counter() - started
        self.outputs(message)
        _check(reply, code)
        return elapsed

    def first_output_time(self, code: str) -> float:
        """Seconds from sending a cell to the first text that it prints."""
        started = time.perf_counter()
        message = self.client.execute(code)
        for output in self._iopub(message):
            if output["msg_type"] == "stream":
                elapsed = time.perf_counter() - started
                break
        else:
            raise CellFailed(f"{code!r} printed nothing")
        self.outputs(message)
        _check(self._reply(message), code)
        return elapsed

    def interrupt(self, code: str) -> float:
        """Interrupts a cell once it prints; returns when (perf_counter), after its reply."""
        message = self.client.execute(code)
        for output in self._iopub(message):
            if output["msg_type"] == "stream":
                break
        started = time.perf_counter()
        self.manager.interrupt_kernel()
        reply = self._reply(message)
        self.outputs(message)
        if reply["content"]["status"] != "error":
            raise CellFailed(f"{code!r} was not interrupted")
        return started

    def broker(self) -> dict[str, Any]:
        """Gives the broker's status, from the metadata of what `%gpu` shows."""
        message = self.client.execute("%gpu")
        shown = [output["content"].get("metadata", {}) for output in self.outputs(message)]
        _check(self._reply(message), "%gpu")
        status = next(data["zerokernel"] for data in shown if "zerokernel" in data)
        if status.get("problem"):
            raise CellFailed(f"%gpu: {status['problem']}")
        return dict(status["broker"])

    def wait_for_broker(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Asks the broker until its status is as wanted; returns that status."""
        until = time.monotonic() + self.timeout
        while not condition(status := self.broker()):
            if time.monotonic() > until:
                raise CellFailed(f"the broker did not get there: {status}")
        return status

    def value(self, code: str) -> Any:
        """Runs a cell and gives what it printed, read as JSON."""
        message = self.client.execute(code)
        text = "".join(
            output["content"]["text"]
            for output in self.outputs(message)
            if output["msg_type"] == "stream" and output["content"]["name"] == "stdout"
        )
        _check(self._reply(message), code)
        return json.loads(text)

    def outputs(self, message: str) -> list[dict[str, Any]]:
        """Gives the outputs of a cell up to the end of it."""
        return list(self._iopub(message))

    def close(self) -> None:
        """Ends the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()

    def _iopub(self, message: str) -> Iterator[dict[str, Any]]:
        while True:
            output = self.client.get_iopub_msg(timeout=self.timeout)
            if output["parent_header"].get("msg_id") != message:
                continue
            if output["msg_type"] == "status":
                if output["content"]["execution_state"] == "idle":
                    return
            else:
                yield output

    def _reply(self, message: str) -> dict[str, Any]:
        while True:
            reply = self.client.get_shell_msg(timeout=self.timeout)
            if reply["parent_header"].get("msg_id") == message:
                return dict(reply)


def _check(reply: dict[str, Any], code: str) -> None:
    content = reply["content"]
    if content["status"] != "ok":
        raise CellFailed(f"{code!r}: {content.get('ename')}: {content.get('evalue')}")


@contextlib.contextmanager
def kernel(environment: dict[str, str] | None = None) -> Iterator[TimedKernel]:
    """A kernel that is shut down at the end."""
    one = TimedKernel(environment)
    try:
        yield one
    finally:
        with contextlib.suppress(queue.Empty):
            one.close()


@contextlib.contextmanager
def own_broker() -> Iterator[dict[str, str]]:
    """Gives the environment in which kernels start a broker of their own, ended at the end.

    So that a broker that is in use already is neither disturbed nor measured.
    """
    with tempfile.TemporaryDirectory(prefix="zk-bench-") as folder:
        try:
            yield {"ZEROKERNEL_RUNTIME_DIRECTORY": folder}
        finally:
            for address in Path(folder).glob("broker-*.json"):
                _end(json.loads(address.read_text())["pid"])


def _end(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        process.wait(timeout=20)


def connected(count: int) -> Callable[[dict[str, Any]], bool]:
    """Gives a condition on a broker's status: so many sessions are connected."""
    return lambda status: sum(one["connected"] for one in status["sessions"]) == count


def leased(status: dict[str, Any]) -> bool:
    """Whether a broker's status shows a slice that is leased."""
    return any(one["state"] == "leased" for one in status["slices"])


def idle(status: dict[str, Any]) -> bool:
    """Whether every slice is free or holds a parked worker."""
    return all(one["state"] in ("free", "parked") for one in status["slices"])


def kind(status: dict[str, Any]) -> str:
    """Gives "gpu" where the slices are real, "cpu" where they are simulated."""
    return "cpu" if all(one["simulated"] for one in status["slices"]) else "gpu"
