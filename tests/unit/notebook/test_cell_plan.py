"""The plan of a cell as it is shown: names, bytes, room and the wait."""

import json

import pytest

from zerokernel.crossing.forecast import Forecast, Passage
from zerokernel.notebook.cell_plan import CellPlan

FORECAST = Forecast(
    (
        Passage("data", "ndarray", 8_000_000, 8_000_000),
        Passage("model", "Linear", 21, 2_000_000),
        Passage("gate", "socket", 0, 0, "`gate` cannot travel: it is a socket"),
    ),
    500_000,
)


def one_slice(state="free", size="half", memory=70_000_000_000, remaining=None):
    known = {"size": size, "state": state, "memory": memory, "remaining": remaining}
    return {**known, "capability": [9, 0]}


def plan(slices, queue=(), wanted="", forecast=FORECAST, memory=0, capability=()):
    broker = {"sizes": ["half", "whole"], "slices": slices, "queue": list(queue)}
    return CellPlan(forecast, wanted, 90.0, "me", broker, memory, capability)


def test_a_row_says_what_goes_and_what_is_there():
    """Bytes that travel, names that the worker has, and what cannot travel."""
    rows = {row[0]: row[2:] for row in plan([one_slice()]).rows()}
    assert rows["data"] == ("8 MB", "8 MB", "")
    assert rows["model"] == ("2 MB", "", "is there")
    assert rows["gate"] == ("", "", "cannot travel")


def test_the_sums_count_changes():
    """What changed in what is there is named beside the sum."""
    first = plan([one_slice()]).remarks()[0]
    assert "8.5 MB of 10 MB would go over" in first
    assert "500 kB" in first


def test_the_quota_is_told_and_what_it_does_to_the_limit():
    """Where there is one; of a limit that is more it says what becomes of it."""
    forecast = plan([one_slice()]).forecast
    allowance = {"quota": 300.0, "left": 200.0, "resets_in": None, "tier": "free"}
    known = {"sizes": ["half"], "slices": [one_slice()], "queue": [], "allowance": allowance}
    enough = CellPlan(forecast, "", 90.0, "me", known)
    assert enough.remarks()[-1] == "your quota: 3 min 20 s of 5 min left"
    less = CellPlan(forecast, "", 250.0, "me", known)
    assert "the limit shrinks" in less.remarks()[-1]
    assert less.metadata()["zerokernel"]["allowance"] == allowance


@pytest.mark.parametrize(
    ("slices", "queue", "said"),
    [
        ([one_slice()], [], "it would start at once"),
        ([one_slice("parked")], [], "it would start at once"),
        ([one_slice("leased", remaining=40.0)], [], "0 requests ahead; the next slice is free"),
        ([one_slice()], [{"size": "half"}], "1 request ahead"),
        ([one_slice(size="whole")], [], "no slice of this size is in service"),
        ([one_slice("set aside")], [], "no slice of this size is in service"),
    ],
)
def test_the_start(slices, queue, said):
    """As the slices of its size and the queue are now."""
    assert said in plan(slices, queue).remarks()[-1]


def test_another_size_is_proposed_where_this_has_no_room():
    """The smallest that has room; none is taken for the user."""
    large = Forecast((Passage("data", "ndarray", 1, 100_000_000_000),), 0)
    slices = [one_slice(), one_slice(size="whole", memory=140_000_000_000)]
    assert any("--size whole" in line for line in plan(slices, forecast=large).remarks())
    assert any("no size here" in line for line in plan(slices[:1], forecast=large).remarks())
    assert not any("more than" in line for line in plan(slices).remarks())


def test_text_html_and_figures():
    """Both representations name all; the metadata are JSON."""
    shown = plan([one_slice()])
    for kind in ("text/plain", "text/html"):
        assert all(name in shown.data()[kind] for name in ("data", "model", "gate"))
    assert json.loads(json.dumps(shown.metadata()))["zerokernel"]["travels"] == 8_500_021


def test_a_cell_that_uses_nothing():
    """There is no table then."""
    shown = plan([one_slice()], forecast=Forecast((), 0))
    assert "it uses nothing of the notebook" in shown.data()["text/plain"]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"memory": 60_000_000_000}, "2 s at the latest"),
        ({"memory": 80_000_000_000}, "it would start at once"),
        ({"memory": 200_000_000_000}, "no slice of this size"),
        ({"capability": (9, 0), "wanted": "whole"}, "it would start at once"),
        ({"capability": (10, 0)}, "no slice of this size"),
    ],
)
def test_a_wish_means_the_smallest_slice_that_has_it(wish, said):
    """Memory and capability choose the size, as the broker will."""
    slices = [one_slice("leased", remaining=2.0), one_slice(size="whole", memory=140_000_000_000)]
    assert said in plan(slices, **wish).remarks()[-1]
