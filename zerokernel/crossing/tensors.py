# ruff: noqa: D102 - the methods are those of Part, documented there
"""torch tensors: storages are buffers, tensors are geometry over a storage.

torch is never imported here before the notebook has done so: nothing in this module runs
unless an object of torch was met.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

from zerokernel.crossing import placement, tensor_columns
from zerokernel.crossing.buffers import IN_BAND, byte_array, fill_storage
from zerokernel.crossing.device_memory import past_modes
from zerokernel.crossing.mapped_files import Mapped
from zerokernel.crossing.parts import (
    BUFFERS,
    INSTANCES,
    OPAQUE,
    Attributes,
    Lane,
    Part,
    Plan,
)
from zerokernel.crossing.tensor_columns import LIVE_GRAPH, LiveGraph
from zerokernel.errors import CannotTravel

_LIVE = "is a tensor with a live autograd graph; detach() it, or compute it in the %%gpu cell"


class StorageSize(Part):
    """A storage's size, which ``resize_`` changes, and its place."""

    rank = INSTANCES

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return list(map(self.read, objects))

    def read(self, item: Any) -> Any:
        return (item.nbytes(), placement.place_of(item))

    def write(self, item: Any, state: Any) -> None:
        size, place = state
        if item.nbytes() != size:
            item.resize_(size)
        placement.put_in_place(item, place)


class TensorGeometry(Part):
    """Storage, gradient, hooks and the geometry of a strided tensor."""

    rank = INSTANCES

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        columns = (
            tensor_columns.storages(objects),
            tensor_columns.gradients(objects),
            tensor_columns.hooks(objects),
        )
        rows = zip(*columns, strict=True)
        return [(repeat(3, len(objects)), chain.from_iterable(rows))]

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return tensor_columns.geometries(objects)

    def read(self, item: Any) -> Any:
        return (*tensor_recipe(item), gradient(item), item._backward_hooks)

    def write(self, item: Any, state: Any) -> None:
        *recipe, grad, hooks = state
        if item.untyped_storage() is not recipe[1] or geometry(item) != tuple(recipe[2:]):
            item.data = make_tensor(None, *recipe[1:6], False, *recipe[7:9])
            _set_need_of_gradients(item, recipe[6])
        if gradient(item) is not grad:
            set_gradient(item, grad)
        if item._backward_hooks is not hooks:
            item._backward_hooks = hooks


STORAGE = Plan((StorageSize(),), content="buffer", rank=BUFFERS)


def chooser(kind: type) -> Callable[[Any], Plan] | None:
    """The function that tells the plan of a torch tensor."""
    return _plan if _is_tensors(kind) else None


def uniform(kind: type) -> Plan | None:
    """The plan of all storages."""
    is_storage = kind.__module__ == "torch.storage" and kind.__qualname__ == "UntypedStorage"
    return STORAGE if is_storage else None


def plans(kind: Any, items: Sequence[Any]) -> list[Plan] | None:
    """The plans of many tensors of one type; None for another type."""
    if not _is_tensors(kind):
        return None
    own = _own_plan(kind)
    return [own if plain else OPAQUE for plain in tensor_columns.are_plain(items)]


def _is_tensors(kind: type) -> bool:
    return (kind.__module__, kind.__qualname__) in _TENSORS


_TENSORS = frozenset({("torch", "Tensor"), ("torch.nn.parameter", "Parameter")})


def _plan(item: Any) -> Plan:
    """Tensors of other layouts or wrapped ones are reduced as torch does."""
    kind: Any = type(item)
    return _own_plan(kind) if is_plain(item) else OPAQUE


@functools.cache
def _own_plan(kind: Any) -> Plan:
    return Plan((TensorGeometry(), Attributes(_attributes)))


def _attributes(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = item.__dict__
    return found


def is_plain(item: Any) -> bool:
    """Whether a tensor is strided memory and nothing else."""
    (found,) = tensor_columns.are_plain([item])
    return found


def gradient(item: Any) -> Any:
    """The gradient, without the warning that asking a non-leaf gives."""
    (found,) = tensor_columns.gradients([item])
    return found


def set_gradient(item: Any, grad: Any) -> None:
    """Sets a gradient, also one of another shape or dtype: ``data`` has been set after it."""
    try:
        item.grad = grad
    except RuntimeError:
        own, item.data = item.data, grad.detach()
        try:
            item.grad = grad
        finally:
            item.data = own


def geometry(item: Any) -> tuple[Any, ...]:
    """All of a tensor that is neither memory nor reference."""
    (found,) = tensor_columns.geometries([item])
    return found


@past_modes
def tensor_recipe(item: Any) -> tuple[Any, ...]:
    """Class, storage and geometry."""
    return (type(item), item.untyped_storage(), *geometry(item))


def make_tensor(kind: Any, storage: Any, dtype: Any, *rest: Any) -> Any:
    """Builds a tensor over a storage that is already here; arguments as of `tensor_recipe`."""
    import torch

    offset, size, stride, requires_grad, conj, neg = rest
    with torch._C.DisableTorchFunction():  # a mode would look for a device that is not there
        made = torch.empty(0, dtype=dtype, device=placement.memory_of(storage))
        made.set_(storage, offset, size, stride)
    if conj:
        made = torch._conj(made)
    if neg:
        made = torch._neg_view(made)
    if kind is not None and kind is not torch.Tensor:
        made = kind(made, False)
    if requires_grad:
        _set_need_of_gradients(made, requires_grad)
    return made


@past_modes
def _set_need_of_gradients(item: Any, needed: Any) -> None:
    """Makes a tensor a leaf that needs gradients or none, or one whose graph stayed there."""
    if (LIVE_GRAPH if item.grad_fn is not None else item.requires_grad) is needed:
        return
    if item.grad_fn is not None:
        item.detach_()
    if item.requires_grad:
        item.requires_grad_(False)
    if needed is LIVE_GRAPH:
        _leave_graph(item)
    else:
        item.requires_grad_(needed)


def _leave_graph(item: Any) -> None:
    """Gives a tensor a graph in place whose backward says where the real one is."""
    import torch

    leaf = torch.zeros((), requires_grad=True, device="cpu")  # a device may be an emulated one
    with torch.enable_grad():
        _stayed().apply(item, leaf)


_stayed_class: list[Any] = []


def _stayed() -> Any:
    if not _stayed_class:
        import torch

        class GraphStayedInWorker(torch.autograd.Function):
            """Changes nothing; its backward says where the graph is."""

            @staticmethod
            def forward(ctx: Any, tensor: Any, leaf: Any) -> Any:
                ctx.mark_dirty(tensor)
                return tensor

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                raise RuntimeError(
                    "the graph of this tensor stayed in the worker: call backward() in a %%gpu cell"
                )

        _stayed_class.append(GraphStayedInWorker)
    return _stayed_class[0]


@past_modes
def refuse_live_graph(item: Any) -> None:
    """Raises CannotTravel for a tensor of the notebook that was computed from others."""
    if item.grad_fn is not None:
        raise CannotTravel(_LIVE)


def reduce_live_graph(packer: Any, graph: LiveGraph) -> str:
    """Of a tensor that both sides know, and that was computed from others in place."""
    if not packer.in_worker:
        raise CannotTravel(_LIVE)
    return graph.__reduce__()


@past_modes
def extras(item: Any) -> tuple[Any, Any, dict[str, Any]]:
    """What a tensor has beside its geometry: gradient, hooks and attributes."""
    return gradient(item), item._backward_hooks, item.__dict__


def set_extras(item: Any, state: Any) -> None:
    """Sets what a new tensor has beside its geometry."""
    grad, hooks, attributes = state
    if grad is not None:
        set_gradient(item, grad)
    if hooks is not None:
        item._backward_hooks = hooks
    item.__dict__ = attributes  # as it may be another tensor's too


def small_storage(data: bytes) -> Any:
    """A storage from bytes in the payload."""
    import torch

    made = torch.UntypedStorage(len(data))  # type: ignore[no-untyped-call]
    if data:
        fill_storage(made, data)
    return made


def storage_over(array: Any, offset: int, size: int) -> Any:
    """A storage that shows an array's memory, as ``torch.from_numpy`` makes it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an array that is read-only
        return torch.from_numpy(byte_array(array)[offset : offset + size]).untyped_storage()


def storage_of_file(mapped: Mapped) -> Any:
    """A storage that shows a part of a file, as the other side's does."""
    return storage_over(mapped, 0, mapped.length)


def storage_in_band(item: Any) -> bool:
    """Whether a storage's bytes travel inside the payload."""
    return bool(item.nbytes() < IN_BAND)
