"""What became of each cell under one way of sharing."""

from __future__ import annotations

from dataclasses import dataclass, field

from zerokernel.simulation.workload import Cell, Notebook


@dataclass(slots=True)
class Outcome:
    """One cell. Times are seconds from the beginning; None for what did not happen.

    Attributes:
        index: Which of its notebook's cells.
        started: When its first line ran.
        ended: When its results were home, or it was ended.
        ran: Seconds from its first line to its last.
        reason: Why its lease ended, or its request was refused.
        told: When its user was first told an expected start, and for when.
    """

    notebook: Notebook
    index: int
    asked: float
    granted: float | None = None
    started: float | None = None
    ended: float | None = None
    ran: float = 0.0
    reason: str = ""
    told: tuple[float, float] | None = None
    grants: int = 0

    @property
    def cell(self) -> Cell:
        """What was asked for."""
        return self.notebook.cells[self.index]

    @property
    def wait(self) -> float:
        """Seconds from the wish to the slice."""
        return (self.granted if self.granted is not None else self.asked) - self.asked


@dataclass
class Run:
    """A whole simulation under one way of sharing.

    Attributes:
        name: How tables call it.
        outcomes: Of all cells, in the order in which they were asked for.
        held: From when to when a slice was somebody's, for each time that one was.
        seconds: The computer's own time that it took: what its processor worked.
    """

    name: str
    outcomes: list[Outcome] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def served(self) -> list[Outcome]:
        """Those that had a slice."""
        return [one for one in self.outcomes if one.granted is not None]
