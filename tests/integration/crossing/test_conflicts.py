"""What a thread of the notebook changed while a cell ran is kept, and said."""

import random
import threading
import time

import pytest

from zerokernel.crossing import staging
from zerokernel.errors import CommitFailed

SETUP = (
    "import numpy as np; from collections import deque\n"
    "n = 0; gone = 1; l = [1]; d = {'a': 1}; s = {1}; q = deque([1]); t = [[0]]\n"
    "class C: pass\nc = C(); c.v = 1\n"
    "small = np.zeros(3); big = np.zeros(300_000); b = bytearray(b'abc')\n"
    "import pandas as pd; f = pd.DataFrame({'a': [1, 2]})"
)
CASES = {
    # what the cell does, what a thread does meanwhile, how it looks after, the words of the note
    "name bound by both": ("n = 1", "n = 2", "n", "2", "`n` was bound"),
    "name deleted by the cell": ("del gone", "gone = 5", "gone", "5", "`gone` was bound"),
    "name bound by the cell alone": ("m = 1", "m = 2", "m", "2", "`m` was bound"),
    "name deleted by the thread": (
        "n = 1",
        "del n",
        "globals().get('n', 'unbound')",
        "'unbound'",
        "`n` was deleted",
    ),
    "list": ("l.append(2)", "l.append(3)", "l", "[1, 3]", "list"),
    "dict": ("d['a'] = 2", "d['b'] = 3", "d", "{'a': 1, 'b': 3}", "dict"),
    "set": ("s.add(2)", "s.add(3)", "s", "{1, 3}", "set"),
    "deque": ("q.append(2)", "q.append(3)", "list(q)", "[1, 3]", "deque"),
    "instance": ("c.v = 2", "c.w = 3", "vars(c)", "{'v': 1, 'w': 3}", "C"),
    "bytearray": ("b[0] = 65", "b[1] = 66", "b", "bytearray(b'aBc')", "bytearray"),
    "bytearray that grew": ("b += b'd'", "b[1] = 66", "b", "bytearray(b'aBc')", "bytearray"),
    "bytearray that shrank": ("b.pop()", "b[1] = 66", "b", "bytearray(b'aBc')", "bytearray"),
    "small array": ("small[0] = 1", "small[1] = 2", "small.tolist()", "[0.0, 2.0, 0.0]", "ndarray"),
    "large array, the same place": ("big[0] = 1", "big[0] = 2", "big[0].item()", "2.0", "ndarray"),
    "large array, far apart": ("big[0] = 1", "big[-1] = 2", "big.sum().item()", "2.0", "ndarray"),
    "frame": ("f.loc[0, 'a'] = 5", "f.loc[1, 'a'] = 7", "f.a.tolist()", "[1, 7]", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_notebooks_change_is_kept_and_told(pair, case):
    """Nothing is overwritten, the rest comes home, and the next cell sees the truth."""
    cell, thread, look, expected, words = CASES[case]
    pair.plain(SETUP)
    pair.cell(f"t[0].append(1)\n{cell}", commit=False)
    exec(thread, pair.namespace)  # as a thread does: no cell of the notebook's runs
    done = pair.staged.commit()
    pair.acknowledge()
    assert repr(eval(look, pair.namespace)) == expected
    assert any(words in note and "was kept" in note for note in done.notes), done.notes
    assert pair.namespace["t"] == [[0, 1]]
    pair.cell(f"seen = repr({look})")
    assert pair.namespace["seen"] == expected


def test_a_binding_at_the_address_of_the_one_before_is_kept(pair):
    """A thread's new object may lie where the old one was, of which nothing is left then."""
    pair.plain("n = int('1000001')")
    pair.cell("n = 5", commit=False)
    was = id(pair.namespace["n"])
    del pair.namespace["n"]
    kept = []
    while id(number := int("2000002")) != was and len(kept) < 1000:
        kept.append(number)
    pair.namespace["n"] = number
    done = pair.staged.commit()
    pair.acknowledge()
    assert pair.namespace["n"] == 2000002
    assert any("`n` was bound" in note for note in done.conflicts), done


def test_a_name_that_the_cell_fetches_is_as_it_saw_it(pair):
    """What a thread bound before the cell asked for it is no conflict with what the cell binds."""
    pair.plain("n = [1]; t = [0]")
    asked = pair.kernel.fetch

    def bind_and_fetch(name):
        pair.namespace["n"] = [2]
        return asked(name)

    pair.kernel.fetch = bind_and_fetch
    try:
        done = pair.cell("n = [*n, 3]", names=["t"], fetch=["n"])
    finally:
        del pair.kernel.fetch
    assert (pair.namespace["n"], done.conflicts) == ([2, 3], ())


def test_what_only_a_thread_changed_is_no_conflict(pair):
    """It stays, nothing is said, and the next cell sees it."""
    pair.plain(SETUP)
    pair.cell("t[0].append(1); n", commit=False)
    exec("l.append(3); big[5] = 1; n = 4; d.clear()", pair.namespace)
    assert pair.staged.commit().notes == ()
    pair.acknowledge()
    pair.cell("seen = (l, big[5].item(), n, d)")
    assert pair.namespace["seen"] == ([1, 3], 1.0, 4, {})


@pytest.mark.slow
def test_no_change_of_a_thread_is_lost_while_cells_come_and_go(pair):
    """It may come at any moment of sending and committing; it is there, or the cell's is not."""
    pair.plain("shared = []; lists = [[] for _ in range(300)]")
    shared, done, stop = pair.namespace["shared"], [], threading.Event()

    def change():
        while not stop.is_set():
            shared.append(len(done))
            done.append(len(done))
            time.sleep(random.random() * 0.02)

    thread = threading.Thread(target=change)
    thread.start()
    kept = 0
    try:
        for _ in range(150):
            kept += bool(
                pair.cell("for one in lists: one.append(1)\nshared.append('cell')").conflicts
            )
    finally:
        stop.set()
        thread.join()
    assert [number for number in done if number not in shared] == []
    assert shared.count("cell") == 150 - kept


GROW = {
    "bytearray": ("import numpy as np; b = bytearray(b'abcd')", "b += b'efgh'", "bytes(b)"),
    "bytearray, less": ("import numpy as np; b = bytearray(b'abcd')", "del b[1:]", "bytes(b)"),
    "array": (
        "import array; import numpy as np; b = array.array('i', [1, 2, 3])",
        "b.extend(b)",
        "b.tolist()",
    ),
    "storage": ("import torch; b = torch.ones(3).untyped_storage()", "b.resize_(8)", "list(b)"),
}


@pytest.mark.parametrize("kind", GROW)
def test_a_size_is_given_back_where_nothing_is_written(pair, kind, monkeypatch):
    """Memory that a cell made larger or smaller is as before when the commit fails."""
    if kind == "storage":
        pytest.importorskip("torch")
    setup, cell, look = GROW[kind]
    pair.plain(setup)
    before = eval(look, pair.namespace)
    pair.cell(cell, commit=False)

    calls = []
    real = staging.apply

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == 1:  # the others undo
            raise ValueError("the disk is full")
        real(*arguments)

    monkeypatch.setattr(staging, "apply", fails)
    with pytest.raises(CommitFailed):
        pair.staged.commit()
    assert eval(look, pair.namespace) == before
    monkeypatch.undo()
    pair.cell(f"seen = {look}")
    assert pair.namespace["seen"] == before


@pytest.mark.parametrize("kind", ["bytearray", "bytearray, less", "array"])
def test_memory_that_the_notebook_shows_keeps_its_size(pair, kind):
    """What the cell did else comes home, and a note says which object kept its size, and why."""
    setup, cell, look = GROW[kind]
    pair.plain(f"{setup}; shown = np.frombuffer(b, 'u1'); l = []")
    before = eval(look, pair.namespace)
    done = pair.cell(f"l.append(1); {cell}", names=["b", "l"])
    assert any("shows its memory" in note and "was kept" in note for note in done.notes), done.notes
    assert pair.namespace["l"] == [1]
    pair.cell(f"seen = {look}")
    assert (pair.namespace["seen"], eval(look, pair.namespace)) == (before, before)


@pytest.mark.parametrize("kind", GROW)
def test_a_size_that_the_notebook_changed_crosses_with_new_views(pair, kind):
    """An array over memory that grew or shrank in a plain cell is over it in the worker too."""
    if kind == "storage":
        pytest.importorskip("torch")
    setup, cell, look = GROW[kind]
    pair.plain(f"import numpy as np\n{setup}\nshow = np.frombuffer\n")
    if kind == "storage":
        pair.plain("show = lambda b, kind: torch.tensor([], dtype=torch.uint8).set_(b)")
    pair.plain("old = show(b, 'u1')")
    pair.cell("")
    pair.plain(f"del old\n{cell}\nnew = show(b, 'u1')")
    pair.cell("new[0] = 77")
    assert pair.namespace["new"][0] == 77
    pair.cell(f"seen = {look}, new.shape")
    assert pair.namespace["seen"] == (eval(look, pair.namespace), pair.namespace["new"].shape)
