"""What a program may do with a device: operations, and what each of them gives.

Each is a piece of code in which `D` is a device and `D1` a second one; its last line is the
result. On the emulated device, and on a real one, the result has the values that it has with
`D = "cpu"`, its tensors are where `device` says, and what `value` says it is; or it raises what
`error` says. `x`, `y` are matrices of 3 rows and 4 columns, `sq` is square, `v` and `w` vectors of 4, `i` indices, `b` a mask, `c` complex,
all on the device; `hx` and `hv` are `x` and `v` on the CPU.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

AS_ON_CPU = object()
ON = "cuda:0"


@dataclass(frozen=True)
class Operation:
    """One entry.

    Attributes:
        code: Statements; the last line is an expression.
        device: Where every tensor of the result is; a tuple gives it for each in turn.
        value: What the result is; by default what it is with `D = "cpu"`. None: anything.
        error: Name of the exception and a part of its message.
        least: How many devices the session must have.
        tolerance: How far numbers may be from the CPU's, relatively: a device takes other ways.
    """

    code: str
    device: str | tuple[str, ...] = ON
    value: Any = AS_ON_CPU
    error: tuple[str, str] | None = None
    least: int = 1
    tolerance: float = 0.0

    @property
    def name(self) -> str:
        """The code in one line."""
        return "; ".join(self.code.strip().splitlines())


_SETUP = """
import copy, gc, io, math, pickle, threading, warnings
import torch
from torch import nn
import torch.nn.functional as F

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).to(D)

def saved(what):
    file = io.BytesIO()
    torch.save(what, file)
    file.seek(0)
    return file

hx = torch.arange(12.0).reshape(3, 4).sin()
hv = torch.arange(4.0) + 1
x = hx.to(D)
y = (hx * 2 + 1).to(D)
sq = (torch.arange(16.0).reshape(4, 4).cos() + 3 * torch.eye(4)).to(D)
v = hv.to(D)
w = (hv * 3 - 2).to(D)
i = torch.tensor([2, 0, 1], device=D)
b = torch.tensor([True, False, True, True], device=D)
c = torch.complex(hx, hx + 1).to(D)
img = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8).sin().to(D)
"""


def namespace(device: str) -> dict[str, Any]:
    """Gives the names that an operation's code finds."""
    second = "cuda:1" if device == "cuda" else device
    names: dict[str, Any] = {"D": device, "D1": second}
    exec(_SETUP, names)
    return names


def run(operation: Operation, names: dict[str, Any]) -> Any:
    """Runs an operation's code and gives the value of its last line."""
    tree = ast.parse(operation.code.strip())
    last = tree.body.pop()
    if not isinstance(last, ast.Expr):
        raise SyntaxError(f"the last line of {operation.name!r} is no expression")
    exec(compile(tree, "<operation>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<operation>", "eval"), names)


def observed(value: Any) -> Any:
    """Gives what can be compared: tensors as (dtype, shape, values), without their device."""
    import torch

    if isinstance(value, torch.Tensor):
        plain = value.detach().to("cpu")
        if plain.layout is not torch.strided:
            plain = plain.to_dense()
        if plain.is_quantized:
            plain = plain.dequantize()
        kind = plain.dtype
        wide = plain.resolve_conj().resolve_neg()
        if wide.dtype in (torch.float16, torch.bfloat16):
            wide = wide.float()
        return str(kind).removeprefix("torch."), tuple(wide.shape), wide.flatten().tolist()
    if isinstance(value, (list, tuple)):
        return [observed(one) for one in value]
    if isinstance(value, dict):
        return {key: observed(one) for key, one in value.items()}
    return value


def devices(value: Any) -> list[str]:
    """Gives where the tensors in a value are, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [str(value.device)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [one for each in value for one in devices(each)]
    return []


def equal(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two observations agree; numbers within a relative tolerance."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(
            equal(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k], tolerance) for k in one)
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def each(*codes: str, **fields: Any) -> list[Operation]:
    """Gives operations that have all but their code in common."""
    return [Operation(code, **fields) for code in codes]


def anything(operation: Operation) -> Operation:
    """Gives the operation without a demand on its value."""
    return dataclasses.replace(operation, value=None)
