"""What the supervisor knows of one worker. It changes in the supervisor's loop only."""

from __future__ import annotations

from dataclasses import dataclass, field

from zerokernel.containment import Allowance, Tree
from zerokernel.lifecycle import Cause
from zerokernel.messages import TaskEnded, TaskReturning, TaskStarted, WorkerKept
from zerokernel.wire.unix import UnixChannel
from zerokernel.worker import process

COUNTED_PAGES = 4096
"""A worker that grew or shrank by fewer is not counted again (16 MiB)."""

TaskReport = TaskStarted | TaskReturning


@dataclass
class Worker:
    """A forked worker as its supervisor sees it. All times are monotonic seconds."""

    session: str
    tree: Tree
    control: UnixChannel
    oom_kills: int
    allowance: Allowance | None = None  # what holds it to the limits of its size
    lease: str = ""
    request: str = ""
    slice_id: str = ""  # where it has memory
    limit: float = 0.0
    bound: float = 0.0
    started: float | None = None
    ended: float | None = None  # seconds that its task ran, once its last line is over
    ends_at: float | None = None  # None while no lease holds the worker
    ends_as: Cause = Cause.DEADLINE  # why it is stopped then
    stuck: str = ""  # what its task does instead of stopping, for the user
    cause: str = ""  # why it is being stopped, once it is
    freeze_at: float | None = None  # parked, and not frozen yet
    untold: list[TaskReport] = field(default_factory=list)  # not told to the broker yet
    tell_at: float | None = None
    resident: int = 0  # pages in memory when its own were counted last
    private: int = 0  # bytes that ended with it then

    @property
    def process(self) -> int:
        """Its process id, as everybody but itself sees it."""
        return self.tree.process

    def ran(self, now: float) -> float:
        """Seconds that its task has run."""
        if self.ended is not None:
            return self.ended
        return 0.0 if self.started is None else now - self.started

    def as_kept(self, now: float) -> WorkerKept:
        """Describes it to the broker that takes the supervisor over."""
        return WorkerKept(
            session=self.session,
            process=self.process,
            lease=self.lease,
            request=self.request,
            slice_id=self.slice_id,
            limit=self.limit,
            ran=-1.0 if self.started is None else self.ran(now),
            held=now - self.bound if self.lease else 0.0,
        )

    def end_of_task(self) -> TaskReturning | TaskEnded | None:
        """What it last said about the end of its task, None where that still runs."""
        if not self.lease or self.ended is None:
            return None
        kind = TaskReturning if self.ends_at is not None else TaskEnded
        return kind(self.session, self.lease, self.ended)

    def private_memory(self) -> int:
        """Bytes that end with it. Counting takes milliseconds: not where little has changed."""
        resident = process.resident_pages(self.process)
        if abs(resident - self.resident) > COUNTED_PAGES or not self.private:
            self.resident, self.private = resident, process.private_memory(self.process)
        return self.private

    def why_stopped(self) -> str:
        """Says what it did when it was stopped because its time was over."""
        if self.cause == Cause.DEADLINE:
            return self.stuck or (
                "the worker did not react at all: it was stopped, or one call held it"
            )
        if self.cause == Cause.UNDELIVERED:
            return "the notebook did not take the results in time"
        if self.cause == Cause.START_FAILED:
            return "the cell did not begin in time"
        return ""
