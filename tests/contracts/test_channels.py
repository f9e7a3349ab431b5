"""One suite over every channel: UNIX reading memory, UNIX with arenas, TCP."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from zerokernel.errors import AuthenticationFailed, ChannelClosed, MalformedMessage
from zerokernel.messages import FetchName, Hello, Interrupt, Message, Output, Stage
from zerokernel.wire import Channel, connect, listen
from zerokernel.wire.unix import UnixChannel

KINDS = ("unix", "unix-arena", "tcp")
Pair = tuple[Channel, Channel]


def address(kind: str, tmp_path: object) -> str:
    return "tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: object) -> Iterator[Pair]:
    descriptors = len(os.listdir("/proc/self/fd"))
    reads = request.param != "unix-arena"
    listener = listen(address(request.param, tmp_path), b"secret", read_memory=reads)
    caller: list[Channel] = []
    thread = threading.Thread(
        target=lambda: caller.append(
            connect(listener.address, Hello("kernel", "s"), b"secret", read_memory=reads)
        )
    )
    thread.start()
    ours, hello = listener.accept()
    thread.join()
    assert hello.session == "s"
    if isinstance(ours, UnixChannel):
        negotiate(ours, caller[0])
    yield ours, caller[0]
    ours.close()
    caller[0].close()
    listener.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors, "descriptors were left"


def negotiate(ours: UnixChannel, theirs: Channel) -> None:
    """Runs the memory probe to its end: a message each way passes all signals before it."""
    ours.offer_memory()
    for sender, receiver in ((ours, theirs), (theirs, ours), (ours, theirs), (theirs, ours)):
        sender.send(Interrupt())
        receiver.receive(5)


def send_in_thread(
    channel: Channel, message: Message, buffers: list[memoryview]
) -> threading.Thread:
    thread = threading.Thread(target=channel.send, args=(message, buffers))
    thread.start()
    return thread


def test_messages_arrive_in_order(pair: Pair) -> None:
    """A thousand small messages arrive as they were sent."""
    ours, theirs = pair

    def send_all() -> None:
        for number in range(1000):
            ours.send(FetchName(str(number)))

    thread = threading.Thread(target=send_all)
    thread.start()
    names = [theirs.receive(5).message for _ in range(1000)]
    thread.join()
    assert names == [FetchName(str(number)) for number in range(1000)]


@pytest.mark.parametrize("sizes", [[0], [1], [65535], [65536], [3 << 20, 0, 10, 1 << 16]])
def test_buffers_arrive_whole(pair: Pair, sizes: list[int]) -> None:
    """Buffers of every size keep their bytes and their order, however they travel."""
    ours, theirs = pair
    data = [os.urandom(size) for size in sizes]
    thread = send_in_thread(ours, Stage(()), [memoryview(d) for d in data])
    received = theirs.receive(5)
    thread.join()
    assert [bytes(b) for b in received.buffers] == data


def test_thousands_of_small_buffers_arrive_whole(pair: Pair) -> None:
    """More than one system call takes, empty ones and large ones among them."""
    ours, theirs = pair
    data = [os.urandom(size) for size in [0, 1, 7, 4096, 0, 100] * 400 + [0, 70_000, 3]]
    thread = send_in_thread(ours, Stage(()), [memoryview(d) for d in data])
    received = theirs.receive(10)
    thread.join()
    assert [bytes(b) for b in received.buffers] == data
    ours.send(Interrupt())
    assert theirs.receive(5).message == Interrupt()


def test_arena_is_used_again(pair: Pair) -> None:
    """A second and a larger third large buffer arrive whole too."""
    ours, theirs = pair
    for size in (1 << 20, 1 << 19, 1 << 22):
        data = os.urandom(size)
        thread = send_in_thread(ours, Stage(()), [memoryview(data)])
        assert bytes(theirs.receive(5).buffers[0]) == data
        thread.join()


def test_receiver_allocates(pair: Pair) -> None:
    """Buffers are written straight into memory that the receiver gives."""
    ours, theirs = pair
    target = bytearray(1 << 20)
    data = os.urandom(1 << 20)
    thread = send_in_thread(ours, Stage(("spec",)), [memoryview(data)])
    asked: list[tuple[Message, list[int]]] = []

    def allocate(message: Message, sizes: list[int]) -> list[memoryview]:
        asked.append((message, sizes))
        return [memoryview(target)]

    theirs.receive(5, allocate)
    thread.join()
    assert bytes(target) == data
    assert asked == [(Stage(("spec",)), [1 << 20])]


def test_buffer_may_change_after_send(pair: Pair) -> None:
    """When send returns, the receiver has its own copy (I1)."""
    ours, theirs = pair
    data = bytearray(b"a" * (1 << 20))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(bytes(theirs.receive(5).buffers[0])))
    thread.start()
    ours.send(Stage(()), [memoryview(data)])
    data[:] = b"b" * len(data)
    thread.join()
    assert got == [b"a" * (1 << 20)]


def test_sender_that_waits_keeps_what_arrives(pair: Pair) -> None:
    """Both sides send large buffers at once; neither hangs and nothing is lost."""
    data = os.urandom(1 << 20)
    threads = [send_in_thread(c, Stage(()), [memoryview(data)] * 2) for c in pair]
    received = [channel.receive(10) for channel in pair]
    for thread in threads:
        thread.join()
    assert all(bytes(b) == data for r in received for b in r.buffers)


def test_time_out(pair: Pair) -> None:
    """Receiving with a time-out ends with TimeoutError and loses nothing."""
    ours, theirs = pair
    with pytest.raises(TimeoutError):
        theirs.receive(0.01)
    ours.send(Interrupt())
    assert theirs.receive(5).message == Interrupt()


def test_closed_peer_is_noticed(pair: Pair) -> None:
    """Receiving from, and sending large data to, a peer that is gone raise ChannelClosed."""
    ours, theirs = pair
    theirs.close()
    with pytest.raises(ChannelClosed):
        ours.receive(5)
    with pytest.raises(ChannelClosed):
        ours.send(Stage(()), [memoryview(bytes(1 << 22))])


def test_closing_wakes_a_receiver(pair: Pair) -> None:
    """A thread that waits in receive ends when its own channel is closed."""
    ours, _ = pair
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            ours.receive()
        except ChannelClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    ours.close()
    thread.join(5)
    assert len(raised) == 1


def test_descriptors_are_passed(pair: Pair) -> None:
    """A UNIX channel passes open files; TCP says that it cannot."""
    ours, theirs = pair
    if not ours.passes_descriptors:
        pytest.skip("TCP passes none")
    read_end, write_end = os.pipe()
    ours.send(Interrupt(), descriptors=[write_end])
    passed = theirs.receive(5).descriptors
    os.write(passed[0], b"x")
    assert os.read(read_end, 1) == b"x"
    for descriptor in (read_end, write_end, *passed):
        os.close(descriptor)


def test_descriptors_beside_large_buffers(pair: Pair) -> None:
    """A passed file is not taken for the arena that travels with the same message."""
    ours, theirs = pair
    if not ours.passes_descriptors:
        pytest.skip("TCP passes none")
    read_end, write_end = os.pipe()
    data = os.urandom(1 << 20)
    thread = threading.Thread(target=ours.send, args=(Stage(()), [memoryview(data)], [write_end]))
    thread.start()
    received = theirs.receive(5)
    thread.join()
    assert bytes(received.buffers[0]) == data
    os.write(received.descriptors[0], b"y")
    assert os.read(read_end, 1) == b"y"
    for descriptor in (read_end, write_end, *received.descriptors):
        os.close(descriptor)


def test_outputs_with_odd_content(pair: Pair) -> None:
    """Text outside of ASCII and lone surrogates arrive as they are."""
    ours, theirs = pair
    message = Output("stream", {"text": "é\u2028\ud800"})
    ours.send(message)
    assert theirs.receive(5).message == message


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_wrong_secret_is_refused(kind: str, tmp_path: object) -> None:
    """A caller with another secret gets no channel, and the listener serves the next."""
    listener = listen(address(kind, tmp_path), b"secret")
    errors: list[BaseException] = []

    def call(secret: bytes) -> None:
        try:
            connect(listener.address, Hello("kernel"), secret).close()
        except AuthenticationFailed as error:
            errors.append(error)

    thread = threading.Thread(target=call, args=(b"guess",))
    thread.start()
    with pytest.raises(AuthenticationFailed):
        listener.accept()
    thread.join()
    assert len(errors) == 1
    thread = threading.Thread(target=call, args=(b"secret",))
    thread.start()
    channel, _ = listener.accept()
    thread.join()
    channel.close()
    listener.close()


def test_garbage_closes_the_channel(pair: Pair) -> None:
    """Bytes that are no frame raise MalformedMessage and end the channel."""
    ours, theirs = pair
    duplicate = socket.socket(fileno=os.dup(ours.fileno()))
    duplicate.sendall(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n")
    duplicate.close()
    with pytest.raises(MalformedMessage):
        theirs.receive(5)
    with pytest.raises(ChannelClosed):
        theirs.receive(5)
