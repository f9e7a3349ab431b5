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
