"""Turns drawn numbers into a program: a list of cells whose statements suit the objects there.

The statements are run here as they are written, so that each can be chosen to fit what the
program has by then: paths lead somewhere, and most changes apply. One that raises ends its cell.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import random
import re
import textwrap
import types
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.differential.generated.vocabulary import (
    CHANGES,
    CLASSES,
    DERIVED,
    FRESH,
    IMPORTS,
    PLAIN,
    is_array,
    is_tensor,
    uses,
)
from tests.differential.program import Cell, Program

NAMES = tuple(f"n{i}" for i in range(6))
PLACES, DEPTH = 30, 3
FAILURES = 6  # of so many statements that fail one is kept: tracebacks take time
ATOMS = (int, float, str, bool, type(None), type)
LOSE = '__import__("sys").modules["differential_observer"].lose_worker()'
STATEMENTS = re.split(r"\n(?! |except)", PLAIN)
HEADS = [IMPORTS, IMPORTS + ", torch"]

Draw = tuple[int, int, int, int]
"""Which statement, on what, how, and with which value."""
Round = tuple[str, Sequence[Draw]]
"""Where a cell runs ("plain", "gpu", "lost": it ends with its worker, "kill"), what it does.

The first of a program only binds names to new objects, and runs plain.
"""


@dataclass(frozen=True)
class Step(Cell):
    """A cell of a generated program.

    Attributes:
        raises: Whether it ends in an error.
        lost: Its worker is killed at its end, so that nothing of it is applied.
        kill: Not a cell of the user's: the worker, idle, is killed.
    """

    raises: bool = False
    lost: bool = False
    kill: bool = False

    def plain(self) -> str:
        return "pass" if self.lost or self.kill else self.source

    def leased(self) -> str:
        if self.kill:
            return LOSE
        if not self.lost:
            return super().leased()
        end = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        return f"%%gpu --quiet\ntry:\n{textwrap.indent(self.source, '    ')}\nfinally:\n    {end}"


def write(rounds: Sequence[Round], *, hold: bool, torch: bool) -> Program:
    """The program that these numbers stand for; the same each time."""
    with _undisturbed():
        return _Writer(torch).program(rounds, hold)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What the statements print is not shown, and their random numbers are always the same."""
    import numpy as np

    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class _Writer:
    """Writes one program. The mutable state: the namespace as it is after the last statement."""

    def __init__(self, torch: bool) -> None:
        self._torch = torch
        self._space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        exec(_prologue(torch), self._space)

    def program(self, rounds: Sequence[Round], hold: bool) -> Program:
        begin = list(filter(self._run, (self._first(*draw) for draw in rounds[0][1])))
        cells = [self._cell(where, draws) for where, draws in rounds[1:]]
        text = "\n".join([*begin, *(cell.source for cell in cells)])
        head = HEADS["torch" in text]
        first = Step("\n".join([head, *map(CLASSES.__getitem__, uses(text)), *begin]), False)
        return Program("generated", "", (first, *cells), hold)

    def _first(self, _: int, on: int, how: int, value: int) -> str:
        return f"n{on % 6} = {self._fresh(how, value, self._places())}"

    def _cell(self, where: str, draws: Sequence[Draw]) -> Step:
        if where == "kill":
            return Step("# the worker is killed", False, kill=True)
        before = {name: self._space[name] for name in NAMES if name in self._space}
        lines: list[str] = []
        raises = False
        for draw in draws:
            line = self._statement(*draw)
            if line is None or ("torch" in line and not self._torch):
                continue
            if where == "plain" and self._makes_graph(line):
                continue
            raises = not (where == "lost" or self._run(line))
            if raises and draw[-1] % FAILURES:
                raises = False
                continue
            lines.append(line)
            if raises:
                break
        if where == "lost" and before:
            lines.append(f"{min(before)} = None")
        step = Step("\n".join(lines) or "pass", where != "plain", raises)
        return replace(step, lost=True, raises=True) if where == "lost" else step

    def _run(self, line: str) -> bool:
        try:
            exec(_compiled(line), self._space)
        except Exception:
            return False
        return True

    def _makes_graph(self, line: str) -> bool:
        """Whether it adds tensors with an autograd graph, which only a GPU cell may make."""
        value = line.partition(" += ")[2]
        with contextlib.suppress(Exception):
            return bool(value and eval(value, self._space).requires_grad)
        return False

    # --- one statement -------------------------------------------------------------------

    def _statement(self, what: int, on: int, how: int, value: int) -> str | None:
        places = self._places()
        kind = what % 16
        if kind < 5:
            return f"n{on % 6} = {self._fresh(how, value, places)}"
        if kind < 12:
            return silent(self._applied(CHANGES, places, on, how, value))
        if kind < 14:
            read = self._applied(DERIVED, places, on, how, value)
            return read and f"n{value % 6} = {read}"
        if kind < 15:
            words = {"i": on % 6, "j": value % 6, "v": self._value(how, places)}
            line = STATEMENTS[how % len(STATEMENTS)]
            return silent(line.format(**words, w=self._value(value, places)))
        return self._shown(places, on, how)

    def _applied(self, table: Any, places: Any, on: int, how: int, value: int) -> str | None:
        """One of the table's statements on one of the places that it has any for."""
        fitting = []
        for path, item in places:
            choices = [s for test, texts in table if test(item) for s in texts.split("|")]
            if choices:
                fitting.append((path, choices))
        if not fitting:
            return None
        path, choices = fitting[on % len(fitting)]
        return choices[how % len(choices)].format(p=path, v=self._value(value, places))

    def _fresh(self, how: int, value: int, places: Any) -> str:
        offered = FRESH if self._torch else FRESH[: len(FRESH) - 6]
        a, b = self._value(value, places), self._value(value // 7, places)
        return offered[how % len(offered)].format(a=a, b=b)

    def _value(self, number: int, places: Any) -> str:
        which, rest = number % 3, number // 3
        if which == 0 or not places:
            return ("1", "'s'", "None", "2.5", "[]", "{}")[rest % 6]
        if which == 1:
            return str(places[rest % len(places)][0])
        return f"[{places[rest % len(places)][0]}]"

    def _shown(self, places: Any, on: int, how: int) -> str | None:
        if not places:
            return None
        path, item = places[on % len(places)]
        if how % 3 and (is_array(item) or is_tensor(item) or type(item) in (bytearray, deque)):
            return path if how % 2 and item_is_flat(item) else f"print({path}[:3])"
        return f"print('{path}', type({path}).__name__, len({path}))"

    # --- what there is -------------------------------------------------------------------

    def _places(self) -> list[tuple[str, Any]]:
        """Paths to the objects that can be reached from the names, each object once."""
        found = [(name, self._space[name], 0) for name in NAMES if name in self._space]
        seen = {id(item) for _, item, _ in found}
        for path, item, depth in found:
            if len(found) >= PLACES or depth == DEPTH:
                break
            for step, child in _children(item):
                if isinstance(child, ATOMS) or id(child) in seen:
                    continue
                seen.add(id(child))
                found.append((path + step, child, depth + 1))
        return [(path, item) for path, item, _ in found]


def item_is_flat(item: Any) -> bool:
    """Whether its repr shows nothing of other objects, whose addresses and sets differ."""
    return type(item) is bytearray or is_tensor(item) or (is_array(item) and item.dtype != object)


def _children(item: Any) -> list[tuple[str, Any]]:
    if isinstance(item, (list, tuple, deque)):
        found = [(f"[{i}]", child) for i, child in zip(range(3), item, strict=False)]
    elif isinstance(item, dict):
        found = [(f"[{k!r}]", v) for k, v in list(dict.items(item))[:4] if isinstance(k, str)]
    elif is_array(item):
        found = [(".flat[0]", item.flat[0])] if item.dtype == object and item.size else []
    elif isinstance(item, types.FunctionType):
        cells = enumerate(item.__closure__ or ())
        found = [(f".__closure__[{i}].cell_contents", cell.cell_contents) for i, cell in cells]
    elif isinstance(item, functools.partial):
        found = [(".keywords", item.keywords)]
    elif isinstance(item, types.MethodType):
        found = [(".__self__", item.__self__)]
    elif isinstance(item, BaseException):
        found = [(".__cause__", item.__cause__)]
    elif type(item).__name__ == "Linear":
        found = [(".weight", item.weight), (".bias", item.bias)]
    else:
        found = []
    attributes = vars(item) if hasattr(item, "__dict__") and not is_module(item) else {}
    found += [(f".{k}", v) for k, v in list(attributes.items())[:4] if not k.startswith("_")]
    if type(item).__name__ in ("Slotted", "Half"):
        found += [(f".{slot}", getattr(item, slot)) for slot in "ab" if hasattr(item, slot)]
    return found


def is_module(item: Any) -> bool:
    return isinstance(item, (types.ModuleType, type)) or type(item).__name__ == "Linear"


def silent(line: str | None) -> str | None:
    """The same showing no result, whose repr may order sets as it likes."""
    return f"{line};" if line and _is_expression(line) else line


@functools.lru_cache(20_000)
def _is_expression(line: str) -> bool:
    try:
        compile(line, "<generated>", "eval")
    except SyntaxError:
        return False
    return True


@functools.cache
def _prologue(torch: bool) -> types.CodeType:
    return compile("\n".join([HEADS[torch], *CLASSES.values()]), "<classes>", "exec")


@functools.lru_cache(20_000)
def _compiled(line: str) -> types.CodeType:
    return compile(line, "<generated>", "exec")
