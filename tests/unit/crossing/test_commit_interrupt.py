import signal

import pytest

from zerokernel.crossing import KernelReplica, WorkerReplica, staging


def test_interrupt_between_writes_comes_after_the_last(monkeypatch):
    """SIGINT during the commit is delivered once everything is written."""
    here, there = {"a": [1], "b": [1]}, {}
    kernel, worker = KernelReplica(here), WorkerReplica(there)
    shipment = kernel.ship(["a", "b"])
    worker.receive(shipment.payload, [])
    there["a"].append(2)
    there["b"].append(2)
    staged = kernel.stage(worker.returns({}).payload, [])
    real = staging.apply

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        real(*args)

    monkeypatch.setattr(staging, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        staged.commit()
    assert (here["a"], here["b"]) == ([1, 2], [1, 2])
