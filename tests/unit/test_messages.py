import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerokernel.errors import MalformedMessage, ProtocolMismatch
from zerokernel.messages import (
    PROTOCOL_VERSION,
    Granted,
    Hello,
    Message,
    OpenSession,
    Queued,
    RequestLease,
    RunCell,
    SessionOpened,
    Stage,
    check_protocol,
    decode,
    decode_as,
    encode,
)

EXAMPLES: list[Message] = [
    Hello("kernel", "s", 12),
    OpenSession("s", "n", "/p", {"A": "b"}),
    SessionOpened("s", "unix:/x", "00", ("large", "xlarge")),
    RequestLease("r", "", 60.0),
    Queued("r", 2, None, "two before"),
    Queued("r", 2, 1.5),
    Granted("r", "l", "half", 60.0, 0.5, True),
    Stage((["array", "<f8", [3]], None)),
    RunCell("r", "x", "f", 3, True, {"lock": "why"}, {"msg_id": "1"}),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_messages_survive_the_wire(message: Message) -> None:
    """What is decoded equals what was encoded, tuples and None included."""
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"kind": 3}',
        b'{"kind": "Message"}',
        b'{"kind": "__class__"}',
        b'{"kind": "RequestLease"}',
        b'{"kind": "RequestLease", "request": 1, "size": "", "duration": 1}',
        b'{"kind": "RequestLease", "request": "r", "size": "", "duration": true}',
        b'{"kind": "RequestLease", "request": "r", "size": "", "duration": "1"}',
        b'{"kind": "RequestLease", "request": "r", "size": "", "duration": 1, "x": 1}',
        b'{"kind": "OpenSession", "session": "s", "name": "n", "python": "p", '
        b'"environment": {"A": 1}}',
        b'{"kind": "Hello", "role": "kernel", "process": 1.5}',
        b"\xff\xfe",
        b"[" * 100000,
    ],
)
def test_hostile_messages_are_refused(data: bytes) -> None:
    """Anything but a well-formed message raises MalformedMessage and nothing else."""
    with pytest.raises(MalformedMessage):
        decode(data)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_arbitrary_fields_are_refused_or_fit(value: object) -> None:
    """A field takes only its own type."""
    data = json.dumps({"kind": "RequestLease", "request": value, "size": "", "duration": 1})
    try:
        message = decode_as(RequestLease, data)
    except MalformedMessage:
        assert not isinstance(value, str)
    else:
        assert message.request == value


def test_another_kind_is_refused() -> None:
    """decode_as takes only the kind that was asked for."""
    with pytest.raises(MalformedMessage, match="Expected Hello"):
        decode_as(Hello, encode(RequestLease("r", "", 1.0)))


def test_another_protocol_is_named() -> None:
    """A peer of another version is refused with both versions in the message."""
    with pytest.raises(ProtocolMismatch, match=str(PROTOCOL_VERSION + 1)):
        check_protocol(PROTOCOL_VERSION + 1)
    Hello("kernel").check()
