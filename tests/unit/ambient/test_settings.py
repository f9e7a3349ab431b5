"""The table of settings: what is different is found, and applying it makes both sides alike."""

from __future__ import annotations

import decimal
import gc
import logging
import pickle
import sys
import warnings
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerokernel import ambient
from zerokernel.ambient import Surroundings, reporting, table
from zerokernel.ambient.setting import Setting, difference

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def unchanged():
    """Puts this process back as it was."""
    reporting.loggers.start()
    before = ambient.capture()
    yield
    ambient.apply(ambient.diff(ambient.capture(), before))


def _set_trap(on: bool) -> None:
    decimal.getcontext().traps[decimal.Inexact] = on


def _set_level(level: int) -> None:
    logging.getLogger("zk.scratch").setLevel(level)


def _set_filters(actions: list[Any]) -> None:
    for action in actions:
        warnings.simplefilter(action, ResourceWarning)


SETTERS = {
    "rc": (lambda v: matplotlib.rcParams.update({"lines.linewidth": v}), st.floats(0.5, 9)),
    "rc list": (lambda v: matplotlib.rcParams.update({"font.family": v}), st.just(["serif"])),
    "pandas": (lambda v: pd.set_option("display.max_rows", v), st.integers(1, 99)),
    "numpy": (lambda v: np.set_printoptions(precision=v), st.integers(1, 12)),
    "numpy error": (lambda v: np.seterr(over=v), st.sampled_from(["ignore", "raise"])),
    "dtype": (torch.set_default_dtype, st.sampled_from([torch.float64, torch.float16])),
    "device": (torch.set_default_device, st.sampled_from(["meta", "cpu"])),
    "gradients": (torch.set_grad_enabled, st.booleans()),
    "benchmark": (lambda v: setattr(torch.backends.cudnn, "benchmark", v), st.booleans()),
    "matmul": (torch.set_float32_matmul_precision, st.sampled_from(["highest", "medium"])),
    "tensors": (lambda v: torch.set_printoptions(precision=v), st.integers(1, 9)),
    "sklearn": (lambda v: sklearn.set_config(assume_finite=v), st.booleans()),
    "decimal": (lambda v: setattr(decimal.getcontext(), "prec", v), st.integers(3, 50)),
    "trap": (_set_trap, st.booleans()),
    "collector": (lambda v: gc.set_threshold(v, 10, 10), st.integers(100, 900)),
    "level": (_set_level, st.sampled_from([0, 10, 30])),
    "disable": (logging.disable, st.sampled_from([0, 20])),
    "filters": (_set_filters, st.lists(st.sampled_from(["ignore", "always", "error"]), max_size=3)),
}
STEPS = st.lists(
    st.sampled_from(sorted(SETTERS)).flatmap(lambda n: st.tuples(st.just(n), SETTERS[n][1])),
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, STEPS)
def test_applying_the_difference_makes_both_alike(first, second):
    """From any state to any other, and what was alike is not in the difference."""
    for name, value in first:
        SETTERS[name][0](value)
    before = ambient.capture()
    for name, value in second:
        SETTERS[name][0](value)
    after = ambient.capture()
    delta = ambient.diff(before, after)
    assert not ambient.apply(ambient.diff(after, before))
    assert ambient.diff(ambient.capture(), before) == {}
    assert not ambient.apply(delta)
    assert ambient.diff(ambient.capture(), after) == {}
    if not second:
        assert delta == {}


VALUES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1, 1.0, True, None, "x", (1,)]))


@given(VALUES, VALUES)
def test_a_keyed_difference_is_exact(old, new):
    """Only what differs is in it, equal values of another type and removed keys included."""
    delta = difference(Setting("s", dict, dict.update, keyed=True), old, new)
    if delta is ambient.GONE:
        assert sorted(map(repr, old.items())) == sorted(map(repr, new.items()))
        return
    for key, value in delta.items():
        assert repr(old.get(key)) != repr(value) or key not in old
    merged = {k: v for k, v in (old | delta).items() if v is not ambient.GONE}
    assert {k: repr(v) for k, v in merged.items()} == {k: repr(v) for k, v in new.items()}


def test_every_plain_value_can_be_pickled():
    """What goes ahead of the objects needs no more than pickle, and survives it unchanged."""
    state = ambient.capture()
    for name, value in state.items():
        if not table.is_live(name):
            assert difference(None, value, pickle.loads(pickle.dumps(value))) is ambient.GONE, name


def test_legacy_normal_numbers_are_not_missed():
    """The second normal number changes no bits of the generator, and is noticed all the same."""
    np.random.seed(3)
    np.random.standard_normal()
    before = ambient.capture()
    drawn = np.random.standard_normal()
    delta = ambient.diff(before, ambient.capture())
    assert list(delta) == ["numpy.random.state"]
    ambient.apply({"numpy.random.state": before["numpy.random.state"]})
    assert np.random.standard_normal() == drawn


def test_another_bit_generator_is_read_whole():
    """Where NumPy draws its bits from something else, its state crosses as well."""
    own = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.MT19937(5))
        before = ambient.capture()
        drawn = np.random.random()
        assert "numpy.random.state" in ambient.diff(before, ambient.capture())
        ambient.apply({"numpy.random.state": before["numpy.random.state"]})
        assert np.random.random() == drawn
    finally:
        np.random.set_bit_generator(own)


def test_a_value_waits_for_its_library(monkeypatch, tmp_path):
    """What belongs to a library that is not imported is set as soon as it is."""
    (tmp_path / "zk_scratch_library.py").write_text("level = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(table._settings, "zk.level", _attribute_of("zk_scratch_library", "level"))
    assert ambient.apply({"zk.level": 7}) == []
    import zk_scratch_library  # type: ignore[import-not-found]  # made by the test

    monkeypatch.delitem(sys.modules, "zk_scratch_library")
    assert zk_scratch_library.level == 7


def _attribute_of(module: str, name: str) -> Setting:
    return Setting(
        "zk.level",
        lambda: getattr(sys.modules[module], name),
        lambda value: setattr(sys.modules[module], name, value),
        module,
    )


def test_a_fresh_worker_loses_what_the_notebook_does_not_have(monkeypatch):
    """The environment is made the notebook's whole; of settings only what it has is set."""
    monkeypatch.setenv("ZK_SCRATCH_ONLY_HERE", "1")
    notebook, worker = Surroundings(in_worker=False), Surroundings(in_worker=True)
    news = notebook.changes()
    environ = pickle.loads(news.plain["environ"])
    del environ["ZK_SCRATCH_ONLY_HERE"]
    news.plain["environ"] = pickle.dumps(environ)
    assert worker.enter(news.plain, {}) == []
    assert "ZK_SCRATCH_ONLY_HERE" not in ambient.capture()["environ"]
