"""Every error that zerokernel raises. The docstring of a class is its message.

An error tells the user what happened and what to do next. ``detail``, where given,
replaces the docstring's first line by the facts of this case.
"""

from __future__ import annotations

import inspect


class ZeroKernelError(Exception):
    """Something went wrong in zerokernel."""

    again = True
    """Whether a cell that had not begun is run again; a rule of lifecycle.py may say no."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail if detail is not None else inspect.getdoc(type(self)) or "")


class UnsupportedPlatform(ZeroKernelError):
    """zerokernel needs Linux: it forks workers and reads their memory. On this system use `%%gpu --cpu`."""


class BadOption(ZeroKernelError):
    """An option of `%%gpu` or `%gpu` is not understood. `%%gpu?` lists them all."""


class BadDuration(BadOption):
    """`--duration` wants a positive time such as 90, 90s, 2m, 1h or an expression that gives one."""


class UnknownSize(BadOption):
    """No device here has a slice of that size. `%gpu` lists the sizes there are."""


class BadSimulation(ZeroKernelError):
    """What was asked of the simulator cannot be done. `zerokernel simulate --help` lists what can."""


class BadTrace(BadSimulation):
    """The trace cannot be read. Each line is a cell; docs/simulator.md has the columns."""


class BrokerUnavailable(ZeroKernelError):
    """The broker could not be reached or started. `%%gpu --cpu` runs the cell in the notebook."""


class TokenRefused(BrokerUnavailable):
    """The broker does not know this token, or it has expired. Ask its administrator for a new one."""

    again = False


class BadUser(ZeroKernelError):
    """There is no such user, or a user cannot be like that."""


class UsersUnavailable(ZeroKernelError):
    """The file of users cannot be read or written, or is not to be trusted."""


class BrokerLost(ZeroKernelError):
    """The broker ended and no other took its place, so the cell was ended too. Nothing was changed; run it again."""


class ProtocolMismatch(ZeroKernelError):
    """The two sides speak different protocol versions. Restart the kernel, or the older side."""


class RequestRefused(ZeroKernelError):
    """The broker refused the request."""


class QuotaExceeded(ZeroKernelError):
    """Your GPU time is used up for now. `%gpu` shows when there is more."""


class RequestCancelled(ZeroKernelError):
    """The cell was cancelled. Nothing was changed."""


class ChannelClosed(ZeroKernelError):
    """The other end of the channel is gone."""


class AuthenticationFailed(ZeroKernelError):
    """The other end could not prove that it knows the secret."""


class MalformedMessage(ZeroKernelError):
    """A message does not have the form that the protocol says."""


class DeviceBusy(ZeroKernelError):
    """Another broker on this machine holds the device."""


class DeviceUnavailable(ZeroKernelError):
    """The devices that there should be cannot be read."""


class LedgerUnavailable(ZeroKernelError):
    """The ledger cannot be read or written. `zerokernel doctor` shows the state of its disk."""


class LedgerConnectionLost(LedgerUnavailable):
    """The connection to the ledger's database was lost, perhaps after it had written the change. Making the change again does no harm."""


class WorkerStartFailed(ZeroKernelError):
    """The worker could not be started. Nothing was changed. `zerokernel status` shows the log."""


class ContainmentUnavailable(ZeroKernelError):
    """Workers cannot be held together in the way that was asked for. Set `containment` to "auto"."""


class WorkerLost(ZeroKernelError):
    """The worker ended before the cell did. Nothing was changed; the next cell gets a new worker."""


class WorkerKilled(WorkerLost):
    """The worker was killed. Nothing was changed; the next cell gets a new worker."""


class WorkerOutOfMemory(WorkerLost):
    """The worker was killed because the machine ran out of memory. Nothing was changed."""


class DeadlineExceeded(WorkerLost):
    """The cell did not stop at its limit and was ended. Nothing was changed; ask for more with --duration."""


class DeviceLost(WorkerLost):
    """The GPU under the cell was lost: it fell off the bus, or its slice was taken away. Nothing was changed or charged; `%gpu` shows what is left."""


class DeviceOutOfMemory(WorkerLost):
    """The slice has no memory for what the cell uses. Nothing was changed; ask for a larger one: `%%gpu --memory`."""


class GpuDeadline(BaseException):
    """Raised inside a cell shortly before its limit, so that what it has computed can come home.

    Not an Exception, so that `except Exception` in a loop does not swallow it; it is raised
    again until it takes effect. ``finally`` blocks run. At the limit itself the worker ends.
    """


class CrossingError(ZeroKernelError):
    """Objects could not cross between the notebook and the worker."""


class CannotTravel(CrossingError):
    """An object cannot travel between the notebook and the worker."""


class FileNotShared(CrossingError):
    """A file whose memory the cell uses is not the same file for the notebook and for its worker. Run the cell again: from now on the bytes are sent."""


class CommitFailed(CrossingError):
    """What the cell changed could not be written into the notebook, which is as it was before."""


class ResultsTooLarge(CommitFailed):
    """What the cell changed needs more memory than the notebook has left. Nothing was changed; bring less home."""


class EmulationError(ZeroKernelError):
    """Something cannot be done with the emulated device. Do it in a `%%gpu` cell."""


class EmulatedDeviceOnly(EmulationError, RuntimeError):
    """This needs a real device, and the notebook's is emulated. Do it in a `%%gpu` cell."""


class CannotEmulate(EmulationError):
    """`cuda` cannot be emulated in this process: it sees a real device, or runs another emulation."""
