"""What people ask for, whoever serves them: notebooks and their cells."""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.broker.scheduling import Account


@dataclass(frozen=True)
class Cell:
    """One `%%gpu` cell. Times in seconds.

    Attributes:
        think: From the end of the cell before it, or from the notebook's opening, until it is
            asked for.
        limit: What it asks for.
        run: What it needs, were it let to.
    """

    think: float
    limit: float
    run: float


@dataclass(frozen=True)
class Notebook:
    """A notebook: its cells run one after the other, each once its user has seen the last.

    Attributes:
        name: Unlike any other's.
        opens: Seconds from the beginning.
        lingers: For so many seconds it stays open after its last cell.
    """

    name: str
    account: Account
    size: str
    opens: float
    cells: tuple[Cell, ...]
    lingers: float = 0.0


@dataclass(frozen=True)
class Workload:
    """All notebooks of a simulation.

    Attributes:
        seconds: The time that is looked at: what is opened is opened within it.
        origin: Where it is from, in words.
    """

    notebooks: tuple[Notebook, ...]
    seconds: float
    origin: str = ""

    def __len__(self) -> int:
        return sum(len(one.cells) for one in self.notebooks)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes that are asked for, by name."""
        return tuple(sorted({one.size for one in self.notebooks}))

    @property
    def users(self) -> int:
        """How many people ask for something."""
        return len({one.account.user for one in self.notebooks})

    @property
    def work(self) -> float:
        """Seconds on slices that all cells need together."""
        return sum(cell.run for one in self.notebooks for cell in one.cells)
