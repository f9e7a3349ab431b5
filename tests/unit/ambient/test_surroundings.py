import os
import pickle
import random
import sys

import numpy as np
import pytest

from zerokernel import ambient
from zerokernel.ambient import reporting


@pytest.fixture(autouse=True)
def unchanged():
    """Puts this process back as it was."""
    before = ambient.capture()
    yield
    ambient.apply(ambient.diff(ambient.capture(), before))


def test_nothing_changed_is_nothing():
    """Two captures in a row differ in nothing."""
    reporting.loggers.start()
    assert ambient.diff(ambient.capture(), ambient.capture()) == {}


def test_only_the_changed_variables_travel(monkeypatch):
    """New, changed and removed variables are in the difference, no other."""
    monkeypatch.setenv("ZK_A", "1")
    monkeypatch.setenv("ZK_B", "1")
    before = ambient.capture()
    monkeypatch.setenv("ZK_A", "2")
    monkeypatch.delenv("ZK_B")
    delta = ambient.diff(before, ambient.capture())
    assert delta == {"environ": {"ZK_A": "2", "ZK_B": ambient.GONE}}
    os.environ.update(ZK_A="1", ZK_B="1")
    ambient.apply(delta)
    assert (os.environ["ZK_A"], os.environ.get("ZK_B")) == ("2", None)


def test_directory_and_path(tmp_path, monkeypatch):
    """The working directory and sys.path go over, the latter into the same list."""
    before = ambient.capture()
    monkeypatch.chdir(tmp_path)
    path = sys.path
    sys.path.append("somewhere")
    delta = ambient.diff(before, ambient.capture())
    ambient.apply(ambient.diff(ambient.capture(), before))
    assert "somewhere" not in sys.path
    ambient.apply(delta)
    assert (os.getcwd(), sys.path[-1]) == (str(tmp_path), "somewhere")
    assert sys.path is path


def _torch_draw():
    return pytest.importorskip("torch").rand(3).tolist()


@pytest.mark.parametrize(
    "draw",
    [random.random, lambda: random.gauss(0, 1), lambda: np.random.normal(), _torch_draw],
)
def test_random_generators_go_on_where_the_other_stopped(draw):
    """What is drawn after applying a difference is what would have been drawn."""
    draw()
    before = ambient.capture()
    draw()
    delta = ambient.diff(before, ambient.capture())
    expected = draw()
    ambient.apply(ambient.diff(ambient.capture(), before))
    ambient.apply(delta)
    assert draw() == expected


def test_device_and_credentials_stay_with_their_process(monkeypatch):
    """What binds a process to its device or its user's tokens is not captured."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret")
    found = ambient.capture()["environ"]
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert "JUPYTERHUB_API_TOKEN" not in found


def _entered(environ):
    """A fresh worker's surroundings that took over a notebook's environment, and what they sent."""
    worker = ambient.Surroundings(in_worker=True)
    worker.enter({"environ": pickle.dumps(environ)}, {})
    return worker.changes().plain


def test_a_worker_takes_only_as_much_of_the_device_as_it_needs():
    """What tells JAX and TensorFlow so is in a worker's environment, and not sent home."""
    assert "environ" not in _entered(dict(ambient.capture()["environ"]))
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_what_the_notebook_says_of_it_holds():
    """The notebook's own value is the worker's."""
    environ = dict(ambient.capture()["environ"], XLA_PYTHON_CLIENT_PREALLOCATE="true")
    assert "environ" not in _entered(environ)
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"


def test_a_forkservers_own_value_does_not_hold(monkeypatch):
    """A variable that the notebook does not have is as if it had never been there."""
    environ = dict(ambient.capture()["environ"])
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    _entered(environ)
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
