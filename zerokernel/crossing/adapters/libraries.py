# ruff: noqa: D102 - the methods are those of Part, documented there
"""Objects of NumPy, torch, matplotlib and PIL that need more than pickle does for them."""

from __future__ import annotations

import functools
import io
import itertools
import operator
import sys
from collections.abc import Sequence
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM, Attributes, InstanceClass, Part, Plan
from zerokernel.crossing.restorer import Restorer
from zerokernel.crossing.tensors import TensorGeometry
from zerokernel.errors import CannotTravel


def _record(item: Any, in_worker: bool) -> Any:
    """An element of a structured array: often a view of the array, and always mutable."""
    import numpy as np

    if item.dtype.names is None or item.dtype.hasobject:
        return NotImplemented
    if not isinstance(item.base, np.ndarray):
        return (operator.getitem, (np.array(item), ()))
    inside = item.__array_interface__["data"][0] - item.base.__array_interface__["data"][0]
    if inside < 0 or not item.base.flags.c_contiguous:
        return NotImplemented
    memory = item.base.view(np.ndarray).reshape(-1).view(np.uint8)
    view: Any = np.ndarray((), item.dtype, memory, inside)
    return (operator.getitem, (view, ()))


def _record_state(item: Any) -> Any:
    """The bytes of one that has its own; a view changes with its array."""
    return item.tobytes() if item.base is None and not item.dtype.hasobject else None


def _put_record(item: Any, state: Any) -> None:
    if state is None or item.dtype.names is None:
        return
    import numpy as np

    new = np.frombuffer(state, item.dtype)[0]
    for name in item.dtype.names:
        item[name] = new[name]


def is_parametrized(kind: Any) -> bool:
    """Whether a class is one that ``torch.nn.utils.parametrize`` made for one module."""
    made = bool(kind.__module__ == "torch.nn.utils.parametrize")
    return made and kind.__name__.startswith("Parametrized")


def _parametrized(item: Any, in_worker: bool) -> Any:
    """Such a class refuses to be pickled, as it has no name; here classes travel by value."""
    return (make_instance, (type(item),), dict(vars(item)), None, None, set_attributes)


def make_instance(kind: Any) -> Any:
    """An instance without attributes."""
    return object.__new__(kind)


def set_attributes(item: Any, attributes: dict[str, Any]) -> None:
    """Sets attributes past ``__setattr__``."""
    vars(item).update(attributes)


PARAMETRIZED = Adapter(_parametrized, plan=Plan((InstanceClass(), Attributes(vars))))


def is_optimizer(kind: Any) -> bool:
    """Whether a class is an optimizer that is pickled in torch's way, which leaves out hooks."""
    for base in kind.__mro__:
        if base.__module__ == "torch.optim.optimizer" and base.__name__ == "Optimizer":
            return bool(
                kind.__getstate__ is base.__getstate__
                and kind.__reduce_ex__ is object.__reduce_ex__
                and kind.__reduce__ is object.__reduce__
            )
    return False


def _optimizer(item: Any, in_worker: bool) -> Any:
    """All that it has: its hooks, and the ``step`` that a scheduler has wrapped."""
    return (make_instance, (type(item),), dict(vars(item)), None, None, set_up_optimizer)


def set_up_optimizer(item: Any, attributes: dict[str, Any]) -> None:
    """Sets what an optimizer has, and prepares its class as torch does for the first of it."""
    vars(item).update(attributes)
    item._patch_step_function()


OPTIMIZER = Adapter(_optimizer, plan=Plan((InstanceClass(), Attributes(vars))))


class Uninitialized(Part):
    """A parameter without a shape, which becomes a parameter like any other in place."""

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [self.read(item) for item in objects]

    def read(self, item: Any) -> Any:
        return (type(item), item.dtype, item.requires_grad)

    def write(self, item: Any, state: Any) -> None:
        import torch

        kind, *_ = state
        if type(item) is kind:
            return
        if kind.__name__.startswith("Uninitialized"):  # it is undone
            item.data, item.__class__ = torch.empty(0, dtype=state[1]), kind
            return
        item.data, item.__class__ = torch.empty(0, dtype=state[2]), kind
        TensorGeometry().write(item, state)


_UNINITIALIZED = Plan((Uninitialized(), Attributes(vars)))


def _uninitialized(item: Any, in_worker: bool) -> Any:
    return NotImplemented


def _callbacks(item: Any) -> Any:
    """The callbacks of a matplotlib object that are its own, which are those that it pickles."""
    found = (
        (signal, {cid: proxy() for cid, proxy in live.items() if cid in item._pickled_cids})
        for signal, live in item.callbacks.items()
    )
    return {signal: own for signal, own in found if own}


def _put_callbacks(item: Any, state: Any) -> None:
    cbook: Any = sys.modules["matplotlib.cbook"]
    wanted = {cid for own in state.values() for cid in own}
    for cid in item._pickled_cids - wanted:
        item.disconnect(cid)
    for signal, own in state.items():
        live = item.callbacks.setdefault(signal, {})
        for cid, function in own.items():
            if cid not in live:
                remove = functools.partial(item._remove_proxy, signal)
                live[cid] = cbook._weak_or_strong_ref(function, remove)
                item._func_cid_map[signal, live[cid]] = cid
                item._pickled_cids.add(cid)
    if wanted:
        item._cid_gen = itertools.count(max(next(item._cid_gen), 1 + max(wanted)))


def _summary_writer(item: Any, in_worker: bool) -> Any:
    """A writer of its own into the same directory, which TensorBoard shows as one run."""
    _flush(item)
    state = dict(vars(item))
    state.update(purge_step=None, file_writer=None, all_writers=None)
    return (make_instance, (type(item),), state, None, None, set_attributes)


def _flush(item: Any) -> Any:
    """Events are on the disk when a cell is over."""
    if item.all_writers:
        item.flush()
    return item.log_dir


def _progress_bar(item: Any, in_worker: bool) -> Any:
    """One that is closed: the copy of any other would draw itself when it dies."""
    if not item.disable:
        raise CannotTravel("is a progress bar that is not closed; make it inside the cell")
    return (make_bar, (type(item),), dict(vars(item)), None, None, set_attributes)


def make_bar(kind: Any) -> Any:
    """A progress bar without attributes, of a class that has its lock."""
    kind.get_lock()
    return object.__new__(kind)


def _draw(item: Any, in_worker: bool) -> Any:
    """A drawing on an image by the image."""
    state = {name: value for name, value in vars(item).items() if name not in ("im", "draw")}
    return (make_draw, (item._image, item.mode), state, None, None, set_attributes)


def make_draw(image: Any, mode: str) -> Any:
    """A drawing on an image."""
    from PIL import ImageDraw

    return ImageDraw.Draw(image, mode)


def _font(item: Any, in_worker: bool) -> Any:
    """A font by its file, or by the bytes that were read: the stream of these is at its end."""
    data = vars(item).get("font_bytes")
    path = item.path if data is None else None
    state = {name: value for name, value in vars(item).items() if name != "font"}
    settings = (item.size, item.index, item.encoding, item.layout_engine)
    return (make_font, (type(item), data, path, *settings), state, None, None, set_attributes)


def make_font(kind: Any, data: bytes | None, path: Any, *settings: Any) -> Any:
    """A font of PIL from its bytes, or where there are none from its file."""
    from PIL import ImageFont

    font = object.__new__(kind)
    ImageFont.FreeTypeFont.__init__(font, path if data is None else io.BytesIO(data), *settings)
    return font


def _info(item: Any, in_worker: bool) -> Any:
    """``torch.finfo`` and ``torch.iinfo``."""
    import torch

    return (type(item), (getattr(torch, item.dtype),))


ADAPTERS: dict[str, Adapter] = {
    "numpy.void": Adapter(_record),
    "numpy.record": Adapter(_record),
    "torch.utils.tensorboard.writer.SummaryWriter": Adapter(_summary_writer),
    "torch.nn.parameter.UninitializedParameter": Adapter(_uninitialized, plan=_UNINITIALIZED),
    "torch.nn.parameter.UninitializedBuffer": Adapter(_uninitialized, plan=_UNINITIALIZED),
    "torch.finfo": Adapter(_info, plan=ATOM),
    "torch.iinfo": Adapter(_info, plan=ATOM),
    "PIL.ImageDraw.ImageDraw": Adapter(_draw),
    "PIL.ImageFont.FreeTypeFont": Adapter(_font, subclasses=True),
    "tqdm.std.tqdm": Adapter(
        _progress_bar, plan=Plan((InstanceClass(), Attributes(vars))), subclasses=True
    ),
}

RESTORERS: dict[str, Restorer] = {
    "numpy.void": Restorer(_record_state, _put_record),
    "numpy.record": Restorer(_record_state, _put_record),
    "torch.utils.tensorboard.writer.SummaryWriter": Restorer(_flush, lambda item, state: None),
    # Its state has strong references in the place of the weak ones that it has itself.
    "matplotlib.transforms.TransformNode": Restorer(
        lambda item: item.__getstate__(), lambda item, state: item.__setstate__(dict(state))
    ),
    "matplotlib.cbook.CallbackRegistry": Restorer(_callbacks, _put_callbacks),
    "PIL.ImageDraw.ImageDraw": Restorer(lambda item: None, lambda item, state: None),
}
