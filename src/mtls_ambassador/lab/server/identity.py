"""A device's identity in the one form in which Mender compares identities. Pure.

Source: Mender deviceauth, POST …/auth_requests (`id_data`, a string) and preauthorize (`identity_data`, an object):
both are written anew by Go's encoder, sorted, and the device is found by the SHA-256 of that text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mtls_ambassador.lab.server.godecode import DecodeError, Object, as_map, decode
from mtls_ambassador.lab.server.goencode import marshal


@dataclass(frozen=True)
class Identity:
    """`text`: the normal form; `data`: the same as values, None for the identity `null`."""

    text: str
    data: Mapping[str, object] | None

    @property
    def digest(self) -> str:
        """SHA-256 of the normal form, in hex: equal digests are one device."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def from_text(id_data: str) -> Identity:
    """The identity that an auth request carries: a JSON object serialised into a string, or `null`.

    Raises:
        DecodeError: it is anything else.
    """
    value = decode(id_data.encode())
    if value is None:
        return Identity("null", None)
    if not isinstance(value, Object):
        raise DecodeError("json: cannot unmarshal the identity into Go value of type map[string]interface {}")
    return from_map(as_map(value))


def from_map(data: Mapping[str, object]) -> Identity:
    """The identity with these members."""
    return Identity(marshal(data, sort_keys=True), data)
