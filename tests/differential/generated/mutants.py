"""Faults put into the crossing on purpose, which the judge has to find.

A process that is started with ``ZEROKERNEL_TEST_MUTANT`` and this file's `HOOK` as its
``sitecustomize`` is wrong in the one respect: the notebook's kernel, and its workers too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VARIABLE = "ZEROKERNEL_TEST_MUTANT"
HOOK = f"""\
import os
if name := os.environ.get("{VARIABLE}"):
    from tests.differential.generated.mutants import MUTANTS
    MUTANTS[name]()
"""


def _replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def dict_order() -> None:
    """The commit writes a dict's entries, but leaves the old order where keys stayed."""
    from zerokernel.crossing.parts import DictItems

    def write(self: Any, item: dict[Any, Any], state: dict[Any, Any]) -> None:
        for key in [key for key in item if key not in state]:
            dict.pop(item, key)
        dict.update(item, state)

    DictItems.write = write  # type: ignore[method-assign]


def lists_unchanged() -> None:
    """The detector says of every list that it is unchanged."""
    from zerokernel.crossing import parts, snapshot

    def make(changed: Any) -> Any:
        def deaf(self: Any, objects: Any, gone: set[int]) -> set[int]:
            lists = isinstance(self.plan.parts[0], parts.ListItems)
            return set() if lists else changed(self, objects, gone)

        return deaf

    _replaced(snapshot.Segment, "changed", make)


def lost_alias() -> None:
    """A list that the other side holds travels by value, as if it were new."""
    from zerokernel.crossing import pickling

    def forgetful(cut: Callable[[Any], int | None]) -> Callable[[Any], int | None]:
        return lambda item: None if type(item) is list else cut(item)

    _replaced(pickling, "_cutter", lambda make: lambda *args: forgetful(make(*args)))


def stale_worker() -> None:
    """What plain cells changed since is not sent to the worker that lives."""
    from zerokernel.crossing.kernel_replica import KernelReplica

    _replaced(KernelReplica, "look", lambda look: lambda self: None)


def names_stay() -> None:
    """A name that the cell deleted stays bound in the notebook."""
    from zerokernel.crossing.staging import Staged

    def make(name_writes: Any) -> Any:
        return lambda self: (name_writes(self)[0], [])

    _replaced(Staged, "_name_writes", make)


def buffers_unchanged() -> None:
    """Of a large buffer only the first chunk is looked at."""
    from zerokernel.crossing import kernel_replica, staging, worker_replica

    for module in (kernel_replica, worker_replica, staging):
        _replaced(module, "digests", lambda digests: lambda item: digests(item)[:1] and (1,))


def applied_after_loss() -> None:
    """A worker that was lost is not forgotten: what it knew is thought known by the next."""
    from zerokernel.crossing.kernel_replica import KernelReplica

    def make(forget: Any) -> Any:
        return lambda self: None if hasattr(self, "ledger") else forget(self)

    _replaced(KernelReplica, "forget_worker", make)


MUTANTS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        dict_order,
        lists_unchanged,
        lost_alias,
        stale_worker,
        names_stay,
        buffers_unchanged,
        applied_after_loss,
    )
}
