from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from zerokernel.notebook.staging_budget import StagingBudget


def test_shares_add_up_to_the_budget(tmp_path: Path) -> None:
    """What one has taken is not there for another, until it is given back."""
    one, other = StagingBudget(tmp_path / "new"), StagingBudget(tmp_path / "new")
    assert one.take(60, budget=100)
    assert not other.take(50, budget=100)
    assert other.take(40, budget=100)
    assert not one.take(1, budget=100)
    other.give_back()
    other.give_back()
    assert one.take(40, budget=100)
    one.give_back()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_the_share_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    """A killed notebook takes nothing from the others."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        StagingBudget(tmp_path).take(90, budget=100)
        os.write(tell, b"!")
        signal.pause()
        os._exit(0)
    share = StagingBudget(tmp_path)
    try:
        assert os.read(told, 1) == b"!"
        assert not share.take(20, budget=100)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)
    assert share.take(100, budget=100)
    share.give_back()


def test_a_directory_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """The caller hears that nobody can count here."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        StagingBudget(tmp_path / "file").take(1, budget=2)
