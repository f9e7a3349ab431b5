"""Gradients: the engine makes them in C++, where no mode sees them."""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import ATTRIBUTE, EmulatedDevice, device_of, put, shares_memory
from zerokernel.emulation.mode import InMode
from zerokernel.emulation.patches import Patch

_Base: Any = torch._C.TensorBase
_Disable: Any = torch._C.DisableTorchFunction
_Tensor: Any = torch.Tensor
_SavedTensorsHooks: Any = torch.autograd.graph.saved_tensors_hooks
_save_before = _SavedTensorsHooks.__init__
_grad_before = vars(_Tensor).get("grad", _Base.grad)
_engine_before = torch.autograd.graph._engine_run_backward
_register_hook_before = _Tensor.register_hook
_BackwardCFunction: Any = torch.autograd.function.BackwardCFunction
_backward_before = _BackwardCFunction.apply
_apply_before: Any = vars(torch.autograd.Function)["apply"].__func__


def _get_grad(self: Any) -> Any:
    with _Disable():
        grad = _grad_before.__get__(self)
        if grad is None:
            return None
        on, of = device_of(self), device_of(grad)
        if on is of:
            return grad
        if of is not None:
            # The engine handed on the very tensor that came from the other device.
            grad = grad.detach().clone()
            _grad_before.__set__(self, grad)
        return grad if on is None else put(grad, on)


def _set_grad(self: Any, grad: Any) -> None:
    with _Disable():
        if isinstance(grad, torch.Tensor) and device_of(self) is not device_of(grad):
            raise RuntimeError("assigned grad has data located on a different device")
        _grad_before.__set__(self, grad)


def _del_grad(self: Any) -> None:
    with _Disable():
        _grad_before.__delete__(self)


def _run(t_outputs: Any, *args: Any, **kwargs: Any) -> Any:
    result = _engine_before(t_outputs, *args, **kwargs)
    inputs = args[3] if len(args) > 3 else kwargs.get("inputs", ())
    if not result or len(result) != len(inputs):
        return result
    given = [one for one in (args[0] if args else ()) if isinstance(one, torch.Tensor)]
    with _Disable():
        return tuple(
            _as_its_input(grad, tensor, given) for grad, tensor in zip(result, inputs, strict=True)
        )


def _as_its_input(grad: Any, tensor: Any, given: list[Any]) -> Any:
    if not isinstance(grad, torch.Tensor) or not isinstance(tensor, torch.Tensor):
        return grad
    on = device_of(tensor)
    if device_of(grad) is on:
        return grad
    if device_of(grad) is not None or any(shares_memory(grad, one) for one in given):
        grad = grad.clone()
    return grad if on is None else put(grad, on)


def _register_hook(self: Any, hook: Any) -> Any:
    with _Disable():
        on = device_of(self)
    return _register_hook_before(self, hook if on is None else _Hook(hook, on))


class _Hook:
    """A hook that sees its gradient on the device of its tensor."""

    def __init__(self, hook: Any, on: EmulatedDevice) -> None:
        self.hook = hook
        self.on = on

    def __call__(self, grad: Any) -> Any:
        # A tensor with this hook may have gone to a process that has a real device.
        if hasattr(torch.UntypedStorage, ATTRIBUTE):
            with _Disable():
                put(grad, self.on)
        return self.hook(grad)


def _backward(self: Any, *grads: Any) -> Any:
    places = getattr(self, "_emulated_places", None)
    if places:
        with _Disable():
            for number, grad in enumerate(grads):
                if isinstance(grad, torch.Tensor) and number in places:
                    put(grad, places[number])
    return _backward_before(self, *grads)


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`torch.autograd.Function.apply`: notes on its node where the gradients will be."""
    result = _apply_before(cls, *args, **kwargs)
    with _Disable():
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, torch.Tensor) and isinstance(one.grad_fn, _BackwardCFunction):
                _note(one.grad_fn, one)
    return result


def _note(node: Any, output: Any) -> None:
    on = device_of(output)
    if on is not None:
        vars(node).setdefault("_emulated_places", {})[output.output_nr] = on


def _save_with(self: Any, pack_hook: Any, unpack_hook: Any) -> None:
    _save_before(self, InMode(pack_hook), InMode(unpack_hook))


def patches() -> list[Patch]:
    """What is replaced in autograd."""
    return [
        Patch(torch.Tensor, "grad", property(_get_grad, _set_grad, _del_grad)),
        Patch(torch.Tensor, "register_hook", _register_hook),
        Patch(torch.autograd.graph, "_engine_run_backward", _run),
        Patch(torch.autograd, "_engine_run_backward", _run),
        Patch(_BackwardCFunction, "apply", _backward),
        Patch(_SavedTensorsHooks, "__init__", _save_with),
        Patch(torch.autograd.Function, "apply", classmethod(_apply)),
    ]
