"""What the certificates look like: root CA, edge proxy (server) and device. Pure: time and serial are arguments."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from mtls_ambassador.errors import Error
from mtls_ambassador.pki.entries import Reason, Revocation
from mtls_ambassador.pki.keys import PrivateKey, PublicKey

CA_DAYS = 3650
SERVER_DAYS = 730
DEVICE_DAYS = 3650

BACKDATE = timedelta(hours=1)
"""How far notBefore lies in the past: a device's clock may be behind ours when it first sees the certificate."""

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z")  # RFC 3986 section 3, ASCII without spaces
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}\Z")


class ProfileError(Error):
    """A certificate cannot be made from what was asked for."""

    exit_status = 2


@dataclass(frozen=True)
class SubjectFields:
    """The optional part of a subject: what stands beside the common name (RFC 5280 section 4.1.2.6)."""

    organization: str | None = None
    organizational_unit: str | None = None
    email: str | None = None
    country: str | None = None
    locality: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Validity:
    """The time in which a certificate is valid.

    Attributes:
        now: The current time, with its zone.
        days: For how long from now; at least 1.
    """

    now: datetime
    days: int


@dataclass(frozen=True)
class Signer:
    """A CA, as far as it is needed to sign.

    Attributes:
        certificate: Its certificate.
        key: That certificate's private key.
        intermediates: What a holder presents beside its own certificate: this CA's and those above it, nearest first,
            without the root; empty for a root.
    """

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    def presented_pem(self, leaf: x509.Certificate) -> bytes:
        """What the holder of `leaf` shows in TLS: it, then the intermediates."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, *self.intermediates))


def subject(cn: str, fields: SubjectFields | None = None) -> x509.Name:
    """The distinguished name, in the order that the Mender documentation's openssl configuration has.

    Raises:
        ProfileError: a value is empty, too long, or holds a character that its type does not.
    """
    fields = fields or SubjectFields()
    # The most octets are RFC 5280's upper bounds (appendix A.1).
    values: Sequence[tuple[str, ObjectIdentifier, str | None, int]] = (
        ("common name", NameOID.COMMON_NAME, cn, 64),
        ("organization", NameOID.ORGANIZATION_NAME, fields.organization, 64),
        ("organizational unit", NameOID.ORGANIZATIONAL_UNIT_NAME, fields.organizational_unit, 64),
        ("e-mail address", NameOID.EMAIL_ADDRESS, fields.email, 255),
        ("country", NameOID.COUNTRY_NAME, fields.country, 2),
        ("locality", NameOID.LOCALITY_NAME, fields.locality, 128),
        ("state or province", NameOID.STATE_OR_PROVINCE_NAME, fields.state, 128),
    )
    return x509.Name([_attribute(label, oid, text, most) for label, oid, text, most in values if text is not None])


def root_ca(key: PrivateKey, name: x509.Name, validity: Validity, serial: int) -> x509.Certificate:
    """A self-signed root CA: may sign certificates and CRLs, nothing else (RFC 5280 sections 4.2.1.3 and 4.2.1.9).

    Raises:
        ProfileError: the number of days makes no date.
    """
    return _sign(
        _held(_issued(name, validity), key.public_key(), name, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True),
        key,
    )


def intermediate_ca(
    key: PublicKey, name: x509.Name, *, validity: Validity, serial: int, signer: Signer
) -> x509.Certificate:
    """A CA under another one: may sign leaves and CRLs, but no further CA (RFC 5280 section 4.2.1.9: path length 0).

    Raises:
        ProfileError: the number of days makes no date.
    """
    return _sign(
        _held(_issued(signer.certificate.subject, validity), key, name, serial)
        .add_extension(_authority_identifier(signer), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True),
        signer.key,
    )


def server(
    key: PublicKey,
    name: x509.Name,
    san: Iterable[str | x509.GeneralName] = (),
    *,
    validity: Validity,
    serial: int,
    signer: Signer,
) -> x509.Certificate:
    """An edge proxy's certificate: TLS server only, its names in subjectAltName (RFC 5280 section 4.2.1.6).

    Clients look for the host in subjectAltName alone (RFC 9525): the common name is repeated there.

    Args:
        key: The server's public key.
        name: The subject; its common name is a host name or address that devices connect to.
        san: More of them: `DNS:name`, `IP:address`, or without the prefix.
        validity: When it is valid.
        serial: Its serial number.
        signer: The CA.

    Raises:
        ProfileError: a name is neither a host name nor an address, or the number of days makes no date.
    """
    cn = _common_name(name)
    more = [general_name(entry) for entry in san]
    # Beside explicit names the common name may be a mere title, such as "Edge in Oslo".
    own = [general_name(cn)] if is_host_name(cn.removeprefix("*.")) or _address(cn) or not more else []
    builder = _held(_pattern(validity, signer, ExtendedKeyUsageOID.SERVER_AUTH), key, name, serial)
    return _sign(_named(builder, name, [*own, *more]), signer.key)


def device(
    key: PublicKey,
    name: x509.Name,
    san: Iterable[str | x509.GeneralName] = (),
    *,
    validity: Validity,
    serial: int,
    signer: Signer,
) -> x509.Certificate:
    """A device's certificate: TLS client only; a common name that is a host name is repeated in subjectAltName.

    Args:
        key: The device's public key.
        name: The subject; it may be empty if there is a `san`.
        san: More names: `DNS:name`, `IP:address`, `URI:uri`.
        validity: When it is valid.
        serial: Its serial number.
        signer: The CA.

    Raises:
        ProfileError: a name is none, or the number of days makes no date.
    """
    return device_like(device_pattern(validity, signer), key, name, san, serial=serial, signer=signer)


def device_pattern(validity: Validity, signer: Signer) -> x509.CertificateBuilder:
    """What all devices' certificates of one time and one CA have in common, for `device_like`.

    Raises:
        ProfileError: the number of days makes no date.
    """
    return _pattern(validity, signer, ExtendedKeyUsageOID.CLIENT_AUTH)


def device_like(
    pattern: x509.CertificateBuilder,
    key: PublicKey,
    name: x509.Name,
    san: Iterable[str | x509.GeneralName] = (),
    *,
    serial: int,
    signer: Signer,
) -> x509.Certificate:
    """The same as `device`, where many are made of one pattern: that costs a fifth less.

    Raises:
        ProfileError: a name is none.
    """
    cn = _common_name(name)
    own = [x509.DNSName(cn)] if is_host_name(cn) else []
    builder = _held(pattern, key, name, serial)
    return _sign(_named(builder, name, [*own, *(general_name(entry) for entry in san)]), signer.key)


def revocation_list(
    signer: Signer, revoked: Iterable[Revocation], validity: Validity, number: int
) -> x509.CertificateRevocationList:
    """A CRL (RFC 5280 section 5), which needs no order of its entries.

    Raises:
        ProfileError: the number of days makes no date.
    """
    begin, end = period(validity)
    # Given all at once: the builder would copy its list for each one added, which takes hours for a hundred thousand.
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=[_revoked(each) for each in revoked])
    return (
        builder.issuer_name(signer.certificate.subject)
        .last_update(begin)
        .next_update(end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_identifier(signer), critical=False)
        .sign(signer.key, _digest(signer.key))
    )


def is_host_name(text: str) -> bool:
    """Whether the text is a host name (RFC 1123 section 2.1): letters, digits, inner hyphens, dots; not an address."""
    return _HOST_NAME.match(text) is not None


def general_name(entry: str | x509.GeneralName) -> x509.GeneralName:
    """A subjectAltName entry from `DNS:name`, `IP:address`, either without its prefix, or `URI:uri`.

    One that is a name already, such as from another certificate, is returned as it is.

    Raises:
        ProfileError: the value is neither a host name (`*.` may precede it) nor an address nor a URI.
    """
    if isinstance(entry, x509.GeneralName):
        return entry
    kind, _, value = entry.partition(":")
    if kind == "URI" and _URI.match(value):
        return x509.UniformResourceIdentifier(value)
    if kind == "DNS":
        text, address = value, None
    elif kind == "IP":
        text, address = "", _address(value)
    else:
        text, address = entry, _address(entry)
    if address:
        return x509.IPAddress(address)
    if is_host_name(text.removeprefix("*.")):
        return x509.DNSName(text)
    raise ProfileError(
        f"{entry!r} is neither a host name nor an IP address nor a URI",
        "Give DNS:name, IP:address or URI:uri; a name in another script in its xn-- form.",
    )


def names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    """What stands in a certificate's subjectAltName, as `server` and `device` take it."""
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _attribute(label: str, oid: ObjectIdentifier, text: str, most: int) -> x509.NameAttribute[str]:
    if not text or not text.isprintable():
        raise ProfileError(f"the {label} {text!r} is empty or has unprintable characters", "Give it as plain text.")
    if oid == NameOID.COUNTRY_NAME and not re.fullmatch("[A-Za-z]{2}", text):
        raise ProfileError(f"the {label} {text!r} is not a country code", "Give two letters (ISO 3166), such as NO.")
    if oid == NameOID.EMAIL_ADDRESS and not text.isascii():
        raise ProfileError(f"the {label} {text!r} is not ASCII", "Give its domain in the xn-- form.")
    if len(text.encode()) > most:
        raise ProfileError(f"the {label} {text!r} is too long for a certificate", f"Give at most {most} bytes.")
    return x509.NameAttribute(oid, text)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _issued(issuer: x509.Name, validity: Validity) -> x509.CertificateBuilder:
    begin, end = period(validity)
    return x509.CertificateBuilder().issuer_name(issuer).not_valid_before(begin).not_valid_after(end)


def _held(builder: x509.CertificateBuilder, key: PublicKey, name: x509.Name, serial: int) -> x509.CertificateBuilder:
    return (
        builder.subject_name(name)
        .public_key(key)
        .serial_number(serial)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def period(validity: Validity) -> tuple[datetime, datetime]:
    """The notBefore and notAfter of a certificate.

    Raises:
        ProfileError: the number of days makes no date.
    """
    now = validity.now.replace(microsecond=0)
    try:
        if validity.days < 1:
            raise OverflowError
        return now - BACKDATE, now + timedelta(days=validity.days)
    except OverflowError as error:
        raise ProfileError(
            f"a certificate cannot be valid for {validity.days} days", "Give at least 1, and no year after 9999."
        ) from error


def _pattern(validity: Validity, signer: Signer, purpose: ObjectIdentifier) -> x509.CertificateBuilder:
    # A leaf may outlive its CA's certificate: a CA that is renewed with its key keeps the devices in the field.
    return (
        _issued(signer.certificate.subject, validity)
        .add_extension(_authority_identifier(signer), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )


def _named(
    builder: x509.CertificateBuilder, name: x509.Name, names: Sequence[x509.GeneralName]
) -> x509.CertificateBuilder:
    if not names:
        return builder
    # RFC 5280 section 4.2.1.6: critical if it is all that names the holder.
    return builder.add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(names))), critical=not list(name))


def _revoked(revocation: Revocation) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(int(revocation.serial, 16)).revocation_date(revocation.at)
    if revocation.reason is not Reason.UNSPECIFIED:  # RFC 5280 section 5.3.1: then it should not be there
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(revocation.reason.value)), critical=False)
    return entry.build()


def _authority_identifier(signer: Signer) -> x509.AuthorityKeyIdentifier:
    # RFC 5280 section 4.2.1.1: the issuer's own identifier, however it was made. A CA of X.509 version 1 has none.
    try:
        own = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    return builder.sign(key, _digest(key))


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    # A hash as strong as the curve (RFC 5480 section 4); RSA of any size with SHA-256.
    bits = key.key_size if isinstance(key, ec.EllipticCurvePrivateKey) else 256
    return hashes.SHA256() if bits <= 256 else hashes.SHA384() if bits <= 384 else hashes.SHA512()
