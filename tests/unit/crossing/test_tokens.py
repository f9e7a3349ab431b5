import gc
import weakref

import pytest

from zerokernel.crossing import KernelReplica
from zerokernel.crossing.tokens import Ledger


class Thing:
    """Weakly referable."""


def filled(*objects):
    ledger = Ledger()
    found = list(objects)
    ledger.add(range(len(found)), found, set())
    del found
    ledger.release()
    return ledger


def test_containers_that_nobody_else_holds_are_let_go():
    """A list that only the table holds goes at the next prune, and what it held too."""
    inner = ["x"]
    thing = Thing()
    outer = [inner, thing]
    ledger = filled(outer, inner, thing)
    alive = weakref.ref(thing)
    del outer, inner, thing
    ledger.prune()
    assert alive() is None
    assert ledger.take_gone() == [0, 1, 2]
    assert len(ledger) == 0


def test_what_somebody_holds_stays():
    """Pruning does not touch what the notebook still has."""
    inner = ["x"]
    outer = {"a": inner}
    ledger = filled(outer, inner)
    del inner
    ledger.prune()
    assert ledger.find(outer) == 0
    assert ledger.find(outer["a"]) == 1
    assert ledger.take_gone() == []


def test_instances_are_never_kept_alive():
    """An instance dies when the notebook lets go of it, without any prune."""
    thing = Thing()
    ledger = filled(thing)
    alive = weakref.ref(thing)
    del thing
    gc.collect()
    assert alive() is None
    ledger.prune()
    assert ledger.take_gone() == [0]


def test_hold_keeps_everything_until_release():
    """While a cell is under way the worker may name anything."""
    thing = Thing()
    ledger = filled(thing)
    alive = weakref.ref(thing)
    ledger.hold()
    del thing
    assert alive() is not None
    ledger.release()
    assert alive() is None


def test_new_object_at_an_old_address_is_not_taken_for_the_old_one():
    """The table looks at the object, not at its address alone."""
    ledger = filled(Thing())
    for _ in range(100):
        assert ledger.find(Thing()) is None


def many_shipments(ledger):
    for _ in range(20):
        ledger.add([], [], set())


def test_cycles_of_containers_are_let_go():
    """Lists that hold themselves, each other, or an instance that holds them go as well."""
    loop = []
    loop.append(loop)
    one, two = {}, []
    one["two"], two[:] = two, [one]
    thing = Thing()
    back = [thing]
    thing.back = back
    alive = weakref.ref(thing)
    ledger = filled(loop, one, two, thing, back)
    many_shipments(ledger)
    ledger.prune()
    assert len(ledger) == 5
    del loop, one, two, thing, back
    ledger._without_cycles = 0
    many_shipments(ledger)
    ledger.prune()
    gc.collect()
    ledger.prune()
    assert alive() is None
    assert len(ledger) == 0


def test_cycles_that_somebody_holds_stay():
    """What is reachable from outside of the table stays known, through whatever it is held."""
    loop = []
    loop.append({"loop": loop, "inner": [1]})
    thing = Thing()
    thing.items = [thing]
    holder = (lambda held: lambda: held)(loop)
    ledger = filled(loop, loop[0], loop[0]["inner"], thing, thing.items)
    del loop
    many_shipments(ledger)
    ledger.prune()
    assert len(ledger) == 5
    assert ledger.find(holder()) == 0


@pytest.mark.usefixtures("small_heap")
def test_kernel_does_not_keep_cycles_for_ever():
    """A notebook that makes a cyclic list in each cell does not grow the table without bound."""
    namespace = {"__name__": "__main__"}
    kernel = KernelReplica(namespace)
    sizes = []
    for _ in range(60):
        namespace["x"] = [[], {}]
        namespace["x"].append(namespace["x"])
        kernel.ship(["x"])
        kernel.ledger.release()
        del namespace["x"]
        kernel.prune()
        gc.collect()
        sizes.append(len(kernel.ledger))
    assert max(sizes) < 150
