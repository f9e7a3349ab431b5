"""Which function has which handler: everything that is not done by the rule."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._device import _device_constructors

from zerokernel.emulation import creation, movement, pinning
from zerokernel.emulation.devices import Tag, device_of, own_memory, put, put_all
from zerokernel.emulation.mode import HANDLERS


def _words(text: str) -> list[str]:
    return text.split()


# They give no tensor, or one that shares the storage and so the tag.
_PLAIN_PROPERTIES = _words(
    """
    shape dtype layout requires_grad grad_fn is_leaf ndim names output_nr _version is_sparse
    is_quantized is_meta is_nested is_mkldnn is_mps is_xpu is_complex itemsize nbytes data T mT
    H mH real imag name _base _grad retains_grad is_sparse_csr is_vulkan is_mtia is_xla is_ipu
    is_maia
    """
)
# Their second tensor gives a shape, a type or data from anywhere: each keeps its own device.
_INDEPENDENT = _words(
    """
    expand_as view_as reshape_as broadcast_tensors result_type is_same_size is_set_to set_
    resize_as_ resize_as_sparse_ align_as tensor_split _copy_from _copy_from_and_resize
    _has_compatible_shallow_copy_type
    """
)
_PLAIN_METHODS = _words(
    """
    dim size stride numel nelement item tolist is_contiguous storage_offset element_size
    is_floating_point is_complex is_signed untyped_storage ndimension __len__ __bool__ __int__
    __float__ __index__ requires_grad_ detach detach_ view copy_ is_set_to has_names sparse_dim
    dense_dim is_coalesced is_inference is_same_size _is_view is_conj is_neg __hash__ __format__
    is_nonzero _nnz _has_symbolic_sizes_strides
    """
)
_RANDOM = ["normal", "bernoulli", "multinomial", "poisson", "rand", "randn", "randint", "randperm"]
_RANDOM_METHODS = _words(
    """
    normal_ uniform_ random_ exponential_ geometric_ cauchy_ log_normal_ bernoulli_ bernoulli
    multinomial
    """
)
_DRAWING = _words(
    """
    rand_like randn_like randint_like dropout dropout_ alpha_dropout alpha_dropout_
    feature_dropout feature_dropout_ feature_alpha_dropout feature_alpha_dropout_ native_dropout
    rrelu rrelu_ _sample_dirichlet _standard_gamma binomial
    """
)
_FROM_DATA = ("tensor", "as_tensor", "asarray")


def _plain(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _each(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`_foreach_…`: every result is where the tensor of its place is."""
    results = func(*args, **kwargs)
    if isinstance(results, (list, tuple)):
        for tensor, result in zip(args[0], results, strict=False):
            if (on := device_of(tensor)) is not None:
                put_all(result, on)
    return results


def _first(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """The result is where the first tensor is; others give shapes, from anywhere."""
    on = device_of(args[0])
    result = func(*args, **kwargs)
    return result if on is None else put_all(result, on)


def _device(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`torch.device(0)` is one of the accelerator."""
    spec = args[0] if args else kwargs.get("device")
    if isinstance(spec, int) and len(args) + len(kwargs) == 1:
        return func("cuda", spec)
    return func(*args, **kwargs)


def _resize(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """The storage may be another size afterwards."""
    own_memory(args[0])
    result = func(*args, **kwargs)
    if result.layout is not torch.strided:
        return result
    storage = result.untyped_storage()
    tag = storage._emulated
    if tag is not None and tag.nbytes != storage.nbytes():
        storage._emulated = Tag(tag.on, storage.nbytes())
    return result


def _packed_sequence(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """The lengths of a packed sequence are on the CPU, its data is where it was."""
    data, sizes = func(*args, **kwargs)
    on = device_of(args[0])
    return (data if on is None else put(data, on)), sizes


def _attention(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    draws = kwargs.get("dropout_p") or (len(args) > 4 and args[4])
    return creation.drawing(mode, func, args, kwargs) if draws else mode.general(func, args, kwargs)


def _recurrent(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`_VF.lstm` and the like draw only with a dropout, in training, between layers."""
    if any(one for one in args if type(one) is float):
        return creation.drawing(mode, func, args, kwargs)
    if isinstance(args[1], torch.Tensor) and device_of(args[1]) is None:
        # A packed sequence, its lengths on the CPU.
        def packed(data: Any, *rest: Any) -> Any:
            return func(data, args[1], *rest)

        packed.__name__ = func.__name__
        return mode.general(packed, (args[0], *args[2:]), kwargs)
    return mode.general(func, args, kwargs)


def fill() -> None:
    """Writes the table of handlers."""
    tensor: Any = torch.Tensor
    for name in _PLAIN_PROPERTIES:
        descriptor = getattr(tensor, name, None)
        for access in ("__get__", "__set__", "__delete__"):
            if hasattr(descriptor, access):
                HANDLERS[getattr(descriptor, access)] = _plain
    for name in _PLAIN_METHODS:
        if (method := getattr(tensor, name, None)) is not None:
            HANDLERS[method] = _plain
    for function in _device_constructors():
        shares = "sparse" in function.__name__ or "nested" in function.__name__
        HANDLERS[function] = creation.sharing_constructor if shares else creation.constructor
    for name in _FROM_DATA:
        HANDLERS[getattr(torch, name)] = creation.from_data
    for owner, names, handler in (
        (torch, _RANDOM, creation.random),
        (tensor, _RANDOM_METHODS, creation.random),
        (torch, _DRAWING, creation.drawing),
    ):
        for name in names:
            if (function := getattr(owner, name, None)) is not None:
                HANDLERS[function] = handler
    functional: Any = torch._C._nn
    HANDLERS[functional.scaled_dot_product_attention] = _attention
    HANDLERS[functional.rrelu_with_noise] = creation.drawing
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        HANDLERS[getattr(torch, name)] = _recurrent
    for name in ("_pack_padded_sequence", "_pad_packed_sequence"):
        HANDLERS[getattr(torch._C._VariableFunctions, name)] = _packed_sequence
    for prefix, each in (("_foreach_", _each), ("_nested_view_", _first)):
        for name in dir(torch):
            if name.startswith(prefix):
                HANDLERS[getattr(torch, name)] = each
    HANDLERS[torch.device] = _device
    HANDLERS[functional._parse_to] = movement.parsed
    for owner in (tensor, torch, torch._C._VariableFunctions):
        for name in _INDEPENDENT:
            if (function := getattr(owner, name, None)) is not None:
                HANDLERS[function] = _plain
    HANDLERS.update(
        {
            tensor.to: movement.to,
            tensor.cuda: movement.cuda,
            tensor.cpu: movement.cpu,
            tensor.type: movement.type_,
            tensor.type_as: movement.type_as,
            tensor.resize_: _resize,
            tensor.pin_memory: pinning.pin_memory,
            tensor.__getitem__: movement.getitem,
            tensor.__setitem__: movement.setitem,
        }
    )
