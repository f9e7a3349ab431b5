"""Updates of displays, no more of them than a person can see."""

from __future__ import annotations

from zerokernel.worker.held import Shown

BURST = 100
"""So many updates in a row pass as they come: those of nearly every cell."""

UPDATES_A_SECOND = 20
"""How often a display is updated beyond that."""

BYTES_A_SECOND = 32 << 20
"""Updates larger than a twentieth of this come less often."""


class Updates:
    """Holds back an update of a display until the next tick; a newer one takes its place.

    The last update of each display always passes.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Shown] = {}
        self._tokens = float(BURST)
        self._refilled_at = 0.0
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def pass_now(self, display_id: str, update: Shown, now: float) -> bool:
        """Whether the update may pass at once; else it is kept. ``now`` is in seconds."""
        earned = (now - self._refilled_at) * UPDATES_A_SECOND
        self._tokens = min(float(BURST), self._tokens + earned)
        self._refilled_at = now
        if self._tokens >= 1 and display_id not in self._waiting and now >= self._due:
            self._tokens -= 1
            self._wait_after(update.size, now)
            return True
        self._waiting[display_id] = update
        return False

    def take_due(self, now: float) -> list[Shown]:
        """Gives what has waited long enough."""
        if now < self._due or not self._waiting:
            return []
        taken = self.take()
        self._due = now + 1 / UPDATES_A_SECOND
        self._wait_after(sum(update.size for update in taken), now)
        return taken

    def take(self, display_id: str | None = None) -> list[Shown]:
        """Gives what waits for a display, or for all."""
        if display_id is not None:
            update = self._waiting.pop(display_id, None)
            return [] if update is None else [update]
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken

    @property
    def count(self) -> int:
        """How many updates wait; one for each display."""
        return len(self._waiting)

    def _wait_after(self, size: int, now: float) -> None:
        self._due = max(self._due, now + size / BYTES_A_SECOND)
