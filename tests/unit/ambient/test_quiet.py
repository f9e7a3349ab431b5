"""A repetition is silent for the thread that repeats, and for no other."""

from __future__ import annotations

import logging
import sys
import threading
import warnings

import pytest

from zerokernel.ambient.quiet import quietly


def _say(what: str) -> None:
    print(what)
    print(what, file=sys.stderr)
    warnings.warn(what, stacklevel=1)
    logging.getLogger("zk.quiet").warning(what)


@pytest.mark.filterwarnings("always")
def test_only_the_repeating_thread_is_silent(capsys):
    """Prints, warnings and records of another thread come through meanwhile, and ours later."""
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("zk.quiet").addHandler(handler)
    streams = sys.stdout, sys.stderr
    try:
        with quietly():
            _say("ours")
            other = threading.Thread(target=_say, args=("theirs",))
            with warnings.catch_warnings(record=True):  # not shown by pytest
                other.start()
                other.join()
    finally:
        logging.getLogger("zk.quiet").removeHandler(handler)
    assert (sys.stdout, sys.stderr) == streams
    print("after")
    out, err = capsys.readouterr()
    assert out == "theirs\nafter\n"
    assert "ours" not in err
    assert err.count("theirs") == 2


def test_errors_are_raised_and_all_is_put_back():
    """Silence swallows no exception, and ends with it."""
    before = sys.stdout, warnings._showwarnmsg, logging.Logger.handle
    with pytest.raises(ZeroDivisionError), quietly():
        1 / 0  # noqa: B018 - raises
    assert (sys.stdout, warnings._showwarnmsg, logging.Logger.handle) == before


def test_a_stream_that_is_put_there_meanwhile_stays(monkeypatch):
    """A module that replaces sys.stdout when it is imported has done so."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with quietly():
        sys.stdout = mine = sys.stderr
    assert sys.stdout is mine
