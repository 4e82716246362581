"""Device keys: the one text form in which Mender compares them, and the signature of an auth request. Pure.

Source: Mender deviceauth, POST …/auth_requests (`pubkey`, header X-MEN-Signature).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mtls_ambassador.errors import Error

# A PEM block as Go finds it: at the start of a line, whatever stands before; the lines with a colon are headers.
_BLOCK = re.compile(
    r"^-----BEGIN ([^\n]*)-----[ \t\r]*\n(?:[^\n:]*:[^\n]*\n)*(.*?)^-----END \1-----[ \t\r]*$", re.DOTALL | re.MULTILINE
)
_CURVES = frozenset({"secp224r1", "secp256r1", "secp384r1", "secp521r1"})  # what Go's crypto/x509 parses

DeviceKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class KeyRefused(Error):
    """The text is not a public key that Mender takes."""


class SignatureRefused(Error):
    """The signature is not one of this body by this key."""


@dataclass(frozen=True)
class PublicKey:
    """A parsed key and its normal form: PKIX PEM, lines of 64 characters, newline at the end."""

    key: DeviceKey
    pem: str


def parse(text: str) -> PublicKey:
    """The public key in `text`, a PEM block `PUBLIC KEY`: RSA, ECDSA (P-224 to P-521) or Ed25519.

    Raises:
        KeyRefused: it is not; the text is what the Mender Server answers.
    """
    kind, der = _first_block(text)
    if kind != "PUBLIC KEY":
        raise KeyRefused("cannot decode public key")
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused("cannot decode public key: x509: not a key that is known here") from None
    if isinstance(key, (dsa.DSAPublicKey, x25519.X25519PublicKey)):
        raise KeyRefused("unrecognized public key type")
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise KeyRefused("cannot decode public key: x509: unknown public key algorithm")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise KeyRefused("cannot decode public key: x509: unsupported elliptic curve")
    return PublicKey(key, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def verify(key: DeviceKey, signature: str, body: bytes) -> None:
    """Check the X-MEN-Signature header of an auth request.

    RSA signs with PKCS #1 v1.5 and ECDSA with DER over the SHA-256 of the body, Ed25519 the body itself.

    Raises:
        SignatureRefused: it is not base64 (standard alphabet, padded) or not by this key over this body.
    """
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, body, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, body, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(raw, body)
    except (binascii.Error, ValueError, InvalidSignature):
        raise SignatureRefused("signature verification failed") from None


def _first_block(text: str) -> tuple[str, bytes]:
    """Kind and content of the first PEM block that decodes; ("", b"") if there is none."""
    for block in _BLOCK.finditer(text):
        try:
            return block[1], base64.b64decode(re.sub(r"[ \t\r\n]", "", block[2]), validate=True)
        except (binascii.Error, ValueError):
            continue
    return "", b""
