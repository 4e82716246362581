"""Certificate signing requests (PKCS #10, RFC 2986): read, and judged before anything is signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from mtls_ambassador.errors import Error
from mtls_ambassador.pki.keys import CURVE_NAMES, PublicKey

SMALLEST_RSA = 2048
"""Bits: what NIST SP 800-131A allows, and what the edge proxy takes for its own key."""

_LARGEST = 1 << 20  # bytes


class RequestError(Error):
    """A certificate signing request cannot be read, is not its key holder's, or asks for what must not be signed."""


@dataclass(frozen=True)
class Request:
    """A request whose signature proves that its maker holds the private key.

    Attributes:
        public_key: The key, of a kind that the edge proxy verifies.
        subject: The name that is asked for; may be empty.
        extensions: Names of the extensions that are asked for; none of them is taken over.
    """

    public_key: PublicKey
    subject: x509.Name
    extensions: tuple[str, ...]


def load_request(path: Path) -> Request:
    """The request in a PEM or DER file.

    Raises:
        RequestError: as `read_request`, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
    except OSError as error:
        raise RequestError(
            f"cannot read the request {path}: {error.strerror}", "See that it exists and this user may read it."
        ) from error
    return read_request(data, str(path))


def read_request(data: bytes, name: str) -> Request:
    """Parse a request and verify it.

    Args:
        data: PEM or DER.
        name: Its file's name, for errors.

    Raises:
        RequestError: it is none, its signature is not by its own key, or the key is weak or of a kind that the edge
            proxy cannot verify.
    """
    try:
        pem = b"-----BEGIN" in data
        csr = x509.load_pem_x509_csr(data) if pem else x509.load_der_x509_csr(data)
        key = csr.public_key()
        valid = csr.is_signature_valid
        subject = csr.subject
        extensions = _requested(csr)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise RequestError(
            f"{name} holds no certificate signing request that can be read: {error}",
            f"Look at it with: openssl req -in {name} -noout -text -verify",
        ) from error
    if not valid:
        raise RequestError(
            f"the signature of the request {name} is wrong: whoever made it does not have the private key",
            "Make the request anew where the key is: openssl req -new -key device-private.key -out device-cert.req",
        )
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA:
        raise RequestError(
            f"the request {name} has an RSA key of {key.key_size} bits",
            "Make a key of at least 2048 bits, or better on P-256, on the device.",
        )
    if not isinstance(key, PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVE_NAMES
    ):
        raise RequestError(
            f"the request {name} has a key of a kind that the edge proxy cannot verify",
            "Use P-256, P-384, P-521, RSA or Ed25519.",
        )
    return Request(key, subject, extensions)


def require_foreign(request: Request, ca: x509.Certificate, name: str) -> None:
    """Check that a request's key is not that of the CA which shall sign it.

    Raises:
        RequestError: it is.
    """
    if request.public_key == ca.public_key():
        raise RequestError(f"the request {name} has the key of the CA itself", "Make a key of its own for each device.")


def require_subject(request: Request, name: str) -> x509.Name:
    """The requested subject, if a certificate can carry it.

    Raises:
        RequestError: it has not exactly one common name, or an attribute holds what is not plain text.
    """
    common_names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common_names) != 1 or not common_names[0].value:
        raise RequestError(
            f"the subject of the request {name} has {len(common_names) or 'no'} common names", "Give one with --cn."
        )
    for attribute in request.subject:
        if not isinstance(attribute.value, str) or not attribute.value.isprintable():
            raise RequestError(
                f"the subject of the request {name} holds {attribute.rfc4514_attribute_name}={attribute.value!r}",
                "Give a plain common name with --cn.",
            )
    return request.subject


def _requested(csr: x509.CertificateSigningRequest) -> tuple[str, ...]:
    return tuple(getattr(each.oid, "_name", each.oid.dotted_string) for each in csr.extensions)
