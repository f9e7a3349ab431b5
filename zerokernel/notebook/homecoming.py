"""The way home of a cell that is over: its results become the notebook's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerokernel.ambient.quiet import quietly
from zerokernel.errors import CommitFailed, DeviceOutOfMemory, FileNotShared, ZeroKernelError
from zerokernel.notebook import failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zerokernel.crossing import Committed, Staged
    from zerokernel.messages import CellFinished
    from zerokernel.notebook.connection import Connection
    from zerokernel.notebook.outputs import OutputRelay


@dataclass(frozen=True)
class Finished:
    """What a worker sent when its cell was over.

    Attributes:
        said: How the cell ended.
        payload: Its results, pickled.
        owners: The buffers that these refer to, filled.
    """

    said: CellFinished
    payload: bytes
    owners: Sequence[Any]


@dataclass(frozen=True)
class Home:
    """What was brought home.

    Attributes:
        error: What the cell raised.
        notes: What of its surroundings could not be taken over.
    """

    committed: Committed
    error: BaseException | None
    notes: list[str]


def bring_home(
    finished: Finished,
    shell: Any,
    connection: Connection,
    relay: OutputRelay,
    names: Iterable[str],
) -> Home:
    """Commits what a cell changed, and shows what it gave.

    Args:
        finished: What its worker sent.
        shell: The notebook's.
        connection: The session's, which lets go of a worker that no longer agrees with us.
        relay: Where the cell's outputs go.
        names: What the cell reads, which the threads that it left running read too.

    Raises:
        DeviceOutOfMemory: What the cell uses did not fit on its slice.
        CommitFailed: The results cannot be the notebook's; nothing was changed.
        ResultsTooLarge: The notebook has no memory for them; nothing was changed.
    """
    said = finished.said
    if said.status == "stuck":
        connection.drop_worker()
        if said.error.get("ename") == FileNotShared.__name__:
            connection.replica.files_travel = False
        if said.error.get("ename") == "OutOfMemoryError":
            short = DeviceOutOfMemory(said.error.get("evalue"))
            short.again = bool(said.error.get("again"))
            raise short
        raise CommitFailed(said.error.get("evalue"))
    staged, committed = _commit(finished, connection)
    if connection.link is not None:
        connection.link.left_running = said.left_running
    if said.left_running:
        connection.keep_for_background((*names, *committed.bound))
    else:
        connection.background_names = frozenset()
    notes: list[str] = []
    if connection.link is not None:
        with quietly():
            notes = connection.link.take_over_surroundings(staged.extra)
    if said.frees:
        notes += _let_go(connection)
    relay.finish(staged.extra.get("result"))
    if said.exits:
        shell.exit_now = True
    relay.forward_payload(said.payload)
    if said.display_failed:
        relay.mark_display_failed()
    if said.status == "ok":
        return Home(committed, None, notes)
    error = failure.of_cell(shell, staged.extra.get("error"), said.error)
    return Home(committed, error, notes)


def _let_go(connection: Connection) -> list[str]:
    """The worker keeps nothing: what is sent next is sent whole. Gives a note of what is lost."""
    lost = sorted(connection.replica.worker_only)
    connection.replica.forget_worker()
    connection.background_names = frozenset()
    names = ", ".join(f"`{name}`" for name in lost)
    return [f"the worker let go of {names}, which had stayed in it"] if lost else []


def _commit(finished: Finished, connection: Connection) -> tuple[Staged, Committed]:
    try:
        with quietly():  # the worker has imported and built all this before
            staged = connection.replica.stage(finished.payload, finished.owners)
            return staged, staged.commit()
    except Exception as error:
        connection.drop_worker()  # its objects and ours no longer agree
        if isinstance(error, FileNotShared):
            connection.replica.files_travel = False
        if isinstance(error, ZeroKernelError):
            raise
        # A class's own code ran while its new objects were built, and failed.
        raise CommitFailed(
            f"What the cell made could not be rebuilt in the notebook, which is as it was "
            f"before the cell: {type(error).__name__}: {error}"
        ) from error
