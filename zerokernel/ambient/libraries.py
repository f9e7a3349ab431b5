"""Settings of libraries, in one table: to add one is to add a line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any

from zerokernel.ambient.setting import GONE, Setting, attributes, pair
from zerokernel.ambient.torch_settings import TORCH


class _Copied:
    """The items of a large mapping, copied only when one of them is another object."""

    def __init__(self, items_of: Callable[[], tuple[list[str], list[Any]]]) -> None:
        self._items_of = items_of
        self._keys: list[str] = []
        self._values: list[Any] = []
        self._copy: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        keys, values = self._items_of()
        alike = len(values) == len(self._values) and keys == self._keys
        if not (alike and all(map(is_, values, self._values))):
            self._keys, self._values = keys, values
            self._copy = dict(zip(keys, values, strict=True))
        return self._copy


def _parameters() -> tuple[list[str], list[Any]]:
    """Matplotlib's rcParams, past their own methods, which would choose a backend."""
    parameters = sys.modules["matplotlib"].rcParams
    keys, values = list(dict.keys(parameters)), list(dict.values(parameters))
    if not isinstance(dict.get(parameters, "backend"), str):  # not chosen yet
        place = keys.index("backend")
        del keys[place], values[place]
    return keys, values


def _put_parameters(changes: dict[str, Any]) -> None:
    matplotlib = sys.modules["matplotlib"]
    backend = changes.pop("backend", GONE)
    matplotlib.rcParams.update({k: v for k, v in changes.items() if v is not GONE})
    if backend is not GONE:
        matplotlib.use(backend)


def _options() -> tuple[list[str], list[Any]]:
    """The options of pandas, which lie in nested dicts."""
    keys: list[str] = []
    values: list[Any] = []
    todo: list[tuple[str, Mapping[str, Any]]] = [("", _pandas_tree())]
    for prefix, branch in todo:
        for key, value in branch.items():
            if type(value) is dict:
                todo.append((f"{prefix}{key}.", value))
            else:
                keys.append(prefix + key)
                values.append(value)
    return keys, values


def _pandas_tree() -> Mapping[str, Any]:
    tree: Mapping[str, Any] = sys.modules["pandas._config.config"].__dict__["_global_config"]
    return tree


def _put_options(changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if value is not GONE:
            sys.modules["pandas"].set_option(key, value)


def _numpy_printing() -> dict[str, Any]:
    return dict(sys.modules["numpy"].get_printoptions())


def _put_numpy_printing(options: dict[str, Any]) -> None:
    sys.modules["numpy"].set_printoptions(**options)


def _recordable() -> tuple[list[str], list[Any]]:
    """Which outputs models can record, by class: each model's ``__init__`` notes its own."""
    registry = sys.modules["transformers.utils.output_capturing"]._CAN_RECORD_REGISTRY
    return list(dict.keys(registry)), list(dict.values(registry))


def _put_recordable(changes: dict[str, Any]) -> None:
    registry = sys.modules["transformers.utils.output_capturing"]._CAN_RECORD_REGISTRY
    dict.update(registry, {k: v for k, v in changes.items() if v is not GONE})


_copied_parameters = _Copied(_parameters)
_copied_options = _Copied(_options)
_copied_recordable = _Copied(_recordable)

LIBRARIES: tuple[Setting, ...] = (
    Setting("numpy.printoptions", _numpy_printing, _put_numpy_printing, "numpy", live=True),
    pair("numpy", "errstate", lambda m: m.geterr(), lambda m, v: m.seterr(**v)),
    pair("numpy", "bufsize", lambda m: m.getbufsize(), lambda m, v: m.setbufsize(v)),
    *TORCH,
    Setting("matplotlib.rcParams", _copied_parameters, _put_parameters, "matplotlib", keyed=True),
    Setting("pandas.options", _copied_options, _put_options, "pandas", keyed=True, live=True),
    pair("sklearn", "config", lambda m: m.get_config(), lambda m, v: m.set_config(**v)),
    pair("xarray", "options", lambda m: dict(m.get_options()), lambda m, v: m.set_options(**v)),
    pair("jax", "config", lambda m: dict(m.config.values), lambda m, v: _update_jax(m, v)),
    *attributes("PIL.Image", "MAX_IMAGE_PIXELS"),
    *attributes("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", "MAXBLOCK"),
    pair("mpmath", "precision", lambda m: m.mp.prec, lambda m, v: setattr(m.mp, "prec", v)),
    pair(
        "plotly.io",
        "defaults",
        lambda m: (m.templates.default, m.renderers.default),
        lambda m, v: _put_plotly(m, *v),
    ),
    # Verbosity of these is the level of their loggers, which cross as all levels do.
    pair(
        "transformers.utils.logging",
        "progress_bar",
        lambda m: bool(m.is_progress_bar_enabled()),
        lambda m, v: (m.enable_progress_bar if v else m.disable_progress_bar)(),
    ),
    # Without it a model whose `__init__` ran elsewhere gives no hidden states, and says nothing.
    Setting(
        "transformers.recordable",
        _copied_recordable,
        _put_recordable,
        "transformers.utils.output_capturing",
        keyed=True,
        live=True,
    ),
    pair(
        "datasets",
        "progress_bars",
        lambda m: not m.are_progress_bars_disabled(),
        lambda m, v: (m.enable_progress_bars if v else m.disable_progress_bars)(),
    ),
    pair(
        "datasets",
        "caching",
        lambda m: bool(m.is_caching_enabled()),
        lambda m, v: (m.enable_caching if v else m.disable_caching)(),
    ),
)


def _update_jax(jax: Any, values: dict[str, Any]) -> None:
    present = jax.config.values
    for key, value in values.items():
        if present.get(key, GONE) != value:
            jax.config.update(key, value)


def _put_plotly(io: Any, template: str, renderer: str) -> None:
    io.templates.default, io.renderers.default = template, renderer
