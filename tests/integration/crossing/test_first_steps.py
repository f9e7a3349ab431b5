import numpy as np
import pytest


def test_names_bound_and_deleted_come_back(pair):
    """A name that the cell binds is bound in the notebook, one that it deletes is gone."""
    pair.namespace.update(x=1, y=[2])
    done = pair.cell("z = x + y[0]; del x")
    assert (pair.namespace["z"], "x" in pair.namespace) == (3, False)
    assert (done.bound, done.deleted) == (("z",), ("x",))


def test_change_lands_in_the_same_object(pair):
    """A list changed in place is the same list for every other reference."""
    inner = [1]
    pair.namespace.update(a=inner, b={"k": inner})
    keep = inner
    pair.cell("a.append(b); b['n'] = a")
    assert pair.namespace["a"] is keep
    assert keep[1] is pair.namespace["b"]
    assert pair.namespace["b"]["n"] is keep


def test_second_cell_sends_only_tokens(pair):
    """What did not change does not travel again."""
    pair.namespace["big"] = [[i, str(i)] for i in range(10_000)]
    pair.cell("n = len(big)")
    pair.cell("m = big[5]")
    assert pair.shipment.byte_count < 500
    assert pair.namespace["m"] is pair.namespace["big"][5]


def test_notebook_function_and_class(pair):
    """Functions read and write the session's namespace, classes keep one identity."""
    pair.plain("n = 0\ndef bump():\n    global n\n    n += 1\n    return n")
    pair.plain(
        "class A:\n    def __init__(self, v): self.v = v\n    def get(self): return self.v + n"
    )
    pair.plain("a = A(1)")
    pair.cell("bump(); b = A(a.get()); a.v = b", names=["bump", "a", "A"])
    assert pair.namespace["n"] == 1
    assert type(pair.namespace["b"]) is pair.namespace["A"]
    assert pair.namespace["a"].v is pair.namespace["b"]
    assert pair.namespace["b"].v == 2


def test_array_and_views(pair):
    """An array changed through a view is changed in the notebook's own memory."""
    a = np.arange(200_000.0)
    pair.namespace.update(a=a, v=a[10:20], r=a[::-2])
    pair.cell("v[0] = -1; r[0] = 5; s = v.sum(); w = a[3:5]")
    assert a[10] == -1
    assert a[-1] == 5
    assert pair.namespace["w"].base is a
    pair.namespace["w"][0] = 77
    pair.cell("assert a[3] == 77")
    assert pair.shipment.byte_count < 1_100_000


def test_error_comes_home_with_what_was_done_before(pair):
    """A cell that raises leaves what it had bound and changed."""
    pair.namespace["xs"] = []
    with pytest.raises(KeyError, match="nope"):
        pair.cell("xs.append(1)\nraise KeyError('nope')")
    assert pair.namespace["xs"] == [1]


def test_worker_only_and_absent(pair):
    """A generator stays in the worker and is usable there; one of the notebook is absent."""
    pair.namespace.update(g=(i for i in range(3)), x=1)
    done = pair.cell("h = (i for i in range(5)); y = x + 1")
    assert "generator" in pair.shipment.absent["g"]
    assert "generator" in done.worker_only["h"]
    assert "h" not in pair.namespace
    assert pair.namespace["y"] == 2
    pair.cell("z = next(h) + next(h)", names=["x"])
    assert pair.namespace["z"] == 1
