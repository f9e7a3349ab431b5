"""Tracebacks without the emulation's frames."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from zerokernel import emulation
from zerokernel.emulation.frames import hide_frames


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    emulation.emulate()
    yield
    emulation.remove()


def raised(work: Callable[[], Any]) -> BaseException:
    with pytest.raises((RuntimeError, ValueError, ExceptionGroup)) as found:
        work()
    return found.value


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def refuse() -> None:
    torch.ones(3, device="cuda") @ torch.ones(2, device="cuda")


def refuse_and_go_on() -> None:
    try:
        refuse()
    except RuntimeError as error:
        raise ValueError("later") from error


def refuse_twice() -> None:
    errors = [raised(refuse), raised(refuse)]
    raise ExceptionGroup("both", errors)


@pytest.mark.parametrize("work", [refuse, refuse_and_go_on, refuse_twice])
def test_the_last_line_is_the_users(work: Callable[[], None]) -> None:
    """In the error, in what caused it and in a group's."""
    error = raised(work)
    assert "zerokernel/emulation" in shown(error)
    hide_frames(error)
    assert "zerokernel/emulation" not in shown(error)
    assert "torch.ones(3, device" in shown(error)


def test_an_error_of_nothing_else_keeps_its_frames() -> None:
    """And one without a traceback stays as it is."""
    error = raised(refuse)
    assert error.__traceback__ is not None
    while error.__traceback__.tb_next is not None:
        error.__traceback__ = error.__traceback__.tb_next
    hide_frames(error)
    assert error.__traceback__ is not None
    hide_frames(None)
    hide_frames(ValueError())
