"""A shell of IPython and a session that only records, for the magics' tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from zerokernel.notebook.receipt import Receipt


@dataclass
class FakeSession:
    """Stands for a Session: records calls, and runs what ``work`` says."""

    work: Any = None
    ran: list[tuple[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    worker: bool = True

    def start(self) -> None:
        self.calls.append("start")

    def run(self, body: str, code: str, options: Any, status: Any) -> None:
        self.ran.append((body, options))
        if self.work is not None:
            self.work(status)
        else:
            status.receipt(Receipt(slice="simulated 1", ran=0.5))

    def cancel(self) -> str:
        self.calls.append("cancel")
        return "cancelled it"

    def restart(self) -> str:
        self.calls.append("restart")
        return "restarted it"

    def has_worker(self) -> bool:
        return self.worker

    def overview(self) -> dict[str, Any]:
        return {"session": "me", "slices": [], "queue": [], "sessions": [], "version": "9"}

    def sizes(self) -> tuple[str, ...]:
        return ("half", "full")

    def close(self) -> None:
        self.calls.append("close")


class RecordingShell(InteractiveShell):  # type: ignore[misc]  # IPython's base is partly typed
    """A shell that records the errors that a kernel's shell would send to the front end."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shown_errors: list[tuple[str, str, list[str]]] = []

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        self.shown_errors.append((etype.__name__, str(evalue), list(stb)))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell of its own, with recorded displays, results and errors, and no history file."""
    config = Config()
    config.HistoryManager.enabled = False
    shell = RecordingShell(config=config)
    monkeypatch.setattr(InteractiveShell, "_instance", shell)  # what get_ipython() gives
    shell.display_pub = CapturingDisplayPublisher()
    with shell.builtin_trap:
        yield shell
    shell.restore_sys_module_state()


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()
