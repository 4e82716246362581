"""The messages between Mender's deviceconnect, its users and mender-connect: msgpack, one in each frame. Pure.

Source: mendersoftware/go-lib-micro, package ws (ProtoMsg, ProtoHdr, Open, Accept) and ws/filetransfer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from mtls_ambassador.errors import Error

SHELL: Final = 1
FILE_TRANSFER: Final = 2
PORT_FORWARD: Final = 3
MENDER_CLIENT: Final = 4
CONTROL: Final = 0xFFFF

VERSION = 1
"""The version of the protocol that `open` offers and `accept` takes."""

_INT64 = b"\xd3"


class MessageError(Error):
    """A frame that is no message."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        protocol: `SHELL`, `FILE_TRANSFER`, ... or `CONTROL`.
        kind: What it says within the protocol, such as `new` or `file_chunk`.
        session: The session it belongs to; the server sets it on what users send.
        properties: Text to text or integer.
        body: As the kind has it: raw bytes, or msgpack again.
    """

    protocol: int
    kind: str
    session: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""

    def fields(self) -> Mapping[str, Any]:
        """The body as a msgpack map, empty when there is none.

        Raises:
            MessageError: it is something else.
        """
        return _map(_unpack(self.body), "body") if self.body else {}


def encode(message: Message) -> bytes:
    """The frame of a message.

    Integers among the properties are written in 64 bits: mender-connect takes no other for a file's offset.
    """
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(2 if message.body else 1)
    packer.pack("hdr")
    packer.pack_map_header(4 if message.properties else 3)
    for name, value in (("proto", message.protocol), ("typ", message.kind), ("sid", message.session)):
        packer.pack(name)
        packer.pack(value)
    frame: bytes = packer.bytes()
    if message.properties:
        frame += _pack("props") + _properties(message.properties)
    if message.body:
        frame += _pack("body") + _pack(bytes(message.body))
    return frame


def decode(frame: bytes) -> Message:
    """The message in a frame.

    Raises:
        MessageError: there is none.
    """
    whole = _map(_unpack(frame), "message")
    header = _map(whole.get("hdr"), "header")
    protocol, kind, session = header.get("proto"), header.get("typ"), header.get("sid", "")
    if not isinstance(protocol, int) or not isinstance(kind, str) or not isinstance(session, str):
        raise MessageError("a message's header lacks proto or typ")
    body = whole.get("body") or b""
    if not isinstance(body, bytes):
        raise MessageError("a message's body is not binary")
    return Message(protocol, kind, session, _map(header.get("props") or {}, "props"), body)


def document(**fields: object) -> bytes:
    """The body of a message that has a map for it; fields that are None are left out."""
    return _pack({name: value for name, value in fields.items() if value is not None})


def open_session() -> Message:
    """What the user says first."""
    return Message(CONTROL, "open", body=document(versions=[VERSION]))


def accept_session(session: str, *protocols: int) -> Message:
    """What the device answers."""
    return Message(CONTROL, "accept", session, body=document(version=VERSION, protocols=list(protocols)))


def _properties(values: Mapping[str, Any]) -> bytes:
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(values))
    frame: bytes = packer.bytes()
    for name, value in values.items():
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        frame += _pack(name) + (_INT64 + struct.pack(">q", value) if is_integer else _pack(value))
    return frame


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _unpack(data: bytes) -> object:
    try:
        return msgpack.unpackb(data)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise MessageError(f"not msgpack: {error}") from error


def _map(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise MessageError(f"a message's {what} is not a map")
    return value
