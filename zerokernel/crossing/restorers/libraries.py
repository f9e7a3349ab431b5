"""Objects of NumPy, pandas and torch."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from zerokernel.crossing import frames, generators
from zerokernel.crossing.restorer import Restorer


def _put_generator(item: Any, state: Any) -> None:
    item.bit_generator.state = state


def _frame_state(item: Any) -> Any:
    flags = {key: getattr(item.flags, key) for key in item.flags._keys}
    return (item._mgr, dict(item._attrs), flags, getattr(item, "_name", None))


def _put_frame(item: Any, state: Any) -> None:
    manager, attributes, flags, name = state
    object.__setattr__(item, "_mgr", manager)
    object.__setattr__(item, "_attrs", attributes)
    for key, value in flags.items():
        if getattr(item.flags, key) != value:
            setattr(item.flags, key, value)
    if hasattr(item, "_name"):
        object.__setattr__(item, "_name", name)


def _put_manager(item: Any, state: Any) -> None:
    item.axes, item.blocks = list(state[0]), state[1]
    for name, unknown in _MANAGER_CACHES.items():
        if hasattr(item, name):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(item, name, unknown)


_MANAGER_CACHES = {
    "_blknos": None,
    "_blklocs": None,
    "_known_consolidated": False,
    "_is_consolidated": False,
}


def _array_state(item: Any) -> Any:
    import numpy as np

    return (item.view(np.ndarray).copy(), dict(getattr(item, "__dict__", {})))


def _put_array(item: Any, state: Any) -> None:
    import numpy as np

    data, attributes = state
    live = item.view(np.ndarray)
    if live.shape != data.shape or live.dtype != data.dtype:
        np.ndarray.__setstate__(item, data.__reduce__()[2])
    else:
        np.copyto(live, data)
    if attributes:
        dict.update(item.__dict__, attributes)


def _spawn(item: Any, children: int) -> None:
    """A seed sequence changes by nothing but the number of children that were taken from it."""
    if children > item.n_children_spawned:
        item.spawn(children - item.n_children_spawned)


_MANAGER = Restorer(lambda m: (list(m.axes), m.blocks), _put_manager)
_BIT_GENERATOR = Restorer(lambda g: g.state, lambda g, state: setattr(g, "state", state))

RESTORERS: dict[str, Restorer] = {
    "numpy.random._generator.Generator": Restorer(
        lambda g: copy.deepcopy(g.bit_generator.state), _put_generator
    ),
    "numpy.random.bit_generator.BitGenerator": _BIT_GENERATOR,
    "numpy.random.bit_generator.SeedSequence": Restorer(lambda s: s.n_children_spawned, _spawn),
    "numpy.random.mtrand.RandomState": Restorer(
        lambda r: r.get_state(legacy=False), lambda r, state: r.set_state(state)
    ),
    "numpy.ndarray": Restorer(_array_state, _put_array),
    "torch._C.Generator": Restorer(generators.take, generators.put),
    "pandas.core.frame.DataFrame": Restorer(_frame_state, _put_frame),
    "pandas.core.series.Series": Restorer(_frame_state, _put_frame),
    "pandas.DataFrame": Restorer(_frame_state, _put_frame),
    "pandas.Series": Restorer(_frame_state, _put_frame),
    "pandas._libs.internals.BlockManager": _MANAGER,
    "pandas.core.internals.managers.BaseBlockManager": _MANAGER,
    "pandas._libs.internals.Block": Restorer(frames.block_state, frames.put_block),
}
