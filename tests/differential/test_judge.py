"""The judge is judged: equal runs agree, and each wrong run is caught."""

from __future__ import annotations

import pytest

from tests.differential.judge import Pair
from tests.differential.program import Cell, Program, load_all, parse

SUBJECT = parse("""\
# === subject: a program with something to lose in every respect
# %%
import numpy as np, random, os
x = [1, 2]
alias = x
m = np.arange(6.0)
view = m[2:4]
class C:
    pass
c = C()
def make():
    n = [0]
    def inc(): n[0] += 1
    return inc
inc = make()
# %% gpu
x.append(3)
view[0] = 9
c.a = {"k": x}
inc()
print("out")
x
""")[0]

WRONG = {
    "a value": ("x.append(3)", "x.append(4)"),
    "a type": ("x.append(3)", "x.append(3.0)"),
    "a lost alias": ("x.append(3)", "x = x + [3]; c.a = 0"),
    "an equal copy": ("x.append(3)", "x = alias = [1, 2, 3]"),
    "an equal copy in a container": ('{"k": x}', '{"k": list(x)}'),
    "a view that became a copy": ("view[0] = 9", "m[2] = 9; view = m[2:4].copy()"),
    "an equal array in new memory": ("view[0] = 9", "view[0] = 9; m = m.copy()"),
    "another flag": ("view[0] = 9", "view[0] = 9; m.flags.writeable = False"),
    "an equal instance": ("c.a = {", "c = C(); c.a = {"),
    "an attribute's order": ("c.a = {", "c.b = 1; c.a = {"),
    "a closure that lost its write": ("inc()", "pass"),
    "an equal function": ("inc()", "inc = make(); inc()"),
    "a name too many": ("inc()", "inc(); extra = 1"),
    "a name too few": ("inc()", "inc(); del make"),
    "an output": ('print("out")', 'print("out ")'),
    "an output's stream": ('print("out")', 'import sys; print("out", file=sys.stderr); del sys'),
    "a display more": ('print("out")', 'print("out"); display(1)'),
    "no result": ("\nx\n", "\nx;\n"),
    "an equal result": ("\nx\n", "\nlist(x)\n"),
    "a random number drawn": ("inc()", "inc(); random.random()"),
    "another directory": ("inc()", "inc(); os.chdir('/')"),
    "a variable set": ("inc()", "inc(); os.environ['SCRATCH'] = '1'"),
    "an error": ("inc()", "inc(); raise ValueError"),
}


def test_equal_runs_agree(twins: Pair) -> None:
    """Nothing that the judge looks at differs between two plain runs."""
    assert twins.differences(SUBJECT, Cell.plain) == []


@pytest.mark.parametrize(("old", "new"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_run_is_caught(twins: Pair, old: str, new: str) -> None:
    """A run that is wrong in this one respect does not pass."""

    def rewrite(cell: Cell) -> str:
        if not cell.gpu:
            return cell.source
        changed = (cell.source + "\n").replace(old, new)
        assert changed != cell.source + "\n"
        return changed.strip("\n")

    assert twins.differences(SUBJECT, rewrite)


def test_a_stuck_kernel_is_a_difference(twins: Pair) -> None:
    """A cell that never ends fails its program, and the next program gets new kernels."""
    stuck = Program("stuck", "", (Cell("import threading; threading.Event().wait()", True),))
    assert "nothing more" in twins.differences(stuck, Cell.plain, timeout=1)[0]
    assert twins.differences(SUBJECT, Cell.plain) == []


def test_a_dead_kernel_is_a_difference(twins: Pair) -> None:
    """A kernel that dies fails its program, and the next program gets new kernels."""
    dead = Program("dead", "", (Cell("import os; os._exit(1)", True),))
    assert "died" in twins.differences(dead, Cell.plain)[0]
    assert twins.differences(SUBJECT, Cell.plain) == []


@pytest.mark.slow
@pytest.mark.parametrize("program", load_all(), ids=lambda program: program.name)
def test_every_program_agrees_with_itself(twins: Pair, program: Program) -> None:
    """No program has an outcome of its own that changes from run to run."""
    assert twins.differences(program, Cell.plain) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# === no purpose\n", "not the head"),
        ("stray\n# === a: b\n", "not the head"),
        ("# === a: b\nx = 1\n# %%\ny = 2\n", "before the first cell"),
    ],
)
def test_a_malformed_program_is_refused(text: str, message: str) -> None:
    """A line that belongs to no cell is an error, not a cell that silently never runs."""
    with pytest.raises(ValueError, match=message):
        parse(text)
