"""Loading and unloading: everything is registered once, and taken back."""

from __future__ import annotations

import atexit
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from zerokernel.notebook import extension
from zerokernel.notebook.extension import HIDDEN, ORIGINAL, VISIBLE


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (HIDDEN, ORIGINAL, VISIBLE):
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setenv("ZEROKERNEL_EMULATE_CUDA", "false")  # this torch has nothing to replace


@pytest.fixture
def loaded(shell: Any, session: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shell with zerokernel loaded as `%load_ext` does, over a session that records."""
    monkeypatch.setattr("zerokernel.notebook.session.Session", lambda *_: session)
    shell.run_line_magic("load_ext", "zerokernel")
    yield shell
    extension.unload(shell)


def parts(shell: Any) -> tuple[bool, bool, int, int, int]:
    """What is registered: line magic, cell magic, configurables, matchers, transformers."""
    magics = shell.magics_manager.magics
    names = [type(one).__name__ for one in shell.configurables]
    matchers = [m.matcher_identifier for m in shell.Completer.custom_matchers]
    transformers = [getattr(one, "__name__", "") for one in shell.input_transformers_cleanup]
    return (
        "gpu" in magics["line"],
        "gpu" in magics["cell"],
        names.count("GpuMagics"),
        matchers.count("zerokernel.options"),
        transformers.count("to_plain_cell"),
    )


def test_loading_registers_everything_and_starts_the_session(loaded: Any, session: Any) -> None:
    """Both magics, `%config`, completion and the transformer are there; the session starts."""
    assert parts(loaded) == (True, True, 1, 1, 1)
    assert session.calls == ["start"]


def test_loading_again_changes_nothing(loaded: Any, session: Any) -> None:
    """A second load of a loaded extension neither registers nor starts anything twice."""
    extension.load(loaded)
    assert parts(loaded) == (True, True, 1, 1, 1)
    assert session.calls == ["start"]


def test_reloading_begins_anew(loaded: Any, session: Any) -> None:
    """%reload_ext closes the session and starts another, with everything registered once."""
    loaded.run_line_magic("reload_ext", "zerokernel")
    assert parts(loaded) == (True, True, 1, 1, 1)
    assert session.calls == ["start", "close", "start"]


def test_unloading_takes_everything_back(loaded: Any, session: Any) -> None:
    """%unload_ext leaves no trace in shell or environment and closes the session."""
    loaded.run_line_magic("unload_ext", "zerokernel")
    assert parts(loaded) == (False, False, 0, 0, 0)
    assert session.calls == ["start", "close"]
    assert not {HIDDEN, ORIGINAL, VISIBLE} & os.environ.keys()


def test_unloading_what_is_not_loaded(shell: Any) -> None:
    """Unloading is harmless where nothing was loaded."""
    extension.unload(shell)


def test_the_session_is_closed_at_exit(
    shell: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that shuts down closes its session; one that was unloaded did it before."""
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    monkeypatch.setattr("zerokernel.notebook.session.Session", lambda *_: session)
    extension.load(shell)
    assert registered == [session.close]
    extension.unload(shell)
    assert registered == []


def test_a_bad_setting_is_shown_without_frames(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is not understood fails the load with its name and message alone."""
    monkeypatch.setenv("ZEROKERNEL_CHANNEL", "pigeon")
    result = shell.run_cell("%load_ext zerokernel")
    assert type(result.error_in_exec).__name__ == "BadSetting"
    [(name, message, lines)] = shell.shown_errors
    assert "pigeon" in message
    assert lines == [f"\x1b[31m{name}\x1b[39m: {message}"]
    assert parts(shell) == (False, False, 0, 0, 0)


def test_elsewhere_than_on_linux(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading says that Linux is needed; --cpu works as it says, and the rest fails clearly."""
    monkeypatch.setattr(sys, "platform", "darwin")
    extension.load(shell)
    assert "UnsupportedPlatform: zerokernel needs Linux" in capsys.readouterr().err
    for cell in ("%%gpu\nx = 1\n", "%gpu"):
        assert type(shell.run_cell(cell).error_in_exec).__name__ == "UnsupportedPlatform"
    assert shell.run_cell("%%gpu --cpu\nx = 1\n").success
    assert shell.user_ns["x"] == 1
    extension.unload(shell)


@pytest.mark.parametrize("original", [None, "", "0,1", "GPU-5e1f"])
def test_devices_are_hidden_and_the_original_is_kept(
    monkeypatch: pytest.MonkeyPatch, original: str | None
) -> None:
    """The process sees no GPU, the broker learns the original, and unloading restores it."""
    if original is not None:
        monkeypatch.setenv(VISIBLE, original)
    assert extension.hide_devices() == ""
    assert os.environ[VISIBLE] == ""
    assert os.environ.get(ORIGINAL) == original
    extension.show_devices()
    assert os.environ.get(VISIBLE) == original
    assert not {HIDDEN, ORIGINAL} & os.environ.keys()


@pytest.mark.parametrize("original", [None, "0,1"])
def test_hiding_twice_keeps_the_original(
    monkeypatch: pytest.MonkeyPatch, original: str | None
) -> None:
    """A kernel started from a kernel inherits the hidden state and does not take it for its own."""
    if original is not None:
        monkeypatch.setenv(VISIBLE, original)
    extension.hide_devices()
    extension.hide_devices()
    assert os.environ.get(ORIGINAL) == original


def test_devices_that_somebody_chose_meanwhile_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unloading does not undo what the user set after loading."""
    monkeypatch.setenv(VISIBLE, "0")
    extension.hide_devices()
    monkeypatch.setenv(VISIBLE, "3")
    extension.show_devices()
    assert os.environ[VISIBLE] == "3"


def test_a_kernel_that_holds_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch has initialised CUDA already, hiding comes too late, and that is said."""
    cuda = SimpleNamespace(is_initialized=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert "already initialised CUDA" in extension.hide_devices()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting(
    wanted: bool, shell: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`emulate_cuda` has the extension begin it, and unloading end it."""
    calls: list[str] = []
    monkeypatch.setenv("ZEROKERNEL_EMULATE_CUDA", str(wanted))
    monkeypatch.setattr(extension, "emulate", lambda: calls.append("begun"))
    monkeypatch.setattr(extension, "end_emulation", lambda: calls.append("ended"))
    monkeypatch.setattr("zerokernel.notebook.session.Session", lambda *_: session)
    extension.load(shell)
    extension.unload(shell)
    assert calls == (["begun", "ended"] if wanted else ["ended"])
