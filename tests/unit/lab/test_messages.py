"""`lab.messages`: frames as mender-connect writes and reads them."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.lab.messages import (
    CONTROL,
    FILE_TRANSFER,
    SHELL,
    Message,
    MessageError,
    accept_session,
    decode,
    document,
    encode,
    open_session,
)


def test_a_frame_is_a_map_of_header_and_body() -> None:
    frame = encode(Message(SHELL, "shell", "s-1", {"user_id": "u"}, b"\x00ls\n"))
    assert msgpack.unpackb(frame) == {
        "hdr": {"proto": 1, "typ": "shell", "sid": "s-1", "props": {"user_id": "u"}},
        "body": b"\x00ls\n",
    }


def test_what_is_empty_is_left_out() -> None:
    assert msgpack.unpackb(encode(Message(CONTROL, "close"))) == {"hdr": {"proto": 0xFFFF, "typ": "close", "sid": ""}}


def test_integers_among_the_properties_have_64_bits() -> None:
    frame = encode(Message(FILE_TRANSFER, "ack", properties={"offset": 5}))
    assert b"\xa6offset\xd3\x00\x00\x00\x00\x00\x00\x00\x05" in frame


@given(
    st.builds(
        Message,
        st.integers(0, 0xFFFF),
        st.text(),
        st.text(),
        st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.text() | st.booleans()),
        st.binary(),
    )
)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(encode(message)) == message


def test_what_go_leaves_out_or_writes_as_nil() -> None:
    frame = msgpack.packb({"hdr": {"proto": 1, "typ": "new", "props": None}, "body": None})
    assert decode(frame) == Message(SHELL, "new")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x81" * 5000,
        *(
            msgpack.packb(value)
            for value in (
                1,
                {},
                {"hdr": 1},
                {"hdr": {"typ": "x"}},
                {"hdr": {"proto": "1", "typ": "x"}},
                {"hdr": {"proto": 1, "typ": 2}},
                {"hdr": {"proto": 1, "typ": "x", "sid": 1}},
                {"hdr": {"proto": 1, "typ": "x", "props": [1]}},
                {"hdr": {"proto": 1, "typ": "x", "props": {1: 1}}},
                {"hdr": {"proto": 1, "typ": "x"}, "body": "text"},
            )
        ),
        encode(Message(SHELL, "new")) + b"\x00",
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(MessageError):
        decode(frame)


def test_bodies_that_are_maps() -> None:
    assert open_session().fields() == {"versions": [1]}
    assert accept_session("s", 1, 2).fields() == {"version": 1, "protocols": [1, 2]}
    assert Message(FILE_TRANSFER, "stat", body=document(path="/x", mode=None)).fields() == {"path": "/x"}
    assert Message(FILE_TRANSFER, "stat").fields() == {}
    with pytest.raises(MessageError, match="body is not a map"):
        _ = Message(FILE_TRANSFER, "stat", body=b"\x01").fields()
