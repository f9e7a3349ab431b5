"""Whose handlers the handlers of a logger are."""

from __future__ import annotations

import logging
import sys
import sysconfig
from collections.abc import Iterator
from types import ModuleType

import pytest

from zerokernel.ambient.reporting import _Loggers

OTHERS_NAME = "zk-reports-of-a-library"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    one = logging.getLogger(OTHERS_NAME)
    one.addHandler(logging.NullHandler())
    yield one
    one.handlers.clear()


@pytest.fixture
def library(logger: logging.Logger) -> Iterator[ModuleType]:
    """An installed module that holds the logger, which it calls otherwise than itself."""
    module = ModuleType("zk_library")
    module.__file__ = f"{sysconfig.get_paths()['purelib']}/zk_library.py"
    module.log = logger
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.usefixtures("library")
def test_a_librarys_own_handler_does_not_travel() -> None:
    """Whatever its logger is called: otherwise it would go along with each cell."""
    assert _Loggers().read()[OTHERS_NAME][3:] == ()


def test_a_users_handler_travels(logger: logging.Logger) -> None:
    """Of a logger that no library holds."""
    assert _Loggers().read()[OTHERS_NAME][3] == (logger.handlers[0],)


@pytest.mark.usefixtures("library")
def test_a_users_handler_beside_a_librarys_travels(logger: logging.Logger) -> None:
    """One that is added later is the user's."""
    loggers = _Loggers()
    loggers.read()
    logger.addHandler(added := logging.NullHandler())
    assert loggers.read()[OTHERS_NAME][3] == (added,)
