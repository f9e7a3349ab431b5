"""`torch.autocast("cuda")`: the CPU's own autocast has other lists of operations.

The lists are those of torch's documentation, "CUDA Op-Specific Behavior".
"""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import device_of
from zerokernel.emulation.mode import here
from zerokernel.emulation.patches import Patch


def _words(text: str) -> list[str]:
    return text.split()


_LOW = frozenset(
    _words(
        """
    __matmul__ __rmatmul__ addbmm addmm addmv addr baddbmm bmm chain_matmul linalg_multi_dot
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution
    convolution linear matmul mm mv prelu scaled_dot_product_attention lstm gru rnn_tanh
    rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell einsum bilinear_ conv_tbc
    _native_multi_head_attention
    """
    )
)
_FULL = frozenset(
    _words(
        """
    __pow__ __rdiv__ __rpow__ __rtruediv__ __rtruediv acos asin binary_cross_entropy_with_logits
    cosh cosine_embedding_loss cdist cosine_similarity cross_entropy cross_entropy_loss cumprod
    cumsum dist erfinv exp expm1 group_norm hinge_embedding_loss kl_div l1_loss layer_norm log
    log10 log_softmax log1p log2 margin_ranking_loss mse_loss multilabel_margin_loss
    multi_margin_loss nll_loss nll_loss_nd norm linalg_norm linalg_vector_norm
    linalg_matrix_norm normalize pdist poisson_nll_loss pow prod reciprocal rsqrt sinh
    smooth_l1_loss huber_loss soft_margin_loss softmax softmin softplus sum renorm tan
    triplet_margin_loss
    """
    )
)
_WIDEST = frozenset(
    _words(
        """
    addcdiv addcmul atan2 bilinear cross dot grid_sample grid_sampler index_put scatter_add
    tensordot cat concat stack vdot
    """
    )
)
_REFUSED = (
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
    "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
    "In this case, combine the two layers using torch.nn.functional."
    "binary_cross_entropy_with_logits\nor torch.nn.BCEWithLogitsLoss.  "
    "binary_cross_entropy_with_logits and BCEWithLogits are\nsafe to autocast."
)
_NARROW = (torch.float16, torch.bfloat16)


class Casting:
    """Converts the arguments of an operation as autocast does on a device."""

    def __init__(self, fast: Any) -> None:
        self.fast = fast

    def __call__(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Gives the arguments as the operation should have them."""
        name = getattr(func, "__name__", "")
        if name in _LOW:
            return self._converted(args, kwargs, self.fast)
        if name in _FULL and kwargs.get("dtype") is None:
            return self._converted(args, kwargs, torch.float32)
        if name in _WIDEST:
            return self._converted(args, kwargs, _widest((args, kwargs)))
        if name == "binary_cross_entropy":
            raise RuntimeError(_REFUSED)
        return args, kwargs

    def _converted(self, args: Any, kwargs: Any, dtype: Any) -> tuple[Any, Any]:
        return _mapped(args, dtype), _mapped(kwargs, dtype)


def _castable(one: Any) -> bool:
    return (
        isinstance(one, torch.Tensor)
        and one.dtype in (torch.float32, *_NARROW)
        and device_of(one) is not None
    )


def _mapped(value: Any, dtype: Any) -> Any:
    if _castable(value):
        return value if value.dtype is dtype else _same_place(value, dtype)
    if type(value) in (tuple, list):
        return type(value)(_mapped(one, dtype) for one in value)
    if type(value) is dict:
        return {key: _mapped(one, dtype) for key, one in value.items()}
    return value


def _same_place(tensor: Any, dtype: Any) -> Any:
    from zerokernel.emulation.devices import put

    on = device_of(tensor)
    assert on is not None
    return put(tensor.to(dtype), on)


def _widest(value: Any) -> Any:
    found: list[Any] = []
    _dtypes(value, found)
    return torch.float32 if torch.float32 in found or len(set(found)) > 1 else (found or [None])[0]


def _dtypes(value: Any, into: list[Any]) -> None:
    if _castable(value):
        into.append(value.dtype)
    elif isinstance(value, (tuple, list)):
        for one in value:
            _dtypes(one, into)
    elif isinstance(value, dict):
        _dtypes(list(value.values()), into)


def follow() -> None:
    """Has this thread's mode do what its autocast state says."""
    mode = here.mode
    if mode is None:
        return
    enabled = torch.is_autocast_enabled("cuda")
    mode.cast = Casting(torch.get_autocast_dtype("cuda")) if enabled else None


_Autocast: Any = torch.autocast
_enter_before, _exit_before = _Autocast.__enter__, _Autocast.__exit__


def _enter(self: Any) -> Any:
    result = _enter_before(self)
    follow()
    return result


def _exit(self: Any, *exception: Any) -> Any:
    result = _exit_before(self, *exception)
    follow()
    return result


def patches() -> list[Patch]:
    """What is replaced in autocast."""
    return [Patch(_Autocast, "__enter__", _enter), Patch(_Autocast, "__exit__", _exit)]
