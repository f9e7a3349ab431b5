"""The end of the worker that a cell was to run in: what is known of it, and what that means."""

from __future__ import annotations

from zerokernel.lifecycle import Cause, rule_of
from zerokernel.messages import WorkerGone

CAUSE_SECONDS = 2.0
"""A worker that is gone is explained by the broker within this time, or not at all."""


class WorkerLoss:
    """Is told what is noticed of a worker's end, and decides; it does nothing itself.

    Args:
        session: Whose worker it is.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._noticed_at: float | None = None
        self._gone: WorkerGone | None = None
        self._lease_end = ""
        self._was_replaced = False

    @property
    def noticed(self) -> bool:
        """Whether the worker is known to be lost."""
        return self._noticed_at is not None

    @property
    def wants_reason(self) -> bool:
        """Whether it is lost and nobody has said yet why: its channel closed first."""
        return self.noticed and self._gone is None

    @property
    def lease_is_over(self) -> bool:
        """Whether the lease ended before the cell had, and the loss was not noticed yet."""
        return not self.noticed and self._lease_end not in ("", Cause.FINISHED)

    def notice(self, now: float) -> None:
        """The worker is lost, by a channel that closed or by what the broker says."""
        if self._noticed_at is None:
            self._noticed_at = now

    def explain(self, gone: WorkerGone) -> None:
        """The broker says why."""
        self._gone = gone

    def lease_ended(self, reason: str) -> None:
        """The broker says how the lease ended."""
        self._lease_end = reason

    def explanation(self, now: float, broker_away: bool) -> WorkerGone | None:
        """Gives why the worker is lost; None where it is not, or may still be explained."""
        if self._noticed_at is None:
            return None
        if self._gone is None and now - self._noticed_at <= CAUSE_SECONDS:
            return None
        cause = self._lease_end or (Cause.BROKER_LOST if broker_away else Cause.EXITED)
        return self._gone or WorkerGone(self._session, cause)

    def is_replaceable(self, cause: str) -> bool:
        """Whether another worker may do instead of one that ended before the grant."""
        if cause == Cause.CANCELLED:
            return True  # an earlier cell was: this request would have been refused
        return rule_of(cause).again and not self._was_replaced

    def replaced(self) -> None:
        """Another worker is to run the cell, of whose end nothing is known."""
        self._noticed_at = self._gone = None
        self._was_replaced = True
