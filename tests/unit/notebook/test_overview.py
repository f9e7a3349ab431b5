"""`%gpu` shows slices, queue and this notebook's worker from the broker's status."""

import json

from zerokernel.notebook.overview import Overview

BROKER = {
    "version": "0.1.0",
    "pid": 4242,
    "uptime": 125.0,
    "slices": [
        {
            "name": "a",
            "display": "half H200 · 70 GB",
            "size": "3g.71gb",
            "memory": 70_000_000_000,
            "simulated": False,
            "state": "leased",
            "reason": "",
            "session": "me",
            "session_name": "train.ipynb",
            "remaining": 42.3,
        },
        {
            "name": "simulated 1",
            "display": "simulated 1",
            "size": "simulated",
            "memory": 8_000_000_000,
            "simulated": True,
            "state": "set aside",
            "reason": "its worker does not end",
            "session": "other",
            "session_name": "<b>other</b>.ipynb",
            "remaining": None,
        },
    ],
    "queue": [
        {"session": "me", "session_name": "x", "place": 1, "duration": 90.0, "starts_in": 4.0},
        {"session": "z", "session_name": "", "place": 2, "duration": 60.0, "starts_in": None},
    ],
    "sessions": [
        {"session": "me", "worker": {"process": 77, "state": "parked", "parked_for": 12.0}}
    ],
}


def test_the_whole_picture_as_text() -> None:
    """A reader of text sees every slice, who holds it, the queue and the own worker."""
    text = Overview(session="me", broker=BROKER).data()["text/plain"]
    assert text.splitlines() == [
        "zerokernel · broker 0.1.0 · process 4242 · up 2 min 5 s",
        "slice              size       state                                "
        "notebook            left",
        "half H200 · 70 GB  3g.71gb    leased                               "
        "this notebook       42.3 s",
        "simulated 1        simulated  set aside (its worker does not end)  <b>other</b>.ipynb",
        "place 1: this notebook · asks for 1 min 30 s · starts in about 4 s",
        "place 2: another notebook · asks for 1 min",
        "this notebook's worker: process 77, parked for 12 s",
    ]


def test_names_do_not_become_markup() -> None:
    """Another notebook's name is somebody else's text: escaped in HTML."""
    html = Overview(session="me", broker=BROKER).data()["text/html"]
    assert "<b>" not in html
    assert "&lt;b&gt;other" in html


def test_an_idle_machine() -> None:
    """Nobody waits, and the notebook has no worker yet."""
    text = Overview(session="me", broker={"slices": [], "queue": [], "sessions": []}).data()
    assert text["text/plain"].splitlines() == [
        "zerokernel",
        "nobody waits",
        "this notebook has no worker; its next GPU cell starts one",
    ]


def test_programs_get_all_of_it() -> None:
    """The metadata holds the broker's own status as JSON."""
    metadata = Overview(session="me", broker=BROKER).metadata()
    assert json.loads(json.dumps(metadata))["zerokernel"]["broker"] == BROKER


def test_a_quota_is_shown_where_there_is_one() -> None:
    """What is left, of how much, and when all of it is there again."""
    broker = {"allowance": {"quota": 300.0, "left": 40.0, "resets_in": 7200.0, "tier": "free"}}
    line = "your quota: 40 s of 5 min left, all of it again in 2 h"
    assert Overview("a", broker).remarks()[-1] == line
    broker["allowance"]["resets_in"] = None
    assert Overview("a", broker).remarks()[-1] == "your quota: 40 s of 5 min left"
    without = {"allowance": {"quota": None, "left": None, "resets_in": None, "tier": ""}}
    assert not any("quota" in line for line in Overview("a", without).remarks())
