"""What must hold when something goes wrong, and what must not be lost."""

import threading

import pytest
from second_interpreter import send

from zerokernel.crossing import contents, staging
from zerokernel.errors import CommitFailed


def test_staging_touches_nothing(pair):
    """Before the commit the notebook is as it was."""
    pair.plain("x = [1]; d = {'a': x}")
    pair.cell("x.append(2); d.clear(); y = 1", commit=False)
    assert (pair.namespace["x"], list(pair.namespace["d"]), "y" in pair.namespace) == (
        [1],
        ["a"],
        False,
    )


def test_cell_that_was_not_committed_does_not_show_later(pair):
    """After a lost return the worker works with the notebook's state again."""
    pair.plain("import numpy as np\nx = [1]; d = {'a': x}; a = np.zeros(100_000)")
    pair.cell("n = len(x)")
    pair.cell("x.append(2); d.clear(); a += 1", commit=False)
    pair.cell("seen = (list(x), list(d), a.sum(), d['a'] is x)")
    assert pair.namespace["seen"] == ([1], ["a"], 0.0, True)


def test_failed_commit_is_undone(pair, monkeypatch):
    """When a write fails, what had been written before it is as it was."""
    pair.plain(
        "import numpy as np\nx = [1]; d = {'x': x}; a = np.zeros(100_000); o = type('T', (), {})()"
    )
    before = pair.namespace["d"]["x"]
    pair.cell("x.append(2); a += 1; d['y'] = 1; o.v = x; z = 1; del x", commit=False)
    real = staging.apply

    def failing(item, form, state, owners):
        if item is pair.namespace["d"] and "y" in str(state):
            raise MemoryError
        real(item, form, state, owners)

    monkeypatch.setattr(staging, "apply", failing)
    with pytest.raises(CommitFailed):
        pair.staged.commit()
    space = pair.namespace
    assert (space["x"], space["d"], space["a"].sum(), vars(space["o"])) == ([1], {"x": [1]}, 0, {})
    assert space["x"] is before
    assert "z" not in space
    monkeypatch.undo()
    pair.cell("x.append(5)")
    assert space["x"] == [1, 5]


def test_change_meanwhile_in_the_notebook_is_kept_and_told(pair):
    """An object and a name that changed on both sides keep the notebook's version."""
    pair.plain("x = [1]; n = 1; m = 1")
    pair.cell("x.append(2); n = 2; m = 2", commit=False)
    pair.namespace["x"].append("mine")
    pair.namespace["n"] = "mine"
    done = pair.staged.commit()
    assert (pair.namespace["x"], pair.namespace["n"], pair.namespace["m"]) == (
        [1, "mine"],
        "mine",
        2,
    )
    assert len(done.notes) == 2
    pair.kernel.forget_worker()


def test_absent_name_does_not_keep_the_others(pair):
    """Each offender is named by its path; everything else travels."""
    pair.namespace.update(
        lock={"deep": [threading.Lock()]},
        file=open("/dev/null"),  # noqa: SIM115 - an open file is what is tested
        x=[1],
        fn=None,
    )
    pair.plain("def fn(): return lock, x")
    pair.cell("x.append(fn.__name__)")
    assert pair.namespace["x"] == [1, "fn"]
    absent = pair.shipment.absent
    assert sorted(absent) == ["file", "lock"]
    assert "`lock['deep'][0]` is a lock" in absent["lock"]
    assert "open it inside the cell" in absent["file"]
    pair.namespace["file"].close()


def test_change_that_cannot_return_keeps_the_old_state_and_is_listed(pair):
    """The notebook keeps what it had, the worker what it made, and the rest returns."""
    pair.plain("x = {'a': [1]}; y = []")
    done = pair.cell("x['a'].append((i for i in 'ab')); y.append(1)")
    assert (pair.namespace["x"], pair.namespace["y"]) == ({"a": [1]}, [1])
    assert "x['a'][1]" in next(iter(done.worker_only.values()))
    pair.cell("z = next(x['a'][1]); x['a'].pop()")
    assert (pair.namespace["z"], pair.namespace["x"]) == ("a", {"a": [1]})


def test_worker_only_name_replaces_the_old_binding(pair):
    """A name that now stands for something worker-only is unbound, and gone once rebound."""
    pair.plain("x = 5")
    done = pair.cell("x = (i for i in range(3))")
    assert "x" not in pair.namespace
    assert "x" in done.worker_only
    pair.cell("a = next(x)", names=[])
    assert pair.namespace["a"] == 0
    pair.plain("x = 7")
    pair.cell("b = x", names=["x"])
    assert pair.namespace["b"] == 7


def test_names_that_were_not_captured_are_not_there(pair):
    """The worker's namespace holds exactly the captures."""
    pair.plain("x = 1; y = [2]")
    pair.cell("pass")
    with pytest.raises(NameError, match="y"):
        pair.cell("y", names=["x"])


def test_fetch_while_the_cell_runs(pair):
    """A fetched name is the same object as what was captured, and its changes come back."""
    pair.plain("inner = [1]; x = {'i': inner}; late = (inner, [2])")
    pair.cell(
        "late[0].append(late[1]); late[1].append(x['i'] is late[0])", names=["x"], fetch=["late"]
    )
    assert pair.namespace["late"] == ([1, [2, True]], [2, True])
    assert pair.namespace["late"][0] is pair.namespace["inner"]


def test_fetch_does_not_undo_what_the_cell_did(pair):
    """A change of the cell before the fetch survives it."""
    pair.plain("x = [1]; late = [x]")
    pair.cell("n = 1", names=["x", "late"])
    pair.plain("late.append(2)")
    pair.cell("x.append(late)", names=["x"], fetch=["late"])
    assert pair.namespace["x"][1] is pair.namespace["late"]
    assert pair.namespace["late"] == [pair.namespace["x"], 2]


def test_fetch_of_an_unknown_name(pair):
    """A name that the notebook does not have is a KeyError."""
    with pytest.raises(KeyError):
        pair.kernel.fetch("nothing")


def test_change_of_an_object_out_of_reach_is_sent_when_it_is_captured(pair):
    """What changed in the notebook is not forgotten while other names are captured."""
    pair.plain("x = [1]; y = [1]")
    pair.cell("pass")
    pair.plain("y.append(2)")
    pair.cell("x.append(0)", names=["x"])
    pair.cell("n = len(y)", names=["y"])
    assert pair.namespace["n"] == 2


def test_new_worker_gets_everything(pair):
    """After the loss of the worker the next shipment is complete."""
    pair.plain("x = [1]")
    pair.cell("x.append(2)")
    objects, kernel = dict(pair.namespace), pair.kernel
    pair.reset()
    pair.namespace.update(objects)
    kernel.forget_worker()
    pair.kernel = kernel
    pair.cell("x.append(3)", names=["x"])
    assert objects["x"] == [1, 2, 3]


def test_float_that_takes_the_address_of_another_is_a_change(pair):
    """New atoms at old addresses are not taken for the old ones."""
    pair.plain("x = [float(i) for i in range(1000)]")
    pair.cell("pass")
    for round_ in range(5):
        pair.plain("x[:] = [v + 1 for v in x]")
        pair.cell("s = sum(x)")
        assert pair.namespace["s"] == sum(range(1000)) + 1000 * (round_ + 1)


def test_instance_that_takes_the_address_of_another_is_a_change(pair):
    """An instance that died and one that took its place are told apart."""
    pair.plain("class A:\n    def __init__(self, v): self.v = v\nx = [A(0)]")
    pair.cell("pass")
    for value in range(1, 6):
        pair.plain(f"x.clear(); x.append(A({value}))")
        pair.cell("s = x[0].v")
        assert pair.namespace["s"] == value


def test_redefined_class_and_function(pair):
    """After the class cell ran again, old instances keep the old class on both sides."""
    pair.plain("class A:\n    def f(self): return 1\na = A()")
    pair.cell("r = a.f()")
    pair.plain("class A:\n    def f(self): return 2\nb = A()")
    pair.cell("r = (a.f(), b.f(), type(a) is type(b), isinstance(b, A)); c = A()")
    assert pair.namespace["r"] == (1, 2, False, True)
    assert type(pair.namespace["c"]) is pair.namespace["A"]


def test_function_defined_in_the_cell_lives_in_the_notebook(pair):
    """A function and a class that a GPU cell defines work in later plain cells."""
    pair.cell("n = 1\ndef f(): return n\nclass A:\n    def g(self): return f()")
    pair.plain("n = 5; r = A().g()")
    assert pair.namespace["r"] == 5
    assert pair.namespace["f"].__globals__ is pair.namespace


def test_names_that_a_captured_method_reads_travel_too(pair):
    """What the object's functions read joins the captures, also when nothing changed."""
    pair.plain("k = 3\ndef helper(): return k\nclass A:\n    def m(self): return helper()\na = A()")
    pair.cell("r = a.m()", names=["a"])
    pair.cell("r2 = a.m()", names=["a"])
    assert (pair.namespace["r"], pair.namespace["r2"]) == (3, 3)


def test_exception_of_a_notebook_class_with_cause(pair):
    """Type identity, attributes and cause of an error survive the way home."""
    pair.plain(
        "class Mine(Exception):\n    def __init__(self, a, b): super().__init__(a); self.b = b"
    )
    with pytest.raises(Exception, match="msg") as caught:
        pair.cell("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise Mine('msg', 7) from e")
    assert type(caught.value) is pair.namespace["Mine"]
    assert (caught.value.b, type(caught.value.__cause__)) == (7, ZeroDivisionError)


def test_names_are_in_the_order_of_a_plain_cell(pair):
    """A name that is deleted and bound again is the last one, new names come after it."""
    pair.plain("a = 1; b = [2]; c = 3; d = 4")
    source = "e = 0; del b; b = [1]; a = 5; f = 1; del d"
    local = {"a": 1, "b": [2], "c": 3, "d": 4}
    exec(source, {}, local)
    pair.cell(source)
    assert [name for name in pair.namespace if name in local] == list(local)


def test_streams_do_not_get_attributes(pair):
    """Looking at an object leaves no trace in it."""
    pair.plain("import io; x = io.BytesIO(b'abc')")
    pair.cell("x.write(b'd')")
    assert pair.namespace["x"].__getstate__()[2] is None


def test_replaced_object_that_changed_on_both_sides_travels_again(pair):
    """An object that can only be replaced, and was kept here, is whole in the next cell."""
    pair.plain("e = enumerate('abcd'); keep = [e]")
    pair.cell("n = 1")
    pair.cell("next(e)", commit=False)
    next(pair.namespace["e"])
    next(pair.namespace["e"])
    notes = pair.staged.commit().notes
    assert len(notes) == 2  # the iterator in it is one that can be written
    send(pair.stream, {"committed": True})
    pair.cell("same = keep[0] is e; n = next(e)")
    assert (pair.namespace["n"], pair.namespace["same"]) == ((2, "c"), True)


def test_buffer_that_no_cell_uses_is_neither_hashed_nor_sent(pair, monkeypatch):
    """What changed here travels with the first cell that uses it, and costs nothing before."""
    pair.plain("import numpy as np\na = np.zeros(500_000); d = {'deep': [a]}; x = [1]")
    pair.cell("n = d['deep'][0].sum()", names=["d"])
    pair.namespace["a"][5] += 500_000
    hashed = []
    for name in ("digests", "_hash"):
        real = getattr(contents, name)
        monkeypatch.setattr(contents, name, lambda *args, r=real: hashed.append(args) or r(*args))
    pair.cell("x.append(2)", names=["x"])
    assert hashed == []
    assert pair.shipment.byte_count < 1000
    pair.cell("n = d['deep'][0].sum()", names=["d"])
    assert pair.namespace["n"] == 500_000


def test_buffer_that_a_function_reads_is_looked_at(pair):
    """What only a notebook function reads travels as it is now."""
    pair.plain("import numpy as np\na = np.zeros(500_000)\ndef total(): return a.sum()")
    pair.cell("n = total()", names=["total"])
    pair.namespace["a"] += 1
    pair.cell("n = total(); a[0] += 5", names=["total"])
    assert (pair.namespace["n"], pair.namespace["a"][0]) == (500_000, 6)


def test_fetch_in_a_cell_without_captures_brings_what_is_now(pair):
    """A cell that captures nothing and fetches a known object sees its present state."""
    pair.plain("import numpy as np\nx = [1]; a = np.zeros(500_000); d = {'a': a, 'x': x}")
    pair.cell("n = len(d)")
    pair.plain("x.append(2); a += 1")
    pair.cell("n = (len(d['x']), d['a'].sum()); d['x'].append(3)", names=[], fetch=["d"])
    assert (pair.namespace["n"], pair.namespace["x"]) == ((2, 500_000.0), [1, 2, 3])


def test_known_object_that_a_library_kept_comes_back_changed(pair):
    """A cell without captures that gets hold of a known object sends its changes too."""
    pair.plain("x = [1]")
    pair.cell("import builtins; builtins.kept = x")
    pair.cell("import builtins; builtins.kept.append(2); y = builtins.kept", names=[])
    assert pair.namespace["y"] is pair.namespace["x"]
    assert pair.namespace["x"] == [1, 2]
    pair.cell("import builtins; builtins.kept.append(3)", names=[])
    pair.cell("n = len(x); del builtins.kept")
    assert (pair.namespace["n"], pair.namespace["x"]) == (3, [1, 2, 3])


def test_large_shipment_is_noted_when_there_is_time(pair):
    """Whether `settle` is called or not, what was sent is known afterwards."""
    for settle in (True, False):
        pair.namespace["big"] = [[i] for i in range(60_000)]
        before = pair.kernel.ship(["big"])
        if settle:
            pair.kernel.settle()
        pair.kernel.forget_worker()
        pair.reset_worker()
        assert before.object_count > 60_000
        pair.cell("big[7].append(1)")
        assert pair.namespace["big"][7] == [7, 1]
        pair.cell("n = len(big)")
        assert pair.shipment.byte_count < 1000


def test_chain_that_is_too_long_for_pickle_is_named(pair):
    """A linked list of ten thousand nodes stays where it is, and the message says why."""
    chain = (
        "class N: pass\n{0} = n = N()\nfor i in range(10_000):\n    n.next = N(); n = n.next\ndel n"
    )
    pair.plain(chain.format("head") + "\nx = [1]")
    done = pair.cell("x.append(2)\n" + chain.format("mine"))
    assert pair.namespace["x"] == [1, 2]
    for message in (pair.shipment.absent["head"], done.worker_only["mine"]):
        assert "recursion" in message
        assert len(message) < 300


def test_a_commit_after_the_worker_was_forgotten_is_refused(pair):
    """Rather than to leave out, silently, what cannot be matched with the notebook's objects."""
    pair.plain("x = [1]")
    pair.cell("x.append(2); y = 1", commit=False)
    staged = pair.staged
    pair.kernel.forget_worker()
    with pytest.raises(CommitFailed, match="cannot be matched"):
        staged.commit()
    assert (pair.namespace["x"], "y" in pair.namespace) == ([1], False)
