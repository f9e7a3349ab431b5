"""What `%gpu why` says, for each thing that may become of a cell."""

from __future__ import annotations

import pytest

from zerokernel.notebook.story import Story
from zerokernel.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def story(clock: FakeClock) -> Story:
    return Story(7, clock)


def test_while_it_is_packed(story: Story, clock: FakeClock) -> None:
    """Before the broker has answered."""
    clock.advance(3)
    assert story.tell() == "Cell In[7] is being packed, for 3 s now."


def test_while_it_waits(story: Story) -> None:
    """Place, expected start and reason are the broker's latest."""
    story.queued(2, 40.0, "first come, first served: 1 before you")
    story.queued(1, 12.0, "next: simulated 1 is used by 'a.ipynb'")
    assert story.tell() == (
        "Cell In[7] waits at place 1, and starts in about 12 s: "
        "next: simulated 1 is used by 'a.ipynb'."
    )


def test_while_it_is_on_its_way_and_while_it_runs(story: Story, clock: FakeClock) -> None:
    """The slice has a name; a running cell has a time."""
    story.prepared()
    story.granted("half H200", 0.0)
    assert "has half H200" in story.tell()
    story.started(0.1, 0.2)
    clock.advance(65)
    assert "runs, for 1 min 5 s now" in story.tell()


def test_where_the_time_of_a_slow_cell_went(story: Story, clock: FakeClock) -> None:
    """The longest part first, with what it was for; parts that are next to nothing are left out."""
    story.queued(1, None, "next: x is used by 'a'")
    clock.advance(2)
    story.prepared()
    clock.advance(5)
    story.granted("half H200", 6.5)
    clock.advance(1.5)
    story.started(0.5, 0.25)
    clock.advance(4)
    story.returned(3.0)
    story.ended(sent=2_000_000, returned=10)
    assert story.tell().splitlines() == [
        "Cell In[7] took 12.5 s.",
        "  6.5 s in the queue meanwhile and after (next: x is used by 'a')",
        "  3 s running",
        "  2 s packing what it uses, and for a worker to start",
        "  1 s bringing 10 B home",
        "  750 ms until all 2 MB were there",
        "  500 ms opening half H200",
        "  250 ms unpacking what the cell uses, with the imports that this takes",
    ]


def test_why_it_failed(story: Story, clock: FakeClock) -> None:
    """A refusal or a loss is told with its whole message."""
    clock.advance(1)
    story.ended(error="UnknownSize: There is no slice of that size.")
    assert (
        story.tell() == "Cell In[7] failed after 1 s: UnknownSize: There is no slice of that size."
    )


def test_a_broker_that_was_lost_meanwhile_is_told(story: Story) -> None:
    """It may be why the cell was slow."""
    story.broker_replaced()
    story.ended()
    assert "broker was lost meanwhile" in story.tell()
