import random
from collections.abc import Sequence
from typing import Any

import pytest

from zerokernel.worker.cuts import OutputLimits, size_text
from zerokernel.worker.held import Held, Shown, first_bytes, last_bytes, text_size
from zerokernel.worker.limiter import OutputLimiter
from zerokernel.worker.updates import BURST, Updates

LIMITS = OutputLimits(output_bytes=8000, output_messages=80, output_display_bytes=80_000)
Message = tuple[str, dict[str, Any]]


class Cell:
    """A cell's output, its limiter, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: list[Message] = []
        self.limiter = OutputLimiter(self._see, lambda: self.now)
        self.limiter.begin(LIMITS)

    def _see(
        self, kind: str, content: dict[str, Any], _: dict[str, Any], __: Sequence[Any]
    ) -> None:
        self.seen.append((kind, content))

    def write(self, text: str, name: str = "stdout") -> None:
        self.limiter.take("stream", {"name": name, "text": text}, {}, ())

    def show(self, value: str, kind: str = "display_data", display_id: str | None = None) -> None:
        transient = {} if display_id is None else {"display_id": display_id}
        content = {"data": {"text/plain": value}, "metadata": {}, "transient": transient}
        self.limiter.take(kind, content, {}, ())

    def clear(self, wait: bool) -> None:
        self.limiter.take("clear_output", {"wait": wait}, {}, ())

    def finish(self) -> None:
        self.limiter.finish()

    def own(self) -> list[dict[str, Any]]:
        return [c["metadata"]["zerokernel"] for c in self._own()]

    def said(self) -> list[str]:
        return [content["data"]["text/plain"] for content in self._own()]

    def _own(self) -> list[dict[str, Any]]:
        return [c for _, c in self.seen if "zerokernel" in c.get("metadata", {})]

    def shown(self) -> list[str]:
        """The cell's own output, in order."""
        return [
            content["text"] if kind == "stream" else content["data"]["text/plain"]
            for kind, content in self.seen
            if kind in ("stream", "display_data", "execute_result")
            and "zerokernel" not in content.get("metadata", {})
        ]

    def text(self) -> str:
        return "".join(content["text"] for kind, content in self.seen if kind == "stream")


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_within_the_limits_nothing_changes(cell: Cell) -> None:
    """Everything passes as it comes, at once, and the end adds nothing."""
    cell.write("a")
    cell.show("b")
    cell.write("c", "stderr")
    cell.show("d", "execute_result")
    assert cell.shown() == ["a", "b", "c", "d"]
    cell.finish()
    assert len(cell.seen) == 4


@pytest.mark.parametrize("piece", ["0123456789", "ab\n", "ä€𝄞x", "z" * 50_000])
def test_of_too_much_text_first_and_last_are_shown(cell: Cell, piece: str) -> None:
    """What is shown is a beginning and an end of what was printed, and the note adds up."""
    whole = piece * (100_000 // len(piece))
    for start in range(0, len(whole), 777):
        cell.write(whole[start : start + 777])
    live = cell.text()
    assert whole.startswith(live)
    cell.finish()
    tail = cell.text()[len(live) :]
    assert tail
    assert whole.endswith(tail)
    assert LIMITS.output_bytes // 2 < text_size(cell.text()) <= LIMITS.output_bytes
    (*_, gap, last) = cell.own()
    assert (gap["phase"], last["phase"]) == ("gap", "cut")
    assert last["printed_bytes"] == len(whole.encode())
    assert last["cut_bytes"] == len(whole.encode()) - len(cell.text().encode()) == gap["cut_bytes"]
    assert f"printed {size_text(len(whole.encode()))}" in cell.said()[-1]
    assert cell.seen[-1][1]["metadata"] == {"zerokernel": last}


def test_one_enormous_line_is_cut_like_many(cell: Cell) -> None:
    """A single write beyond every limit shows its first and last part."""
    whole = "<" + "-" * 1_000_000 + ">"
    cell.write(whole)
    cell.finish()
    assert cell.text()[0] == "<"
    assert cell.text()[-1] == ">"
    assert cell.own()[-1]["cut_bytes"] == len(whole) - len(cell.text())


def test_a_little_too_much_is_only_held_until_the_end(cell: Cell) -> None:
    """What fits into first and last part is shown whole, and nothing claims to be cut."""
    whole = "x" * (LIMITS.head + LIMITS.tail)
    cell.write(whole)
    cell.finish()
    assert cell.text() == whole
    assert cell.own() == []


def test_of_too_many_displays_first_and_last_are_shown(cell: Cell) -> None:
    """The last is always there, and the note counts those that are missing."""
    for number in range(1000):
        cell.show(str(number))
    assert len(cell.shown()) == 70
    cell.show("result", "execute_result")
    cell.finish()
    expected = [*map(str, range(70)), *map(str, range(991, 1000)), "result"]
    assert cell.shown() == expected
    assert cell.own()[-1]["cut_displays"] == 1001 - len(expected)
    assert "made 1,001 displays; shown are the first 70 and the last 10" in cell.said()[-1]


def test_displays_are_bounded_in_size_too(cell: Cell) -> None:
    """A few large displays are cut as many small ones are."""
    for _ in range(20):
        cell.show("x" * 9000)
    cell.finish()
    assert sum(map(len, cell.shown())) <= LIMITS.output_display_bytes
    assert cell.own()[-1]["cut_displays"] == 20 - len(cell.shown())


def test_order_is_kept_whatever_is_cut(cell: Cell) -> None:
    """Random texts and displays: what is shown is in the order in which it was made."""
    generator = random.Random(5)
    for number in range(3000):
        word = f"{number:06d} "
        if generator.random() < 0.05:
            cell.show(word)
        else:
            cell.write(word * generator.randrange(1, 4), generator.choice(["stdout", "stderr"]))
    cell.finish()
    words = "".join(cell.shown()).replace(" ", "")
    assert cell.own()
    # A cut may fall into a word; whole words are all but a few.
    numbers = [int(word) for part in cell.shown() for word in part.split(" ") if len(word) == 6]
    assert len(numbers) > len(words) // 6 - 200
    assert numbers == sorted(numbers)


def test_text_before_a_display_is_shown_though_text_is_cut(cell: Cell) -> None:
    """Once text is cut, a display still passes at once, with the lines right before it."""
    cell.write("x" * 100_000 + "title")
    cell.show("plot")
    assert cell.shown()[-1] == "plot"
    assert cell.shown()[-2].endswith("title")
    cell.write("end")
    cell.finish()
    assert cell.shown()[-1] == "end"
    assert cell.own()[-1]["printed_bytes"] - cell.own()[-1]["cut_bytes"] == len(cell.text())


def test_a_cell_that_prints_unseen_says_so(cell: Cell) -> None:
    """While text is cut, the gap's display is updated once a second with the last line."""
    cell.write("x" * 10_000)
    said = len(cell.said())
    for number in range(40):
        cell.now += 0.125
        cell.write(f"step {number}\n")
        cell.limiter.tick()
    assert len(cell.said()) - said == 5
    assert cell.said()[-1].endswith("not shown …\nstep 39")
    assert len({c["transient"]["display_id"] for _, c in cell.seen[1:] if "data" in c}) == 1


def test_clearing_the_output_gives_its_room_back(cell: Cell) -> None:
    """What the cell cleared away is not counted; a loop that clears shows all it shows."""
    for wait in (True, False):
        for number in range(100):
            cell.clear(wait)
            cell.write("x" * 900)
            cell.show(str(number))
    cell.finish()
    assert cell.own() == []
    assert len(cell.text()) == 200 * 900


def test_what_was_held_is_shown_if_nothing_follows_a_waiting_clear(cell: Cell) -> None:
    """clear_output(wait=True) clears only when something follows."""
    cell.write("x" * 10_000 + "end")
    cell.clear(wait=True)
    cell.finish()
    assert cell.text().endswith("end")
    cell.write("x" * 10_000)
    cell.clear(wait=True)
    cell.write("new")
    kinds = [kind for kind, _ in cell.seen]
    assert kinds[-2:] == ["clear_output", "stream"]
    before = len(cell.own())
    cell.finish()
    assert len(cell.own()) == before, "the part that was cut is cleared away"


def test_a_traceback_comes_last(cell: Cell) -> None:
    """An error that ends the cell follows what was held and the note; one within does not."""
    cell.write("x" * 100_000)
    cell.limiter.take("error", {"ename": "first"}, {}, ())
    cell.write("end")
    cell.limiter.take("error", {"ename": "last"}, {}, ())
    cell.finish()
    errors = [content["ename"] for kind, content in cell.seen if kind == "error"]
    assert errors == ["first", "last"]
    assert cell.seen[-1] == ("error", {"ename": "last"})
    assert cell.shown()[-1] == "end"


def test_updates_are_coalesced_and_the_last_is_shown(cell: Cell) -> None:
    """A burst passes, then about twenty a second of each display, and the last one always."""
    for number in range(10_000):
        cell.now += 0.001
        cell.show(str(number), "update_display_data", f"bar {number % 2}")
        cell.limiter.tick()
    cell.finish()
    values = [c["data"]["text/plain"] for kind, c in cell.seen if kind == "update_display_data"]
    assert BURST <= len(values) <= BURST + 2 * 10 * 21
    assert set(values[-2:]) == {"9998", "9999"}


def test_a_display_follows_its_earlier_updates(cell: Cell) -> None:
    """Showing a display again under the same id does not let an older update come after."""
    for number in range(BURST + 5):
        cell.show(str(number), "update_display_data", "one")
    cell.show("again", display_id="one")
    cell.finish()
    assert [c["data"]["text/plain"] for _, c in cell.seen][-2:] == [str(BURST + 4), "again"]


def test_large_updates_come_less_often() -> None:
    """The rate of their bytes is bounded as well."""
    updates = Updates()
    large = Shown("update_display_data", {}, {}, (), 64 << 20)
    assert updates.pass_now("a", large, 1.0)
    assert not updates.pass_now("a", large, 1.5)
    assert updates.take_due(2.9) == []
    assert updates.take_due(3.1) == [large]


def test_messages_of_widgets_always_pass(cell: Cell) -> None:
    """A widget whose messages were dropped would show something wrong."""
    for _ in range(500):
        cell.limiter.take("comm_msg", {"comm_id": "c", "data": {}}, {}, ())
    assert len(cell.seen) == 500


def test_held_text_takes_little_room_however_small_its_pieces() -> None:
    """A letter at a time is joined, and never more is kept than was asked for."""
    held = Held(text_bytes=200_000, displays=1, display_bytes=1)
    dropped = sum(held.add_text("stdout", "a") for _ in range(300_000))
    messages = held.take()
    assert len(messages) < 10
    assert dropped + sum(message.size for message in messages) == 300_000
    assert sum(message.size for message in messages) <= 200_000


@pytest.mark.parametrize("text", ["", "abc", "äöü" * 5, "a€" * 7, "𝄞" * 4])
def test_parts_of_a_text_never_split_a_character(text: str) -> None:
    """The first and last bytes are whole characters, as many as fit."""
    for count in range(len(text.encode()) + 2):
        first, last = first_bytes(text, count), last_bytes(text, count)
        assert text.startswith(first)
        assert text.endswith(last)
        for part in (first, last):
            assert count - 4 < text_size(part) <= count or part == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_582_912, "12.6 MB"),
        (10**10, "10.0 GB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    """Three digits and a decimal unit."""
    assert size_text(size) == text
