"""A program: a list of cells, some of which are to run on a GPU slice.

One file holds the programs of one theme. In it, ``# === name: what it shows`` begins a
program, ``# %%`` a plain cell and ``# %% gpu`` one that runs under ``%%gpu``. Options stand in
brackets after the name: ``[free]`` lets the judge hold no object between cells, for programs
that watch objects die; ``[ignore NAMES]`` leaves out names that are documented to differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parent / "programs"
_HEAD = re.compile(r"# === ([\w-]+)(?: \[(free|ignore [\w ]+)\])?: (.+)")
_CELL = re.compile(r"# %%( gpu)?\s*")


@dataclass(frozen=True)
class Cell:
    source: str
    gpu: bool

    def plain(self) -> str:
        return self.source

    def leased(self) -> str:
        return f"%%gpu --quiet\n{self.source}" if self.gpu else self.source


@dataclass(frozen=True)
class Program:
    """What to run, and how to look at it.

    Attributes:
        hold: Whether the judge keeps the objects of one cell alive until after the next,
            which is how it sees that an object was replaced by an equal one.
        ignore: Names that are left out of the comparison.
    """

    name: str
    purpose: str
    cells: tuple[Cell, ...]
    hold: bool = True
    ignore: tuple[str, ...] = ()


def parse(text: str, origin: str = "a program file") -> list[Program]:
    """Reads the programs of one file; raises ValueError where a line cannot be placed."""
    programs: list[Program] = []
    for block in re.split(r"^(?=# === )", text, flags=re.MULTILINE):
        if not block.strip():
            continue
        first, _, rest = block.partition("\n")
        head = _HEAD.fullmatch(first)
        if head is None:
            raise ValueError(f"{origin}: not the head of a program: {first!r}")
        option, *names = (head[2] or "").split() or [""]
        programs.append(
            Program(head[1], head[3], _cells(rest, origin), option != "free", tuple(names))
        )
    return programs


def _cells(text: str, origin: str) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    lines: list[str] = []
    flag: bool | None = None
    for line in [*text.splitlines(), "# %%"]:
        if not (mark := _CELL.fullmatch(line)):
            lines.append(line)
            continue
        source = "\n".join(lines).strip("\n")
        if flag is not None:
            cells.append(Cell(source, flag))
        elif source:
            raise ValueError(f"{origin}: text before the first cell: {source!r}")
        flag, lines = mark[1] is not None, []
    return tuple(cells)


def as_cases(
    programs: Iterable[Program], differences: Mapping[str, str]
) -> list[pytest.ParameterSet]:
    """The programs as cases of a test; those that do not agree yet are expected to fail."""
    return [
        pytest.param(
            program,
            id=program.name,
            marks=[pytest.mark.xfail(reason=reason, strict=True)]
            if (reason := differences.get(program.name))
            else [],
        )
        for program in programs
    ]


def load_all(directory: Path = DIRECTORY) -> list[Program]:
    """Every program of every theme, in a fixed order; names are unique."""
    programs: list[Program] = []
    for path in sorted(directory.glob("*.cells")):
        programs += parse(path.read_text(), path.name)
    names = [program.name for program in programs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"programs with the same name: {sorted(twice)}")
    return programs
