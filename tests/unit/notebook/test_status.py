"""The status line is one display, updated in place, and does not flicker."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from zerokernel.notebook.receipt import Receipt
from zerokernel.notebook.status import StatusLine, queued_line, running_line


@dataclass
class Publisher:
    """Records what is published."""

    published: list[dict[str, Any]] = field(default_factory=list)

    def publish(self, **message: Any) -> None:
        self.published.append(message)


class Shell:
    """As much of a kernel's shell as the status line uses."""

    def __init__(self) -> None:
        self.display_pub = Publisher()
        self.kernel = object()


class TerminalShell:
    def __init__(self) -> None:
        self.display_pub = Publisher()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(shell: Shell, clock: Clock) -> StatusLine:
    return StatusLine(shell, enabled=True, clock=clock)


def phases(shell: Any) -> list[str]:
    return [m["metadata"]["zerokernel"]["phase"] for m in shell.display_pub.published]


def texts(shell: Any) -> list[str]:
    return [m["data"]["text/plain"] for m in shell.display_pub.published]


def test_a_short_cell_shows_only_its_receipt(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """Within the first moments nothing but the receipt appears."""
    line.queued(1, None, "")
    line.starting("half H200")
    clock.now += 0.1
    line.running("half H200", 60, 0.05)
    line.receipt(Receipt(slice="half H200", ran=0.05))
    assert phases(shell) == ["receipt"]


def test_the_line_stands_above_the_cells_output(line: StatusLine, shell: Shell) -> None:
    """A cell that prints at once has its line first; the receipt replaces it there."""
    line.running("half", 60.0, 0.0)
    assert phases(shell) == []
    line.before_output()
    line.before_output()
    line.receipt(Receipt("half", 0.1))
    assert phases(shell) == ["running", "receipt"]
    assert [m["update"] for m in shell.display_pub.published] == [False, True]


def test_the_same_display_is_updated_in_place(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """The first publication makes the display, all later ones update that display."""
    clock.now += 1
    line.queued(2, 8.0, "")
    clock.now += 1
    line.running("half H200", 60, 0)
    line.receipt(Receipt(slice="half H200", ran=1))
    published = shell.display_pub.published
    assert phases(shell) == ["queued", "running", "receipt"]
    assert [m["update"] for m in published] == [False, True, True]
    assert len({m["transient"]["display_id"] for m in published}) == 1


def test_two_lines_are_two_displays(shell: Shell, clock: Clock) -> None:
    """Each cell has a display of its own."""
    for _ in range(2):
        StatusLine(shell, enabled=True, clock=clock).receipt(Receipt(slice="s", ran=1))
    first, second = shell.display_pub.published
    assert first["transient"] != second["transient"]


def test_what_was_held_back_appears_at_the_next_tick(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """A state named too early is shown by tick once its time has come, and due says when."""
    line.queued(3, None, "")
    assert line.due == pytest.approx(0.15)
    line.tick()
    assert phases(shell) == []
    clock.now += 0.15
    line.tick()
    assert phases(shell) == ["queued"]
    assert line.due is None


def test_within_a_phase_the_line_changes_a_few_times_a_second_at_most(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """A caller may tick in a tight loop without flooding the front end."""
    clock.now += 1
    for step in range(100):
        line.running("s", 60, step * 0.01)
        clock.now += 0.01
    assert 1 <= len(shell.display_pub.published) <= 5


def test_an_unchanged_line_is_not_sent_again(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """The same place, told again a second later, is no message."""
    for _ in range(5):
        clock.now += 1
        line.queued(2, None, "")
    assert len(shell.display_pub.published) == 1


def test_a_line_that_would_look_the_same_is_not_sent(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """Ticks that move neither the whole seconds nor the bar cost no message."""
    for tick in range(20):
        clock.now += 0.5
        line.running("s", 600, tick * 0.5)
    assert len(texts(shell)) == len(set(texts(shell))) <= 11


def test_a_phase_change_does_not_wait(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """The throttle holds within a phase only."""
    clock.now += 1
    line.queued(1, None, "")
    line.starting("s")
    line.running("s", 60, 0)
    assert phases(shell) == ["queued", "starting", "running"]


def test_disabled_shows_nothing_at_all(shell: Shell, clock: Clock) -> None:
    """--quiet means: not even the receipt."""
    line = StatusLine(shell, enabled=False, clock=clock)
    clock.now += 5
    line.queued(1, None, "")
    line.running("s", 60, 1)
    line.receipt(Receipt(slice="s", ran=1, notes=("a note",)))
    line.failed("no")
    assert shell.display_pub.published == []


def test_conflicts_are_told_under_quiet(shell: Shell) -> None:
    """What the notebook changed while the cell ran is said even where nothing else is."""
    line = StatusLine(shell, enabled=False)
    line.receipt(Receipt(slice="s", ran=1, notes=("c", "n"), conflicts=("c",)))
    [(data, metadata)] = [(one["data"], one["metadata"]) for one in shell.display_pub.published]
    assert data["text/plain"] == "c"
    assert metadata["zerokernel"] == {"phase": "conflict", "conflicts": ["c"]}


def test_nothing_follows_the_receipt(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """A late tick cannot turn a receipt back into a running line."""
    clock.now += 1
    line.receipt(Receipt(slice="s", ran=1))
    line.running("s", 60, 2)
    line.receipt(Receipt(slice="s", ran=1))
    assert phases(shell) == ["receipt"]


def test_a_failure_replaces_a_line_that_was_seen(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """The display does not go on saying that the cell runs."""
    clock.now += 1
    line.running("s", 60, 0)
    line.failed("the worker was killed")
    assert phases(shell) == ["running", "failed"]
    assert texts(shell)[-1] == "the worker was killed"


def test_a_failure_that_nobody_saw_begin_shows_no_line(line: StatusLine, shell: Shell) -> None:
    """The error message alone is shown where no status line was."""
    line.queued(1, None, "")
    line.failed("refused")
    assert shell.display_pub.published == []


def test_after_clear_output_the_receipt_is_a_new_display(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """The cell's clear_output took the line away: no update of it, and the receipt is not lost."""
    clock.now += 1
    line.running("s", 60, 0)
    line.cleared()
    clock.now += 1
    line.running("s", 60, 1)
    line.receipt(Receipt(slice="s", ran=2))
    assert phases(shell) == ["running", "receipt"]
    assert shell.display_pub.published[-1]["update"] is False


def test_the_publisher_is_looked_up_at_each_publication(
    line: StatusLine, shell: Shell, clock: Clock
) -> None:
    """%%capture replaces the shell's publisher and gets what is shown meanwhile."""
    clock.now += 1
    line.queued(1, None, "")
    outer, shell.display_pub = shell.display_pub, Publisher()
    line.receipt(Receipt(slice="s", ran=1))
    assert len(outer.published) == 1
    assert phases(shell) == ["receipt"]


def test_a_terminal_shows_each_phase_once(clock: Clock) -> None:
    """Where lines cannot be updated, the seconds are not printed line by line."""
    shell = TerminalShell()
    line = StatusLine(shell, enabled=True, clock=clock)
    for second in range(5):
        clock.now += 1
        line.running("s", 60, second)
    line.receipt(Receipt(slice="s", ran=5))
    assert phases(shell) == ["running", "receipt"]


@pytest.mark.parametrize(
    ("place", "starts_in", "reason", "text"),
    [
        (1, None, "", "next in the queue"),
        (1, 8.2, "", "next in the queue · starts in about 8 s"),
        (3, 95.0, "", "place 3 in the queue · starts in about 1 min 35 s"),
        (2, 0.2, "", "place 2 in the queue · starts in about 0 s"),
        (2, -4.0, "", "place 2 in the queue · starts in about 0 s"),
        (2, float("inf"), "", "place 2 in the queue"),
        (2, float("nan"), "late", "place 2 in the queue · late"),
    ],
)
def test_what_a_queued_line_says(
    place: int, starts_in: float | None, reason: str, text: str
) -> None:
    """Place, expected start where one is known, and the reason where one is given."""
    assert queued_line(place, starts_in, reason).text == text


@pytest.mark.parametrize(
    ("limit", "elapsed", "text", "fraction"),
    [
        (60, 0, "running on s · 0 s · 1 min left", 0.0),
        (60, 12.4, "running on s · 12 s · 48 s left", 12.4 / 60),
        (60, 61, "running on s · 1 min 1 s · 0 s left", 61 / 60),
    ],
)
def test_what_a_running_line_says(limit: float, elapsed: float, text: str, fraction: float) -> None:
    """Time used and time left, never below zero."""
    line = running_line("s", limit, elapsed)
    assert line.text == text
    assert line.fraction == pytest.approx(fraction)


def test_figures_are_json_and_complete(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """Programs find phase and figures under one metadata key, as strict JSON."""
    clock.now += 1
    line.queued(2, float("inf"), "why")
    line.starting("s")
    line.running("s", 60, 15)
    line.receipt(
        Receipt(
            slice="s",
            ran=1.5,
            waited=2,
            sent_bytes=10,
            returned_bytes=20,
            total=4,
            worker_only={"gen": "a generator"},
            notes=("n",),
        )
    )
    queued, starting, running, receipt = [
        json.loads(json.dumps(m["metadata"], allow_nan=False))["zerokernel"]
        for m in shell.display_pub.published
    ]
    assert queued == {"phase": "queued", "place": 2, "starts_in": None, "reason": "why"}
    assert starting == {"phase": "starting", "slice": "s"}
    assert running == {
        "phase": "running",
        "slice": "s",
        "limit": 60,
        "elapsed": 15,
        "left": 45,
        "extended": False,
        "note": "",
    }
    assert receipt == {
        "phase": "receipt",
        "slice": "s",
        "ran": 1.5,
        "waited": 2,
        "sent_bytes": 10,
        "returned_bytes": 20,
        "total": 4,
        "worker_only": {"gen": "a generator"},
        "notes": ["n"],
        "conflicts": [],
    }


def test_html_is_escaped_and_self_contained(line: StatusLine, shell: Shell, clock: Clock) -> None:
    """No text from a name or message becomes markup; no script, link or resource is used."""
    clock.now += 1
    line.queued(1, None, "<script>alert(1)</script>")
    line.running("<b>s</b>", 60, 30)
    line.receipt(Receipt(slice="s", ran=1, worker_only={"a<b": "x & y"}, notes=("<i>n</i>",)))
    for message in shell.display_pub.published:
        html = message["data"]["text/html"]
        for forbidden in ("<script", "<b>", "<i>", "a<b", "http", "url(", " on", "src="):
            assert forbidden not in html.replace("running on ", "").replace("ran 1 s on ", "")
    running, receipt = (m["data"]["text/html"] for m in shell.display_pub.published[-2:])
    assert "width:50%" in running
    assert "<details>" in receipt
    assert "x &amp; y" in receipt
