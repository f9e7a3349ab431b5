"""How the object graph of a cell reaches the worker, and comes back into the same objects.

`KernelReplica` and `WorkerReplica` are the two ends; a `Shipment` goes between them over
whatever transport the caller has. See the module `snapshot` for how changes are found and
`staging` for how they are written.
"""

from zerokernel.crossing.buffers import allocate
from zerokernel.crossing.kernel_replica import KernelReplica
from zerokernel.crossing.shipment import Shipment
from zerokernel.crossing.staging import Committed, Staged
from zerokernel.crossing.worker_replica import WorkerReplica

__all__ = ["Committed", "KernelReplica", "Shipment", "Staged", "WorkerReplica", "allocate"]
