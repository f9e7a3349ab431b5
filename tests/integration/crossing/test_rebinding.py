"""New objects under a name that crossed before are the new ones, in every later shipment."""

from typing import Any

import pytest

from zerokernel.crossing import KernelReplica, WorkerReplica, allocate

np = pytest.importorskip("numpy")


class Ends:
    """Both ends of the crossing in one process, with two namespaces."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {}
        self.there: dict[str, Any] = {}
        self._kernel = KernelReplica(self.here)
        self._worker = WorkerReplica(self.there)

    def out(self, *names: str) -> int:
        shipment = self._kernel.ship(names)
        self._worker.receive(shipment.payload, carried(shipment))
        return shipment.byte_count

    def fetch(self, name: str) -> None:
        shipment = self._kernel.fetch(name)
        self._worker.absorb(shipment.payload, carried(shipment))

    def back(self) -> None:
        shipment = self._worker.returns({})
        self._kernel.stage(shipment.payload, carried(shipment)).commit()
        self._worker.returned()
        self._kernel.prune()


def carried(shipment: Any) -> list[Any]:
    owners, views = allocate(shipment.specs)
    for view, buffer in zip(views, shipment.buffers, strict=True):
        view[:] = buffer
    return owners


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_a_rebound_array_is_the_new_one(ends: Ends) -> None:
    """Each shipment's array has its own bytes there, and is sent once."""
    for number in range(4):
        ends.here["x"] = np.full(1 << 17, float(number))
        ends.out("x")
        assert (ends.there["x"] == number).all()
        ends.back()
        assert ends.out("x") < 10_000
        ends.back()


def test_arrays_made_there_are_the_new_ones(ends: Ends) -> None:
    """Each cell's new array comes home with its own bytes."""
    for number in range(4):
        ends.out()
        ends.there["x"] = np.full(1 << 17, float(number))
        ends.back()
        assert (ends.here["x"] == number).all()


def test_a_rebound_tensor_is_the_new_one(ends: Ends) -> None:
    """The same for tensors, whose storages are the buffers."""
    torch = pytest.importorskip("torch")
    for number in range(4):
        ends.here["x"] = torch.full((1 << 17,), float(number))
        ends.out("x")
        assert bool((ends.there["x"] == number).all())
        ends.back()
        ends.out("x")
        ends.there["x"] = torch.full((1 << 17,), -float(number))
        ends.back()
        assert bool((ends.here["x"] == -number).all())


def test_functions_and_classes_of_later_cells_are_the_new_ones(ends: Ends) -> None:
    """A function made after the first shipment reads the worker's names, not a copy."""
    for number in range(3):
        exec(f"n = {number}\ndef f():\n    return n + {number}\n", ends.here)
        ends.out("f")
        assert ends.there["f"]() == 2 * number
        ends.back()


def test_a_replaced_part_is_no_change_of_what_holds_it(pair):
    """A generator whose seed sequence was replaced in the worker is not taken for changed here."""
    pair.plain("import numpy as np; s = np.random.SeedSequence(3); g = np.random.default_rng(s)")
    pair.plain("twin = np.random.default_rng(3)")
    for _ in range(3):
        pair.cell("g.random()", names=["g", "s"])
        pair.plain("twin.random(); s.spawn(1)")
        assert pair.namespace["g"].bit_generator.state == pair.namespace["twin"].bit_generator.state
    pair.cell("s.spawn(1); g.random()", names=["g", "s"])
    assert not any("PCG64" in note for note in pair.staged._notes)


def test_a_generator_made_by_a_cell_leaves_no_trace_in_later_ones(pair):
    """What Cython's classes are pickled by travels by name, however often it is met."""
    pair.cell("import numpy as np; g = np.random.default_rng(3)")
    pair.plain("del g; g = np.random.default_rng(3); twin = np.random.default_rng(3)")
    for _ in range(3):
        done = pair.cell("g.random()", names=["g"])
        pair.plain("twin.random()")
        assert pair.namespace["g"].bit_generator.state == pair.namespace["twin"].bit_generator.state
        assert not done.notes


def test_an_object_that_dies_between_two_cells_is_not_named_again(pair):
    """It is told as gone with the next shipment, also with one that carries no names."""
    pair.cell("import numpy as np; a = np.arange(20_000.0)")
    kept = pair.namespace["a"]
    pair.plain("del a")
    del kept, pair.staged  # as when the collector frees it, after the table was pruned
    pair.cell("b = 1", names=[])
    assert pair.namespace["b"] == 1


def test_a_name_that_is_deleted_and_bound_to_the_same_object_moves_to_the_end(pair):
    """The names stand in the order in which they were bound."""
    pair.plain("x = [1]; y = 2; z = 3")
    pair.cell("x = vars().pop('x'); new = 1; y = globals().pop('y')")
    assert [n for n in pair.namespace if len(n) < 4] == ["z", "x", "new", "y"]


def test_names_keep_their_order_over_a_fetch(ends: Ends) -> None:
    """Of what was deleted and bound again, before or after a fetch, the notebook learns it all."""
    ends.here.update(a=1, b=2, c=3, late=4, d=5)
    ends.out("a", "b", "c")
    ends.there["new"] = 6
    ends.there["c"] = ends.there.pop("c")
    ends.fetch("late")
    ends.there["a"] = ends.there.pop("a")
    ends.there["b"] = 7
    ends.back()
    assert list(ends.here) == ["b", "late", "d", "new", "c", "a"]
