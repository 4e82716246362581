"""Certificates with faults that no builder makes: the signed part is taken apart, changed, and signed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.certificates import PrivateKey

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING, OID, BOOLEAN = 0x30, 0x31, 0x02, 0x03, 0x04, 0x06, 0x01
UTF8_STRING, PRINTABLE_STRING, T61_STRING, BMP_STRING = 0x0C, 0x13, 0x14, 0x1E
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
VERSION, EXTENSIONS = 0xA0, 0xA3

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
RSA_MD5 = bytes.fromhex("300d06092a864886f70d0101040500")
RSA_SHA1 = bytes.fromhex("300d06092a864886f70d0101050500")
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
ED25519 = bytes.fromhex("300506032b6570")


def tlv(tag: int, *content: bytes) -> bytes:
    """One DER element (X.690 section 8.1)."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The elements one after the other: tag, content, and the whole element."""
    while data:
        start, length = 2, data[1]
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        yield data[0], data[start : start + length], data[: start + length]
        data = data[start + length :]


def parts(element: bytes) -> list[bytes]:
    """The whole elements within one element."""
    ((_, content, _),) = elements(element)
    return [whole for _, _, whole in elements(content)]


class SignedPart:
    """A TBSCertificate (RFC 5280 section 4.1), taken apart; every field is a whole DER element and may be changed."""

    def __init__(self, certificate: bytes) -> None:
        fields = parts(parts(certificate)[0])
        self.version = fields.pop(0) if fields[0][0] == VERSION else b""
        self.serial, self.algorithm, self.issuer, self.validity, self.subject, self.key = fields[:6]
        self.extensions = [
            extension for field in fields[6:] if field[0] == EXTENSIONS for extension in parts(parts(field)[0])
        ]

    def signed(self, key: PrivateKey, algorithm: bytes = ECDSA_SHA256, outer: bytes | None = None) -> bytes:
        """The certificate, signed by this key with this algorithm; `outer` is what it claims outside, if it differs."""
        self.algorithm = algorithm
        extensions = tlv(EXTENSIONS, tlv(SEQUENCE, *self.extensions)) if self.extensions else b""
        head = self.version + self.serial + self.algorithm + self.issuer + self.validity
        part = tlv(SEQUENCE, head, self.subject, self.key, extensions)
        signature = _sign(key, part, algorithm)
        return tlv(SEQUENCE, part, outer or algorithm, tlv(BIT_STRING, b"\0", signature))


def changed(certificate: bytes, key: PrivateKey, change: Callable[[SignedPart], object]) -> bytes:
    """The certificate with a change in its signed part, signed anew by its issuer's P-256 key."""
    part = SignedPart(certificate)
    change(part)
    return part.signed(key)


def integer(content: bytes) -> bytes:
    """An INTEGER of these very octets."""
    return tlv(INTEGER, content)


def name(*attributes: tuple[str, int, bytes]) -> bytes:
    """A Name of attributes: the dotted OID `2.5.4.N`, the string's tag, its octets."""
    return tlv(
        SEQUENCE,
        *(
            tlv(SET, tlv(SEQUENCE, tlv(OID, bytes([0x55, 4, int(oid.rpartition(".")[2])])), tlv(tag, octets)))
            for oid, tag, octets in attributes
        ),
    )


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension; `oid` is the encoded content of an OBJECT IDENTIFIER."""
    return tlv(SEQUENCE, tlv(OID, oid), tlv(BOOLEAN, b"\xff") if critical else b"", tlv(OCTET_STRING, value))


def _sign(key: PrivateKey, data: bytes, algorithm: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    digest: hashes.HashAlgorithm = hashes.SHA256()
    if algorithm in {ECDSA_SHA1, RSA_SHA1}:
        digest = hashes.SHA1()
    elif algorithm == RSA_MD5:
        digest = hashes.MD5()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), digest)
    return key.sign(data, ec.ECDSA(digest))
