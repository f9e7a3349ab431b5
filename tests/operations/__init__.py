"""The table of operations that an emulated and a real device must agree on."""

from __future__ import annotations

from tests.operations.programs import PROGRAMS
from tests.operations.tensors import TENSORS

TABLE = (*TENSORS, *PROGRAMS)
