"""torch: what `torch.set_…` and `torch.backends` set for the whole process."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from zerokernel.ambient.setting import Setting, pair


def _switch(path: str) -> Setting:
    """A property of `torch.backends` and the like, by its path below torch."""
    owner, _, name = path.rpartition(".")
    return pair(
        "torch", path, attrgetter(path), lambda m, v: setattr(attrgetter(owner)(m), name, v)
    )


def _function(getter: str, setter: str, name: str) -> Setting:
    """A pair of functions, by their paths below torch."""
    return pair(
        "torch", name, lambda m: attrgetter(getter)(m)(), lambda m, v: attrgetter(setter)(m)(v)
    )


def _default_device(torch: Any) -> Any:
    held = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)
    if held is None:
        return str(torch.get_default_device())
    context = getattr(held, "device_context", None)
    return "" if context is None else str(context.device)


def _put_default_device(torch: Any, device: str) -> None:
    torch.set_default_device(device or None)


def _deterministic(torch: Any) -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _put_deterministic(torch: Any, value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _anomaly(torch: Any) -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _put_anomaly(torch: Any, value: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(value[0], check_nan=value[1])


def _print_options(torch: Any) -> dict[str, Any]:
    return dict(vars(torch._tensor_str.PRINT_OPTS))


def _put_print_options(torch: Any, options: dict[str, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(options)


def _precisions(torch: Any) -> tuple[str, ...]:
    """The three places where a precision of fp32 arithmetic is set, as they stand."""
    backends = torch.backends
    return tuple(path(backends) for path in _PRECISIONS)


def _put_precisions(torch: Any, values: tuple[str, ...]) -> None:
    for path, value in zip(_PRECISION_PATHS, values, strict=True):
        owner = attrgetter(path)(torch.backends)
        if owner.fp32_precision != value:
            owner.fp32_precision = value


_PRECISION_PATHS = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
_PRECISIONS = tuple(attrgetter(f"{path}.fp32_precision") for path in _PRECISION_PATHS)

TORCH: tuple[Setting, ...] = (
    _function("get_default_dtype", "set_default_dtype", "default_dtype"),
    pair("torch", "default_device", _default_device, _put_default_device),
    _function("is_grad_enabled", "_C._set_grad_enabled", "grad_enabled"),
    _function("get_num_threads", "set_num_threads", "num_threads"),
    pair("torch", "deterministic_algorithms", _deterministic, _put_deterministic),
    _switch("utils.deterministic.fill_uninitialized_memory"),
    _function("is_warn_always_enabled", "set_warn_always", "warn_always"),
    pair("torch", "anomaly_detection", _anomaly, _put_anomaly),
    pair("torch", "printoptions", _print_options, _put_print_options),
    _function("get_float32_matmul_precision", "set_float32_matmul_precision", "matmul_precision"),
    _switch("backends.cudnn.allow_tf32"),
    # After the older names for the same: mixed, they cannot be read any more.
    pair("torch", "fp32_precision", _precisions, _put_precisions),
    _switch("backends.cudnn.enabled"),
    _switch("backends.cudnn.benchmark"),
    _switch("backends.cudnn.deterministic"),
    _switch("backends.cuda.matmul.allow_fp16_reduced_precision_reduction"),
    _switch("backends.cuda.matmul.allow_bf16_reduced_precision_reduction"),
    _function("_C._get_flash_sdp_enabled", "_C._set_sdp_use_flash", "flash_sdp"),
    _function("_C._get_math_sdp_enabled", "_C._set_sdp_use_math", "math_sdp"),
    _function(
        "_C._get_mem_efficient_sdp_enabled", "_C._set_sdp_use_mem_efficient", "mem_efficient_sdp"
    ),
    _function("_C._get_cudnn_sdp_enabled", "_C._set_sdp_use_cudnn", "cudnn_sdp"),
    _switch("backends.mkldnn.enabled"),
    _switch("backends.quantized.engine"),
    _function(
        "multiprocessing.get_sharing_strategy",
        "multiprocessing.set_sharing_strategy",
        "sharing_strategy",
    ),
)
