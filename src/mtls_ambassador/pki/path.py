"""A certificate's path to a trust anchor, found and judged as the edge's BoringSSL does it. Pure.

It looks for issuers in the trust bundle first, then among the certificates that the peer sent; takes the first that
fits, and never goes back. Of a trust anchor it judges validity, key usage and name constraints only.
tests/odd_certificates.py holds this and the real Envoy to the same verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from mtls_ambassador.pki import signature
from mtls_ambassador.pki.constraints import violation
from mtls_ambassador.pki.keys import CURVE_NAMES, PublicKey
from mtls_ambassador.pki.names import same
from mtls_ambassador.refusals import RefusalReason

LONGEST = 16
"""Certificates in a path; more than anybody has."""

_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)


@dataclass(frozen=True)
class Fault:
    """What the edge refuses a path for.

    Attributes:
        reason: As the edge's log says it.
        what: In words, with the certificate's name.
        remedy: What to do, if it differs from the reason's own remedy.
    """

    reason: RefusalReason
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class CertificatePath:
    """The leaf, its issuers, nearest first, and how many of them, at the end, are from the trust bundle."""

    certificates: tuple[x509.Certificate, ...]
    trusted: int

    @property
    def sent(self) -> tuple[x509.Certificate, ...]:
        """Those that the peer sent."""
        return self.certificates[: len(self.certificates) - self.trusted]


def build(
    leaf: x509.Certificate, sent: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> CertificatePath:
    """The path that the edge takes.

    Args:
        leaf: The peer's certificate.
        sent: What it sends beside, in any order.
        anchors: The trust bundle, in its order.
    """
    path, trusted, left = [leaf], 0, list(sent)
    while not _self_signed(path[-1]) and len(path) < LONGEST:
        issuer = next((each for each in anchors if _issued(each, path[-1])), None)
        if issuer is not None:
            trusted += 1
        elif trusted:
            break
        else:
            issuer = next((each for each in left if _issued(each, path[-1])), None)
            if issuer is None:
                break
            left.remove(issuer)
        path.append(issuer)
    if not trusted and path[-1] in anchors:  # it was sent, though it is in the bundle
        trusted = 1
    return CertificatePath(tuple(path), trusted)


def faults(path: CertificatePath, now: datetime, purpose: ObjectIdentifier) -> Iterator[Fault]:
    """Everything that the path is refused for.

    Args:
        path: From `build`.
        now: The current time, with its zone.
        purpose: clientAuth for devices, serverAuth for the edge's own.
    """
    yield from _untrusted(path)
    for depth, certificate in enumerate(path.certificates):
        yield from _out_of_time(certificate, depth, now)
    for depth, certificate in enumerate(path.sent):
        yield from _wrong_extensions(certificate, depth, path, purpose)
    for certificate, issuer in zip(path.certificates, path.certificates[1:], strict=False):
        yield from _wrong_signature(certificate, issuer)
    yield from _wrong_key(path.certificates[0])
    if (wrong := violation(path.certificates[0], path.certificates[1:])) is not None:
        remedy = "Issue it with names that the CAs above it permit, or renew them without the constraints."
        yield Fault(RefusalReason.HANDSHAKE_FAILED, wrong, remedy)


def title(certificate: x509.Certificate) -> str:
    """What a certificate is called in a sentence."""
    return certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"


def constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    """Its basicConstraints."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    """Its keyUsage."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def purposes(certificate: x509.Certificate) -> x509.ExtendedKeyUsage | None:
    """Its extendedKeyUsage."""
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None


def usable_key(certificate: x509.Certificate) -> bool:
    """Whether TLS at the edge knows this kind of key."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in CURVE_NAMES
    return isinstance(key, PublicKey)


def _untrusted(path: CertificatePath) -> Iterator[Fault]:
    if path.trusted:
        return
    last = path.certificates[-1]
    if _self_signed(last):
        if len(path.certificates) == 1:
            yield Fault(
                RefusalReason.SELF_SIGNED, f"{title(last)} is self-signed, and no CA in the trust bundle signed it"
            )
        else:
            yield Fault(RefusalReason.UNKNOWN_CA, f"its root, {title(last)}, is not in the trust bundle")
        return
    yield Fault(
        RefusalReason.UNKNOWN_CA,
        f"the chain ends at {title(last)}: its issuer, {last.issuer.rfc4514_string() or 'without a name'}, is neither "
        "in the trust bundle nor sent along, or may not sign certificates",
    )


def _out_of_time(certificate: x509.Certificate, depth: int, now: datetime) -> Iterator[Fault]:
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        reason = RefusalReason.ISSUER_NOT_YET_VALID if depth else RefusalReason.NOT_YET_VALID
        yield Fault(reason, f"{title(certificate)} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    elif now > certificate.not_valid_after_utc:
        reason = RefusalReason.ISSUER_EXPIRED if depth else RefusalReason.EXPIRED
        yield Fault(reason, f"{title(certificate)} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def _wrong_extensions(
    certificate: x509.Certificate, depth: int, path: CertificatePath, purpose: ObjectIdentifier
) -> Iterator[Fault]:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_EXTENSIONS:
            what = f"{title(certificate)} has the critical extension {extension.oid.dotted_string}"
            yield Fault(RefusalReason.CRITICAL_EXTENSION, what)
    allowed = purposes(certificate)
    if allowed is not None and purpose not in allowed:
        what = f"the extended key usage of {title(certificate)} lacks {_PURPOSE_NAMES[purpose]}"
        remedy = f"Issue it with {_PURPOSE_NAMES[purpose]}, or without extended key usage."
        yield Fault(RefusalReason.WRONG_PURPOSE, what, remedy)
    if depth == 0:
        usage = key_usage(certificate)
        if usage is not None and not usage.digital_signature:
            yield Fault(RefusalReason.WRONG_PURPOSE, f"the key usage of {title(certificate)} lacks digitalSignature")
        return
    basic = constraints(certificate)
    if basic is None or not basic.ca:
        what = f"{title(certificate)} signed a certificate, though it is not a CA (no CA:TRUE)"
        yield Fault(RefusalReason.UNKNOWN_CA, what, "Issue the intermediate anew with basicConstraints CA:TRUE.")
        return
    below = sum(not same(each.subject, each.issuer) for each in path.certificates[1:depth])
    if (
        basic.path_length is not None
        and below > basic.path_length
        and not same(certificate.subject, certificate.issuer)
    ):
        what = f"{title(certificate)} allows {basic.path_length} CAs below it, and there are {below}"
        yield Fault(RefusalReason.HANDSHAKE_FAILED, what, "Issue it with a larger path length, or shorten the chain.")


def _wrong_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> Iterator[Fault]:
    if not usable_key(issuer):
        what = f"the key of {title(issuer)}, which signed {title(certificate)}, is of a kind that TLS here cannot use"
        yield Fault(RefusalReason.UNSUPPORTED_CERTIFICATE_KEY, what)
        return
    try:
        if isinstance(certificate.signature_hash_algorithm, hashes.MD5):
            raise InvalidSignature
        signature.verify(certificate, issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        yield Fault(
            RefusalReason.BAD_SIGNATURE, f"{title(certificate)} does not carry the signature of {title(issuer)}"
        )


def _wrong_key(leaf: x509.Certificate) -> Iterator[Fault]:
    if not usable_key(leaf):
        yield Fault(
            RefusalReason.UNSUPPORTED_CERTIFICATE_KEY, f"the key of {title(leaf)} is of a kind that TLS here cannot use"
        )


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if not same(issuer.subject, certificate.issuer):
        return False
    usage = key_usage(issuer)
    if usage is not None and not usage.key_cert_sign:
        return False
    identifier = _authority_identifier(certificate)
    if identifier is None:
        return True
    own = _subject_identifier(issuer)
    if identifier.key_identifier is not None and own is not None and identifier.key_identifier != own:
        return False
    serial = identifier.authority_cert_serial_number
    return serial is None or serial == issuer.serial_number


def _self_signed(certificate: x509.Certificate) -> bool:
    if not same(certificate.subject, certificate.issuer):
        return False
    identifier, own = _authority_identifier(certificate), _subject_identifier(certificate)
    return identifier is None or identifier.key_identifier is None or own is None or identifier.key_identifier == own


def _authority_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None


def _subject_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


_PURPOSE_NAMES = {ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth", ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth"}
