"""A look at certificates as the edge sees them: what it refuses, and what it takes though it should be better. Pure."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ParamSpec

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mtls_ambassador.config.bundle import confused
from mtls_ambassador.config.material import judge_device_ca
from mtls_ambassador.pki import path as paths
from mtls_ambassador.pki.path import title
from mtls_ambassador.pki.profiles import ProfileError, general_name
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import spki

_Arguments = ParamSpec("_Arguments")
SOON = timedelta(days=30)
NOT_STARTED = "edge_does_not_start"
"""Code of what keeps the edge from starting at all."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The edge, or a device, refuses it."""
    WARNING = "warning"
    """It works, and should be better."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: Error or warning.
        code: For scripts: an error's is the edge's refusal reason where the edge would refuse it.
        what: What it is, naming the certificate.
        remedy: What to do.
    """

    severity: Severity
    code: str
    what: str
    remedy: str


def _quietly(function: Callable[_Arguments, list[Finding]]) -> Callable[_Arguments, list[Finding]]:
    # What cryptography warns of are findings of ours, where the edge takes it nevertheless.
    @functools.wraps(function)
    def quiet(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> list[Finding]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments, **options)

    return quiet


@_quietly
def device(
    chain: Sequence[bytes],
    anchors: Sequence[bytes],
    now: datetime,
    *,
    server_keys: AbstractSet[bytes] = frozenset(),
) -> list[Finding]:
    """A device's certificate, with what is sent beside it, at an edge with this trust bundle.

    Args:
        chain: DER: the device's certificate first.
        anchors: DER: the edge's `tenant_ca_pem`, in its order.
        now: The current time, with its zone.
        server_keys: SubjectPublicKeyInfo (DER) of the edge's own certificates, which no device may have.
    """
    try:
        (leaf, *sent), bundle = [read(each) for each in chain], [read(each) for each in anchors]
    except UnreadableError as error:
        return [error.finding]
    found = [*(each for anchor in bundle for each in _bundle(anchor)), *_together(bundle)]
    path = paths.build(leaf, sent, bundle)
    found += [_refusal(fault) for fault in paths.faults(path, now, ExtendedKeyUsageOID.CLIENT_AUTH)]
    basic = paths.constraints(leaf)
    if (basic is not None and basic.ca) or _spki(leaf) in {_spki(each) for each in bundle}:
        found.append(_refusal(paths.Fault(RefusalReason.CA_CERTIFICATE, f"{title(leaf)} is a CA's, or has a CA's key")))
    elif _spki(leaf) in server_keys:
        what = f"{title(leaf)} has the key of the edge's own certificate"
        found.append(_refusal(paths.Fault(RefusalReason.SERVER_CERTIFICATE, what)))
    return [*found, *(each for certificate in path.sent for each in _weak(certificate, now)), *_identity(leaf)]


@_quietly
def server(
    chain: Sequence[bytes], anchors: Sequence[bytes], now: datetime, *, host: str | None = None
) -> list[Finding]:
    """The edge's certificate, as a device sees it that trusts `anchors`.

    Args:
        chain: DER: the server's certificate first.
        anchors: DER: what the device trusts; empty if that is not known, such as a public CA.
        now: The current time, with its zone.
        host: The name or address that devices connect to.
    """
    try:
        (leaf, *sent), bundle = [read(each) for each in chain], [read(each) for each in anchors]
    except UnreadableError as error:
        return [error.finding]
    path = paths.build(leaf, sent, bundle)
    found = [
        Finding(Severity.ERROR, fault.reason.value.label, fault.what, fault.remedy or _SERVER_REMEDIES[fault.reason])
        for fault in paths.faults(path, now, ExtendedKeyUsageOID.SERVER_AUTH)
        if bundle or fault.reason not in {RefusalReason.UNKNOWN_CA, RefusalReason.SELF_SIGNED}
    ]
    for anchor in path.certificates[len(path.sent) :]:
        if anchor.version is not x509.Version.v1 and paths.constraints(anchor) is None:
            what = f"{title(anchor)} lacks basicConstraints CA:TRUE: devices with OpenSSL refuse every server it signs"
            remedy = "Renew the CA with its own key: mtls-ambassador pki renew ca-cert.pem --replace"
            found.append(Finding(Severity.ERROR, "ca_flag_missing", what, remedy))
    return [*found, *_host(leaf, host), *(each for certificate in path.sent for each in _weak(certificate, now))]


@_quietly
def authority(certificate: bytes, now: datetime) -> list[Finding]:
    """A CA's own certificate, in the edge's trust bundle and as the issuer of devices and servers.

    Args:
        certificate: DER.
        now: The current time, with its zone.
    """
    try:
        ca = read(certificate)
    except UnreadableError as error:
        return [error.finding]
    found = [*_bundle(ca), *_weak(ca, now)]
    if now > ca.not_valid_after_utc:
        what = f"{title(ca)} expired on {ca.not_valid_after_utc:%Y-%m-%d}: all its devices are refused"
        remedy = "Renew it with its own key: mtls-ambassador pki renew ca-cert.pem --replace"
        found.append(Finding(Severity.ERROR, RefusalReason.ISSUER_EXPIRED.value.label, what, remedy))
    if now < ca.not_valid_before_utc:
        what = f"{title(ca)} is not valid before {ca.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        found.append(Finding(Severity.ERROR, RefusalReason.ISSUER_NOT_YET_VALID.value.label, what, _CLOCK))
    return [*found, *_authority_extensions(ca)]


@_quietly
def key_of(certificate: bytes, public_key: bytes) -> list[Finding]:
    """Whether a certificate is for this key.

    Args:
        certificate: DER.
        public_key: SubjectPublicKeyInfo, DER.
    """
    try:
        same = _spki(read(certificate)) == public_key
    except UnreadableError as error:
        return [error.finding]
    if same:
        return []
    what = "the private key does not belong to the certificate"
    remedy = "Give the key that the certificate was issued for; the first certificate in a file counts."
    return [Finding(Severity.ERROR, "key_mismatch", what, remedy)]


class UnreadableError(ValueError):
    """A certificate cannot be parsed, by us or by TLS at the edge."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.finding = Finding(
            Severity.ERROR,
            RefusalReason.CERTIFICATE_UNREADABLE.value.label,
            f"the certificate cannot be read: {detail}",
            "Issue it anew; look at it with: openssl x509 -noout -text, openssl asn1parse",
        )


def read(data: bytes) -> x509.Certificate:
    """Parse a certificate wholly, so that nothing in it raises later.

    Raises:
        UnreadableError: it cannot be parsed, as the edge cannot.
    """
    try:
        certificate = x509.load_der_x509_certificate(data)
        for part in (certificate.subject, certificate.issuer, certificate.extensions):
            list(part)
        if certificate.version is x509.Version.v1 and len(certificate.extensions):
            raise ValueError("it is of version 1 and has extensions")
    except _UNREADABLE as error:
        raise UnreadableError(str(error) or type(error).__name__) from error
    return certificate


def _refusal(fault: paths.Fault) -> Finding:
    refusal = fault.reason.value
    return Finding(Severity.ERROR, refusal.label, fault.what, fault.remedy or refusal.remedy)


def _warning(code: str, what: str, remedy: str) -> Finding:
    return Finding(Severity.WARNING, code, what, remedy)


def _bundle(anchor: x509.Certificate) -> Iterator[Finding]:
    for problem in judge_device_ca(anchor, "tenant_ca_pem"):
        what = f"{title(anchor)} {problem.what}: with it in tenant_ca_pem the edge does not start"
        yield Finding(Severity.ERROR, NOT_STARTED, what, problem.remedy)


def _together(anchors: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for problem in confused({"": "tenant_ca_pem"}, {"": anchors}):
        what = f"{problem.subject} {problem.what}; the edge does not start"
        yield Finding(Severity.ERROR, NOT_STARTED, what, problem.remedy)


def _weak(certificate: x509.Certificate, now: datetime) -> Iterator[Finding]:
    name = title(certificate)
    key = certificate.public_key() if paths.usable_key(certificate) else None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        yield _warning("weak_key", f"{name} has an RSA key of {key.key_size} bits", "Make a new key, best on P-256.")
    if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e < 65537:
        yield _warning("weak_exponent", f"the RSA key of {name} has a small exponent", "Make a new key.")
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1):
        yield _warning("weak_signature", f"{name} is signed with SHA-1", "Issue it anew, with SHA-256.")
    serial = certificate.serial_number
    if serial <= 0 or serial.bit_length() > 159:
        what = f"the serial number of {name} is not positive, or longer than 20 octets (RFC 5280 section 4.1.2.2)"
        yield _warning("odd_serial", what, "Issue it anew; revocation lists and blacklists may not know such a number.")
    left = certificate.not_valid_after_utc - now
    if timedelta(0) < left < SOON:
        yield _warning("expires_soon", f"{name} expires in {left.days} days", "Renew it: mtls-ambassador pki renew")


def _identity(leaf: x509.Certificate) -> Iterator[Finding]:
    common_names = [str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    name = title(leaf)
    if not list(leaf.subject):
        what = "the subject is empty: a key rotation cannot be told from a takeover, and nobody finds it in a log"
        yield _warning("empty_subject", what, "Issue it with a common name, unlike every other device's.")
    elif len(common_names) != 1 or not common_names[0]:
        what = f"{name} has {len(common_names) or 'no'} common names, or an empty one"
        yield _warning("odd_common_name", what, "Issue it with exactly one common name.")
    for text in common_names:
        if len(text) > 64:
            what = f"the common name has {len(text)} characters (RFC 5280: at most 64)"
            yield _warning("long_common_name", what, "Issue it with a shorter one.")
        if text and not text.isprintable():
            what = f"the common name {text!r} has characters that cannot be printed"
            yield _warning("unprintable_common_name", what, "Issue it with plain text.")
        if "*" in text:
            what = f"the common name {text!r} has a wildcard, which means nothing for a device"
            yield _warning("wildcard", what, "Give each device a name of its own.")
    if paths.purposes(leaf) is None:
        what = f"{name} does not say that it is a TLS client's (extended key usage clientAuth)"
        yield _warning("no_purpose", what, "Issue it with clientAuth, so that it is good for nothing else.")
    usage = paths.key_usage(leaf)
    if usage is not None and usage.key_cert_sign:
        yield _warning("cert_sign", f"the key usage of {name} has keyCertSign, though it is no CA", "Issue it without.")


def _host(leaf: x509.Certificate, host: str | None) -> Iterator[Finding]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns, addresses = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)
    except x509.ExtensionNotFound:
        what = (
            f"{title(leaf)} has no subjectAltName: Mender's clients take its common name, mender-cli and others do not"
        )
        yield _warning("san_missing", what, "Renew it: mtls-ambassador pki renew server-cert.pem --replace")
        dns = [str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        addresses = []
    if host is None:
        return
    try:
        wanted = general_name(host)
    except ProfileError as error:
        yield Finding(Severity.ERROR, "wrong_host", error.what, error.remedy)
        return
    if isinstance(wanted, x509.IPAddress):
        matches = wanted.value in addresses
    else:
        parent = host.lower().partition(".")[2]
        matches = any(name.lower() in {host.lower(), f"*.{parent}"} for name in dns)
    if not matches:
        what = f"{title(leaf)} is not for {host}, but for {', '.join([*dns, *map(str, addresses)]) or 'nothing'}"
        remedy = f"Issue it with that name: mtls-ambassador pki server --cn {host}"
        yield Finding(Severity.ERROR, "wrong_host", what, remedy)


def _authority_extensions(ca: x509.Certificate) -> Iterator[Finding]:
    name, renew = (
        title(ca),
        "Renew it with its own key, which adds that: mtls-ambassador pki renew ca-cert.pem --replace",
    )
    usage = paths.key_usage(ca)
    if not paths.usable_key(ca):
        what = f"the key of {name} is of a kind that TLS here cannot use: its devices are refused"
        reason = RefusalReason.UNSUPPORTED_CERTIFICATE_KEY.value
        yield Finding(Severity.ERROR, reason.label, what, "Make another CA: mtls-ambassador pki init")
    if usage is not None and not usage.key_cert_sign:
        what = f"the key usage of {name} lacks keyCertSign: its devices are refused"
        yield Finding(Severity.ERROR, RefusalReason.UNKNOWN_CA.value.label, what, renew)
    if usage is not None and not usage.crl_sign:
        yield _warning("no_crl_sign", f"the key usage of {name} lacks cRLSign: it cannot revoke", renew)
    if ca.version is x509.Version.v1:
        what = f"{name} is of X.509 version 1, without extensions: nothing says that it is a CA"
        yield _warning("version_1", what, renew)
    elif paths.constraints(ca) is None:
        what = f"{name} lacks basicConstraints CA:TRUE: devices with OpenSSL refuse every server it signs"
        yield _warning("ca_flag_missing", what, renew)
    try:
        ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        what = f"{name} has no key identifier: beside another CA of the same name its devices would be refused"
        yield _warning("no_key_identifier", what, renew)
    if not list(ca.subject):
        yield _warning("empty_subject", "the CA has no name", "Make another CA: mtls-ambassador pki init --cn NAME")


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        return spki(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return certificate.fingerprint(hashes.SHA256())  # like no other


_CLOCK = "See that the clock of this machine is right."
_SERVER_REMEDIES = {
    RefusalReason.UNKNOWN_CA: "Put its intermediates into its file, after it, and its root on the devices.",
    RefusalReason.SELF_SIGNED: "Have it signed by a CA that the devices trust: mtls-ambassador pki server",
    RefusalReason.EXPIRED: "Renew it: mtls-ambassador pki renew server-cert.pem --replace",
    RefusalReason.ISSUER_EXPIRED: "Renew that CA with its own key: mtls-ambassador pki renew ca-cert.pem --replace",
    RefusalReason.NOT_YET_VALID: _CLOCK,
    RefusalReason.ISSUER_NOT_YET_VALID: _CLOCK,
    RefusalReason.BAD_SIGNATURE: "Issue it anew; two CAs of one name need key identifiers.",
    RefusalReason.WRONG_PURPOSE: "Issue it with key usage digitalSignature and extended key usage serverAuth.",
    RefusalReason.CRITICAL_EXTENSION: "Issue it without that extension, or not critical.",
    RefusalReason.UNSUPPORTED_CERTIFICATE_KEY: "Use P-256, P-384, P-521, Ed25519, or RSA from 2048 bits.",
}
