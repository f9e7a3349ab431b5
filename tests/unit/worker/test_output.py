import threading
from collections.abc import Sequence
from typing import Any

import pytest
from ipykernel.iostream import OutStream

from zerokernel.worker.output import PublishingSession, WorkerStream

Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def session(sent: Sent) -> PublishingSession:
    def publish(
        kind: str, content: dict[str, Any], _: dict[str, Any], __: Sequence[Any], **other: Any
    ) -> None:
        sent.append((kind, {**content, **other}))

    session = PublishingSession(key=b"")
    session.publish = publish
    return session


@pytest.fixture
def stream(session: PublishingSession) -> WorkerStream:
    return WorkerStream(session, "stdout", 1, threading.Event())


def test_text_is_published_by_flush(stream: WorkerStream, sent: Sent) -> None:
    """Written text is collected; flush publishes it once, as one stream message."""
    print("a", "b", file=stream)
    stream.write("c")
    assert sent == []
    stream.flush()
    stream.flush()
    assert sent == [("stream", {"name": "stdout", "text": "a b\nc"})]


def test_it_is_an_outstream_that_is_open(stream: WorkerStream) -> None:
    """Libraries that look find an ipykernel stream that is open, writable and no terminal."""
    assert isinstance(stream, OutStream)
    assert stream.writable()
    assert not stream.closed
    assert not stream.isatty()
    stream.close()
    assert not stream.closed


def test_a_thread_of_another_cell_writes_to_that(
    stream: WorkerStream, session: PublishingSession, sent: Sent
) -> None:
    """Text belongs to the request that its thread was given, else to the cell that runs."""

    def write(parent: dict[str, Any] | None) -> None:
        if parent is not None:
            stream.set_thread_parent({"header": parent})
        stream.write(f"of {parent}")

    earlier, current = {"msg_id": "earlier"}, {"msg_id": "current"}
    session.running = "current"
    stream.set_parent({"header": current})
    for parent in (earlier, None, dict(current)):
        thread = threading.Thread(target=write, args=(parent,))
        thread.start()
        thread.join()
    stream.flush()
    own = {"name": "stdout", "text": f"of Noneof {current}"}
    others = {"name": "stdout", "text": f"of {earlier}", "parent": earlier}
    assert sent == [("stream", own), ("stream", others)]


def test_only_text_is_taken(stream: WorkerStream) -> None:
    """Writing bytes raises TypeError, as sys.stdout does."""
    with pytest.raises(TypeError, match="bytes"):
        stream.write(b"x")  # type: ignore[arg-type]  # the mistake under test


def test_a_character_may_come_in_two_parts(stream: WorkerStream, sent: Sent) -> None:
    """Bytes of a file descriptor are decoded over the boundary of two reads."""
    data = "é".encode()
    stream.write_bytes(data[:1])
    stream.write_bytes(data[1:])
    stream.flush()
    assert sent == [("stream", {"name": "stdout", "text": "é"})]


def test_messages_keep_their_parts(session: PublishingSession) -> None:
    """Send accepts jupyter_client's forms: a type with content, or a whole message."""
    seen: list[tuple[Any, ...]] = []
    session.publish = lambda *parts: seen.append(parts)
    session.send(None, "display_data", {"data": {}}, metadata={"m": 1}, buffers=[b"xy"])
    session.send(None, session.msg("clear_output", {"wait": True}))
    assert seen[0][:3] == ("display_data", {"data": {}}, {"m": 1})
    assert [bytes(b) for b in seen[0][3]] == [b"xy"]
    assert seen[1][:2] == ("clear_output", {"wait": True})
