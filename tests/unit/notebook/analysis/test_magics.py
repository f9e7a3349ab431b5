"""Tables: magics, shell lines and help, as IPython's transformer writes them."""

from __future__ import annotations

import builtins

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from zerokernel.notebook.analysis import CellNames, analyse_cell

OURS = frozenset(vars(builtins)) | {"get_ipython"}
transform = TransformerManager().transform_cell


def analyse(source: str) -> CellNames:
    return analyse_cell(source, transform)


def words(names: frozenset[str]) -> str:
    return " ".join(sorted(names - OURS))


TABLE = [
    # shell lines
    ("!ls", "", ""),
    ("!ls {d} $y ${z}", "d y z", ""),
    ("!echo {x.y[i]!r:>{w}}", "i w x", ""),
    ("!echo $$HOME {{x}}", "", ""),
    ("!awk '{print $1}' f", "", ""),
    ("!echo {", "", ""),
    ("x = !ls {d}", "d", "x"),
    ("x, y = !ls", "", "x y"),
    ("!!ls {d}", "d", ""),
    ("for i in s:\n    !echo {i} {j}", "j s", "i"),
    ("def f(i):\n    !echo {i} {j}", "j", "f"),
    ("if a:\n    x = !ls\nx", "a x", "x"),
    # magics that run code
    ("%time x = f(a)", "a f", "x"),
    ("%time x = f(a)\nx", "a f x", "x"),
    ("y = %timeit -o f(x)", "f x", "y"),
    ("%timeit -n 10 -r 3 f(x)", "f x", ""),
    ("%timeit -n10 -r3 -q f(x)", "f x", ""),
    ("%timeit f(x, y)", "f x y", ""),
    ("%prun -s cumtime -l 10 f(x)", "f x", ""),
    ("%lprun -f g g(x)", "g x", ""),
    ("%time !ls {d}", "d", ""),
    ("%time", "", ""),
    ("%time f(x for x in s)", "f s", ""),
    ("def f(a):\n    %time b = a + c\n    return b", "b c", "b f"),
    ("%%time\nx = y\nz = x", "y", "x z"),
    ("%%time\n%time x = y", "y", "x"),
    ("%%timeit -n 1 a = b\nf(a, c)", "a b c f", "a"),
    ("%%capture out\nprint(x)\ny = 1", "x", "out y"),
    ("%%capture --no-stderr out\npass", "", "out"),
    ("%%capture\nx", "x", ""),
    ("%%gpu -d 60\ny = x", "x", "y"),
    # magics that name variables
    ("x?", "x", ""),
    ("x.y??", "x", ""),
    ("?x", "x", ""),
    ("%pinfo x", "x", ""),
    ("%psource f", "f", ""),
    ("%xdel x", "x", ""),
    # magics that do not
    ("%matplotlib inline", "", ""),
    ("%cd data", "", ""),
    ("%cd {data}/$sub", "data sub", ""),
    ("%pip install {package}", "package", ""),
    ("%env X=$value", "value", ""),
    ("%config InlineBackend.figure_format = 'svg'", "", ""),
    ("%load_ext zerokernel", "", ""),
    ("%%bash\necho $x {y}", "", ""),
    ("%%bash --out o --err=e\nls", "", "e o"),
    ("%%sh {x}\nls", "x", ""),
    ("%%writefile {name}.py\nx = y", "name", ""),
    ("%%html\n<b>{x}</b>", "", ""),
    # what else IPython lets one write
    (">>> x = y\n>>> x", "y", "x"),
    ("  x = y\n  x", "y", "x"),
    (",f a b", "f", ""),
    ("/f a", "a f", ""),
    ("x = y  # %time", "y", "x"),
    ("x = '''\n%time a\n!ls {b}\n'''", "", "x"),
]


@pytest.mark.parametrize(("source", "read", "bound"), TABLE)
def test_names_in_ipythons_syntax(source: str, read: str, bound: str) -> None:
    """What a magic or shell line reads and binds counts as the cell's own."""
    found = analyse(source)
    assert (words(found.read), words(found.bound)) == (read, bound)
    assert found.closed


OPEN = [
    ("%run script.py", "%run", ""),
    ("%run {name}.py", "%run", "name"),
    ("%pylab", "%pylab", ""),
    ("%store -r", "%store", ""),
    ("%store x", "%store", "x"),
    ("%unknown x", "%unknown", ""),
    ("x = %sql select * from t where a = :b", "%sql", ""),
    ("%%unknown x\na b c", "%%unknown", ""),
    ("%%R -i x -o y\nplot(x)", "%R", ""),
    ("%rerun 3", "%rerun", ""),
]


@pytest.mark.parametrize(("source", "reason", "read"), OPEN)
def test_magics_that_reach_further_names(source: str, reason: str, read: str) -> None:
    """A magic that runs what the text does not show, or that nobody knows, leaves it open."""
    found = analyse(source)
    assert not found.closed
    assert found.open_reasons == {reason.replace("%%", "%")}
    assert words(found.read) == read


@pytest.mark.parametrize(
    "source", ["%run -i script.py", "%run -in script.py", "%who", "%whos int", "%reset -f"]
)
def test_magics_that_take_the_namespace(source: str) -> None:
    """`%run -i`, `%who` and `%reset` look at all names."""
    assert analyse(source).whole_namespace


def test_words_of_an_unknown_magic_are_candidates() -> None:
    """What an unknown magic is given may name variables, in its line and in its body."""
    found = analyse("%%sql result << engine\nselect * from frame where a > :limit")
    assert {"result", "engine", "frame", "limit"} <= found.mentioned


def test_unreadable_code_in_a_magic_leaves_the_cell_open() -> None:
    """The error of a magic's body is IPython's to show, where the cell runs."""
    found = analyse("%%time\nx = = y")
    assert not found.closed
    assert {"x", "y"} <= found.mentioned


def test_only_code_goes_through_the_transformer() -> None:
    """What is filled into a line is plain Python: IPython's transformer may look names up."""
    asked: list[str] = []

    def watching(cell: str) -> str:
        asked.append(cell)
        return transform(cell)

    found = analyse_cell("!echo {ls} $pwd\n%time f(x)", watching)
    assert words(found.read) == "f ls pwd x"
    assert asked[1:] == ["f(x)"]


def test_a_deleting_magic_deletes() -> None:
    """`%xdel x` deletes x."""
    assert analyse("%xdel x").deleted == {"x"}


def test_a_magic_is_found_under_any_name_of_the_shell() -> None:
    """A shell kept in a variable runs magics just as well."""
    assert words(analyse("ip.run_line_magic('time', 'f(x)')").read) == "f ip x"


def test_the_cells_line_is_kept_through_the_transformer() -> None:
    """A syntax error below a magic has the line that the user sees."""
    with pytest.raises(SyntaxError) as caught:
        analyse("%time f()\n!ls\nx = = 1\n")
    assert caught.value.lineno == 3
