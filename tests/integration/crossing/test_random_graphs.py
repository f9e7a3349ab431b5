import pytest
from graphs import PROGRAM, Differs, Oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = [f"n{i}" for i in range(6)]
number = st.integers(0, 60)
operations = st.lists(st.tuples(st.integers(0, 9), number, number, number), max_size=12)
captured = st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True)
rounds = st.lists(
    st.tuples(st.sampled_from(["gpu", "gpu", "plain"]), captured, operations),
    min_size=1,
    max_size=6,
)
many = settings(
    max_examples=60,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HELPERS = ["mutate", "ops", "names"]


def begin(space, seed):
    exec(PROGRAM, space)
    space.update(names=NAMES, ops=seed)
    exec("mutate(globals(), names, [(0, i, i + 3, i) for i in range(6)] + ops)", space)


def step(pair, local, where, names, ops, commit=True):
    """The same mutation locally and in the worker or the notebook."""
    source = "mutate(globals(), names, ops)"
    pair.namespace.update(names=list(names), ops=ops)
    local.update(names=list(names), ops=ops)
    exec(source, local)
    if where == "plain":
        pair.plain(source)
    else:
        present = [name for name in names if name in pair.namespace]
        pair.cell(source, names=[*HELPERS, *present], commit=commit)


@many
@given(seed=operations, rounds=rounds, remember=st.booleans())
def test_any_mutation_comes_back_into_the_same_objects(detecting_pair, seed, rounds, remember):
    """After each round the notebook is isomorphic to a local run, identity included."""
    pair = detecting_pair
    pair.reset()
    local = {"__name__": "__main__"}
    begin(local, seed)
    begin(pair.namespace, seed)
    oracle = Oracle(remember)
    oracle.compare(local, pair.namespace, NAMES)
    for where, names, ops in rounds:
        step(pair, local, where, names, ops)
        oracle.compare(local, pair.namespace, NAMES)


def test_the_oracle_sees_a_missing_commit(pair):
    """The same comparison fails when the changes are staged but not committed."""
    local = {"__name__": "__main__"}
    begin(local, [])
    begin(pair.namespace, [])
    oracle = Oracle(remember=True)
    oracle.compare(local, pair.namespace, NAMES)
    changes = [(4, i, i, 0) for i in range(6)]
    step(pair, local, "gpu", NAMES, changes, commit=False)
    with pytest.raises(Differs):
        oracle.compare(local, pair.namespace, NAMES)


def test_the_oracle_sees_a_replaced_object(pair):
    """An equal object that is another one is a difference."""
    local = {"__name__": "__main__"}
    begin(local, [])
    begin(pair.namespace, [])
    oracle = Oracle(remember=True)
    local["n0"], pair.namespace["n0"] = [[1], [2]], [[1], [2]]
    oracle.compare(local, pair.namespace, NAMES)
    pair.namespace["n0"] = [[1], [2]]
    with pytest.raises(Differs, match="another object"):
        oracle.compare(local, pair.namespace, NAMES)
