import builtins
from typing import Any

import pytest

from zerokernel.errors import CannotTravel
from zerokernel.worker.namespace import install


def fetch_from(kernel: dict[str, Any]) -> Any:
    return lambda name: kernel[name]


def run(code: str, kernel: dict[str, Any], *, closed: bool = False, **absent: str) -> Any:
    namespace: dict[str, Any] = {}
    install(namespace, fetch_from(kernel), closed, absent)
    exec(code, namespace)
    return namespace.get("found")


@pytest.mark.parametrize(
    "code",
    [
        "found = missed",
        "def f(): return missed\nfound = f()",
        "found = [missed for _ in range(1)][0]",
        "class C:\n    value = missed\nfound = C.value",
        "found = eval('missed')",
    ],
)
def test_missed_names_are_fetched(code: str) -> None:
    """A name that is nowhere else comes from the kernel, wherever it is read."""
    assert run(code, {"missed": 42}) == 42


def test_unknown_name_is_a_name_error() -> None:
    """What the kernel does not have either raises NameError, as in a plain cell."""
    with pytest.raises(NameError, match="nowhere"):
        run("nowhere", {})


def test_absent_name_says_why() -> None:
    """A captured name that could not travel raises its reason when it is read."""
    with pytest.raises(CannotTravel, match="a lock"):
        run("lock", {"lock": object()}, lock="`lock` is a lock")


def test_builtins_are_there() -> None:
    """Built-in names, and a module attribute __build_class__, work in an open cell."""
    assert run("found = len([1, 2])", {}) == 2


def test_closed_cell_has_plain_builtins() -> None:
    """Where every name is known the namespace gets the fast, exact builtins."""
    namespace: dict[str, Any] = {}
    install(namespace, fetch_from({}), True, {})
    assert namespace["__builtins__"] is builtins
