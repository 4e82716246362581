"""One auth request, read so strictly that Mender cannot read it otherwise. Pure.

Source: Mender deviceauth, `POST /api/devices/v1/authentication/auth_requests`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import Identity, parse_identity
from mtls_ambassador.admission.strict_json import AmbiguousJsonError, parse_object
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.wire import LARGEST_AUTH_BODY
from mtls_ambassador.x509 import spki

_KNOWN_FIELDS = frozenset({"id_data", "pubkey", "tenant_token", "tier"})
_PUBLIC_KEY = re.compile(
    r"\s*-----BEGIN PUBLIC KEY-----[ \t]*\r?\n((?:[A-Za-z0-9+/=]+[ \t]*\r?\n)+)-----END PUBLIC KEY-----\s*",
    re.ASCII,
)

# Mender refuses parameters that are not well formed, after the edge has preauthorised: so none but the usual one.
_JSON_TYPE = re.compile(r"\s*application/json\s*(;\s*(charset\s*=\s*\"?utf-8\"?\s*)?)?", re.ASCII | re.IGNORECASE)
# What Go's crypto/x509 parses.
_CURVES = (ec.SECP224R1, ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """What an auth request says, verified."""

    identity: Identity
    public_key: bytes
    """DER of the SubjectPublicKeyInfo."""
    public_key_pem: str
    """The same as Mender normalises it."""
    body: bytes
    """The very bytes that were signed; they are what Mender gets."""


def parse_auth_request(
    body: bytes,
    *,
    signatures: Sequence[str],
    content_types: Sequence[str],
    certificate_key: bytes | None,
) -> AuthRequest:
    """Read and verify an auth request.

    Args:
        body: The raw body.
        signatures: All values of `X-MEN-Signature`.
        content_types: All values of `Content-Type`.
        certificate_key: SubjectPublicKeyInfo (DER) that the key in the body must be; None: any key will do.

    Raises:
        Refused: `body_too_large`, `unsupported_media_type`, `malformed_request`, `unsupported_key`,
            `missing_signature`, `key_mismatch` or `bad_signature`, in this order.
    """
    if len(body) > LARGEST_AUTH_BODY:
        raise Refused(RefusalReason.BODY_TOO_LARGE, f"{len(body)} bytes")
    _require_json(content_types)
    fields = _fields(body)
    identity = parse_identity(_text_field(fields, "id_data"))
    for name in ("tenant_token", "tier"):
        if name in fields and not isinstance(fields[name], str | None):
            raise Refused(RefusalReason.MALFORMED, f"{name} is not a string")
    key = read_public_key(_text_field(fields, "pubkey"))
    signature = _signature(signatures)
    der = spki(key)
    if certificate_key is not None and der != certificate_key:
        raise Refused(RefusalReason.KEY_MISMATCH, rule="require_same_key: true")
    verify_signature(key, signature, body)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return AuthRequest(identity, der, pem.decode(), body)


def read_public_key(text: str) -> PublicKey:
    """Read the PEM of a public key as Mender does: one block, exactly `PUBLIC KEY`, nothing around it.

    Raises:
        Refused: `malformed_request` or `unsupported_key`.
    """
    match = _PUBLIC_KEY.fullmatch(text)
    if match is None:
        raise Refused(RefusalReason.MALFORMED, "pubkey is not one PEM block PUBLIC KEY")
    try:
        key = serialization.load_pem_public_key(text.strip().encode())
    except UnsupportedAlgorithm:
        raise Refused(RefusalReason.UNSUPPORTED_KEY) from None
    except ValueError:
        raise Refused(RefusalReason.MALFORMED, "pubkey cannot be decoded") from None
    if not isinstance(key, PublicKey):
        raise Refused(RefusalReason.UNSUPPORTED_KEY, type(key).__name__)
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, _CURVES):
        raise Refused(RefusalReason.UNSUPPORTED_KEY, key.curve.name)
    if spki(key) != base64.b64decode("".join(match[1].split())):
        # Another encoding of the same key, such as a compressed point, is no key to Mender, or another.
        raise Refused(RefusalReason.MALFORMED, "pubkey is not in its one usual encoding")
    return key


def verify_signature(key: PublicKey, signature: bytes, body: bytes) -> None:
    """Verify Mender's request signature: PKCS#1 v1.5 or ECDSA over SHA-256 of the body, or Ed25519 over the body.

    Raises:
        Refused: `bad_signature`.
    """
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, body, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, body)
    except (InvalidSignature, ValueError):
        raise Refused(RefusalReason.BAD_REQUEST_SIGNATURE) from None


def _require_json(content_types: Sequence[str]) -> None:
    if len(content_types) != 1:
        raise Refused(RefusalReason.MALFORMED, "Content-Type is missing or given twice")
    if not _JSON_TYPE.fullmatch(content_types[0]):
        raise Refused(RefusalReason.UNSUPPORTED_MEDIA_TYPE)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = parse_object(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refused(RefusalReason.MALFORMED, "the body is not UTF-8") from None
    except AmbiguousJsonError as error:
        raise Refused(RefusalReason.MALFORMED, f"body: {error}") from None
    folded = [name.casefold() for name in fields]
    if len(set(folded)) != len(folded):
        raise Refused(RefusalReason.MALFORMED, "two names differ in case only")
    for name in fields:
        # Go's decoder would take `ID_DATA`, or one with a long s or a Kelvin sign in it, for the real one.
        if name not in _KNOWN_FIELDS and name.casefold() in _KNOWN_FIELDS:
            raise Refused(RefusalReason.MALFORMED, f"the name {name!r} is not spelled {name.casefold()!r}")
    return fields


def _text_field(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(RefusalReason.MALFORMED, f"{name} must be provided, as a string")
    return value


def _signature(signatures: Sequence[str]) -> bytes:
    if not signatures or not signatures[0]:
        raise Refused(RefusalReason.MISSING_SIGNATURE)
    if len(signatures) > 1:
        raise Refused(RefusalReason.MALFORMED, "X-MEN-Signature is given twice")
    try:
        return base64.b64decode(signatures[0], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(RefusalReason.BAD_REQUEST_SIGNATURE, "it is not base64") from None
