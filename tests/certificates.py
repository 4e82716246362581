"""The one builder of certificates for all tests: good ones, odd ones, and those of Mender's own document by `openssl`.

It shares no code with `mtls_ambassador.pki`, so that a mistake there cannot hide itself here.

    ca = CertificateAuthority("My CA")
    leaf = ca.intermediate("Line 1").device("dev-1", key="ed25519")
    certificate, key = leaf.write(tmp_path, "device")
"""

from __future__ import annotations

import functools
import ipaddress
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypedDict, Unpack, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
KeyKind = Literal["p256", "p384", "p521", "secp256k1", "ed25519", "rsa1024", "rsa2048", "rsa3072", "rsa4096"]

_CURVES: Mapping[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}
_SUBJECT_FIELDS: Mapping[str, ObjectIdentifier] = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
}
_PURPOSES: Mapping[str, ObjectIdentifier] = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_KEY_USAGES: Mapping[str, str] = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}


def new_key(kind: KeyKind = "p256") -> PrivateKey:
    """A new private key of this kind, RSA too (which is slow: see `key="rsa2048"` of the builders)."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))


@functools.cache
def _shared_key(kind: KeyKind, role: str) -> PrivateKey:
    # A new RSA key takes up to seconds. Roles keep an issuer's key from being its leaf's too.
    return new_key(kind)


def _key(key: KeyKind | PrivateKey, role: str) -> PrivateKey:
    if not isinstance(key, str):
        return key
    return _shared_key(key, role) if key.startswith("rsa") else new_key(key)


class Properties(TypedDict, total=False):
    """What a certificate may be built with, odd or not; None leaves an extension out.

    Attributes:
        key: The holder's key or its kind. EC and Ed25519 keys are new each time; those of an RSA kind are shared by
            all roots and by all others of this process (give `new_key("rsa2048")` where two must differ).
        not_before: An hour ago by default.
        not_after: In 30 days by default.
        san: Such as `DNS:localhost`, `IP:127.0.0.1`, `URI:urn:x`, `email:a@b.c`; `()` for no extension.
        eku: Of clientAuth, serverAuth, codeSigning, any.
        key_usage: By openssl's names, such as digitalSignature.
        ca: The flag in basicConstraints.
        path_length: With `ca`, the path length constraint.
        serial: Random by default.
        subject: More fields by their short names (O, OU, C, ...), or the whole name, which may be empty.
        key_identifiers: Whether to write the subject's and the authority's; the seed document's openssl does not.
        extensions: More of them, each with whether it is critical.
    """

    key: KeyKind | PrivateKey
    not_before: datetime
    not_after: datetime
    san: Iterable[str]
    eku: Iterable[str] | None
    key_usage: Iterable[str] | None
    ca: bool | None
    path_length: int | None
    serial: int
    subject: Mapping[str, str] | x509.Name
    key_identifiers: bool
    extensions: Iterable[tuple[x509.ExtensionType, bool]]


@dataclass(frozen=True)
class Holder:
    """A certificate with its private key, and the intermediates that its holder presents with it.

    Attributes:
        certificate: Whose key `key` is.
        key: The private key.
        intermediates: Issuers, nearest first, without the root.
    """

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate alone, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        """What a TLS peer presents: the certificate, then the intermediates."""
        return self.pem + b"".join(issuer.public_bytes(Encoding.PEM) for issuer in self.intermediates)

    @property
    def key_pem(self) -> bytes:
        """The private key, PKCS #8, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_key_pem(self) -> bytes:
        """The public key, SubjectPublicKeyInfo: the form of `pubkey` in Mender's auth request."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def serial(self) -> str:
        """The serial number as Envoy writes it: lowercase hex, whole bytes."""
        digits = f"{self.certificate.serial_number:x}"
        return "0" * (len(digits) % 2) + digits

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER, lowercase hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write `name`.pem (with the intermediates) and `name`.key (0600); their paths."""
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        directory.mkdir(parents=True, exist_ok=True)
        certificate.write_bytes(self.chain_pem)
        key.touch(0o600)
        key.write_bytes(self.key_pem)
        return certificate, key


@dataclass(frozen=True)
class Issuer(Holder):
    """A holder that signs certificates and revocation lists."""

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Issuer:
        """The issuer in these PEM files, which something else made."""
        private = load_pem_private_key(key.read_bytes(), None)
        assert isinstance(private, PrivateKey)
        return Issuer(x509.load_pem_x509_certificate(certificate.read_bytes()), private)

    def intermediate(self, name: str, **properties: Unpack[Properties]) -> Issuer:
        """A CA under this one; what it issues carries it in `intermediates`."""
        usual: Properties = {"key_usage": ("keyCertSign", "cRLSign"), "ca": True}
        holder = self.issue(name, **(usual | properties))
        return Issuer(holder.certificate, holder.key, holder.intermediates)

    def device(self, name: str, **properties: Unpack[Properties]) -> Holder:
        """A device's certificate with the CN `name`."""
        usual: Properties = {"key_usage": ("digitalSignature",), "eku": ("clientAuth",)}
        return self.issue(name, **(usual | properties))

    def server(self, name: str, **properties: Unpack[Properties]) -> Holder:
        """A server's certificate; its `san` is `name` unless given: `()` for none, as in the seed document."""
        usual: Properties = {
            "key_usage": ("digitalSignature",),
            "eku": ("serverAuth",),
            "san": (_san_of(name),),
        }
        return self.issue(name, **(usual | properties))

    def issue(self, name: str, **properties: Unpack[Properties]) -> Holder:
        """Any certificate, signed by this issuer."""
        certificate, key = _build(name, self, properties)
        is_root = self.certificate.issuer == self.certificate.subject
        return Holder(certificate, key, () if is_root else (self.certificate, *self.intermediates))

    def impostor(self) -> Issuer:
        """An issuer with this one's certificate and another key: what it signs is forged."""
        return Issuer(self.certificate, new_key(), self.intermediates)

    def crl(
        self,
        revoked: Iterable[Holder | int] = (),
        *,
        last_update: datetime | None = None,
        next_update: datetime | None = None,
        number: int = 1,
    ) -> bytes:
        """A revocation list of holders or serial numbers, PEM; an hour old and good for a day by default."""
        this_update = last_update or datetime.now(UTC) - timedelta(hours=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(this_update)
            .next_update(next_update or datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_authority(self), critical=False)
        )
        for entry in revoked:
            serial = entry if isinstance(entry, int) else entry.certificate.serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update).build()
            )
        return builder.sign(self.key, _digest(self.key)).public_bytes(Encoding.PEM)


@dataclass(frozen=True, init=False)
class CertificateAuthority(Issuer):
    """A self-signed root CA in memory."""

    def __init__(self, name: str = "My CA", **properties: Unpack[Properties]) -> None:
        usual: Properties = {"key_usage": ("keyCertSign", "cRLSign"), "ca": True}
        super().__init__(*_build(name, None, {**usual, **properties}))

    def renewed(self, **properties: Unpack[Properties]) -> CertificateAuthority:
        """The same name and key in a new certificate."""
        same: Properties = {"key": self.key, "subject": self.certificate.subject}
        return CertificateAuthority(**(same | properties))


def self_signed(name: str = "dev-1", **properties: Unpack[Properties]) -> Holder:
    """A device's certificate that no CA has signed; without keyUsage, as `openssl req -x509` makes it."""
    usual: Properties = {"eku": ("clientAuth",)}
    return Holder(*_build(name, None, {**usual, **properties}))


def _build(name: str, issuer: Holder | None, properties: Properties) -> tuple[x509.Certificate, PrivateKey]:
    assert properties.keys() <= Properties.__annotations__.keys(), properties.keys()
    key = _key(properties.get("key", "p256"), "leaf" if issuer else "root")
    subject = _name(name, properties.get("subject"))
    now = datetime.now(UTC)
    serial = properties.get("serial")
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(properties.get("not_before") or now - timedelta(hours=1))
        .not_valid_after(properties.get("not_after") or now + timedelta(days=30))
    )
    ca = properties.get("ca", False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, properties.get("path_length")), critical=True)
    if (usages := properties.get("key_usage")) is not None:
        builder = builder.add_extension(_key_usage(usages), critical=True)
    if (purposes := properties.get("eku")) is not None:
        purpose_ids = [_PURPOSES[purpose] for purpose in purposes]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purpose_ids), critical=False)
    if names := [_general_name(entry) for entry in properties.get("san", ())]:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if properties.get("key_identifiers", True):
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if issuer:
            builder = builder.add_extension(_authority(issuer), critical=False)
    for extension, critical in properties.get("extensions", ()):
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, _digest(signer)), key


def _authority(issuer: Holder) -> x509.AuthorityKeyIdentifier:
    # From the certificate, not from the key: an impostor claims the identifier of whom it plays.
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(
        cast("CertificateIssuerPublicKeyTypes", issuer.certificate.public_key())
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:
        return hashes.SHA384() if key.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _name(name: str, subject: Mapping[str, str] | x509.Name | None) -> x509.Name:
    if isinstance(subject, x509.Name):
        return subject
    fields = {"CN": name, **(subject or {})}
    return x509.Name([x509.NameAttribute(_SUBJECT_FIELDS[field], value) for field, value in fields.items()])


def _key_usage(usages: Iterable[str]) -> x509.KeyUsage:
    wanted = {_KEY_USAGES[usage] for usage in usages}
    flags = {flag: flag in wanted for flag in _KEY_USAGES.values()}
    return x509.KeyUsage(**flags, encipher_only=False, decipher_only=False)


def _general_name(entry: str) -> x509.GeneralName:
    kind, _, value = entry.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    kinds: Mapping[str, Callable[[str], x509.GeneralName]] = {
        "DNS": x509.DNSName,
        "URI": x509.UniformResourceIdentifier,
        "email": x509.RFC822Name,
    }
    return kinds[kind](value)


def _san_of(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


@dataclass(frozen=True)
class OddClientCertificate:
    """A client certificate that is not a good device's, and what the edge's handshake makes of it.

    Attributes:
        name: For the test's id.
        build: From the CA that the edge trusts; None: the client presents no certificate.
        reason: Part of Envoy's DOWNSTREAM_TRANSPORT_FAILURE_REASON; None: Envoy accepts it, so that refusing it is the
            admission service's task.
    """

    name: str
    build: Callable[[Issuer], Holder | None]
    reason: str | None


def _ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _with_its_root(ca: CertificateAuthority) -> Holder:
    return replace(ca.device("dev-1"), intermediates=(ca.certificate,))


_UNKNOWN_EXTENSION = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")

ODD_CLIENT_CERTIFICATES: tuple[OddClientCertificate, ...] = (
    OddClientCertificate("no_certificate", lambda _: None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    OddClientCertificate("self_signed", lambda _: self_signed(), "depth_0:_self_signed_certificate"),
    OddClientCertificate(
        "unknown_ca",
        lambda _: CertificateAuthority("Other CA").device("dev-1"),
        "depth_0:_unable_to_get_local_issuer_certificate",
    ),
    OddClientCertificate(
        "unknown_ca_of_the_same_name",
        lambda ca: CertificateAuthority(subject=ca.certificate.subject).device("dev-1"),
        "unable_to_get_local_issuer_certificate",
    ),
    OddClientCertificate(
        "unknown_ca_presented",
        lambda _: _with_its_root(CertificateAuthority("Other CA")),
        "depth_1:_self_signed_certificate_in_certificate_chain",
    ),
    OddClientCertificate(
        "intermediate_not_presented",
        lambda ca: replace(ca.intermediate("Line 1").device("dev-1"), intermediates=()),
        "depth_0:_unable_to_get_local_issuer_certificate",
    ),
    OddClientCertificate(
        "expired",
        lambda ca: ca.device("dev-1", not_before=_ago(2), not_after=_ago(1)),
        "depth_0:_certificate_has_expired",
    ),
    OddClientCertificate(
        "expired_intermediate",
        lambda ca: ca.intermediate("Line 1", not_before=_ago(2), not_after=_ago(1)).device("dev-1"),
        "depth_1:_certificate_has_expired",
    ),
    OddClientCertificate(
        "not_yet_valid",
        lambda ca: ca.device("dev-1", not_before=_ago(-1)),
        "depth_0:_certificate_is_not_yet_valid",
    ),
    OddClientCertificate(
        "not_yet_valid_intermediate",
        lambda ca: ca.intermediate("Line 1", not_before=_ago(-1)).device("dev-1"),
        "depth_1:_certificate_is_not_yet_valid",
    ),
    OddClientCertificate(
        "server_auth_only",
        lambda ca: ca.device("dev-1", eku=("serverAuth",)),
        "unsupported_certificate_purpose",
    ),
    OddClientCertificate(
        "any_purpose_only", lambda ca: ca.device("dev-1", eku=("any",)), "unsupported_certificate_purpose"
    ),
    OddClientCertificate(
        "no_digital_signature",
        lambda ca: ca.device("dev-1", key_usage=("keyAgreement",)),
        "KEY_USAGE_BIT_INCORRECT",
    ),
    OddClientCertificate("forged", lambda ca: ca.impostor().device("dev-1"), "certificate_signature_failure"),
    OddClientCertificate(
        "issued_by_a_leaf",
        lambda ca: ca.intermediate("dev-1", ca=False).device("dev-2"),
        "invalid_CA_certificate",
    ),
    OddClientCertificate(
        "issuer_without_key_cert_sign",
        lambda ca: ca.intermediate("Line 1", key_usage=("digitalSignature",)).device("dev-1"),
        "unable_to_get_local_issuer_certificate",
    ),
    OddClientCertificate(
        "unknown_critical_extension",
        lambda ca: ca.device("dev-1", extensions=[(_UNKNOWN_EXTENSION, True)]),
        "unhandled_critical_extension",
    ),
    OddClientCertificate("server", lambda ca: ca.server("localhost"), "unsupported_certificate_purpose"),
    OddClientCertificate("server_without_purpose", lambda ca: ca.server("localhost", eku=None), None),
    OddClientCertificate("ca_true_leaf", lambda ca: ca.device("dev-1", ca=True), None),
    OddClientCertificate("ca_itself", lambda ca: ca, "KEY_USAGE_BIT_INCORRECT"),
    OddClientCertificate("empty_subject", lambda ca: ca.device("", subject=x509.Name([])), None),
)


@dataclass(frozen=True)
class SeedPki:
    """The files that the commands of the seed document, Mender's "Mutual TLS authentication", leave behind."""

    ca_key: Path
    ca_certificate: Path
    server_key: Path
    server_certificate: Path
    device_key: Path
    device_certificate: Path


def seed_pki(directory: Path, domain: str = "my-server.com", ca_name: str = "My CA") -> SeedPki:
    """Run the commands of Mender's document "Mutual TLS authentication", character for character, in `directory`.

    Args:
        directory: Where everything is written; made if it is missing.
        domain: The edge proxy's name, `MTLS_DOMAIN` in the document.
        ca_name: The CA's `commonName`.

    Raises:
        subprocess.CalledProcessError: a command failed; its note holds what it said.
    """
    directory.mkdir(parents=True, exist_ok=True)
    commands = _SEED_COMMANDS.replace("my-server.com", domain).replace("=My CA", f"={ca_name}")
    try:
        subprocess.run(
            ["bash", "-euo", "pipefail"], input=commands, cwd=directory, check=True, text=True, capture_output=True
        )
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    return SeedPki(
        ca_key=directory / "ca-private.key",
        ca_certificate=directory / "ca-cert.pem",
        server_key=directory / "server-private.key",
        server_certificate=directory / "server-cert.pem",
        device_key=directory / "device-private.key",
        device_certificate=directory / "device-cert.pem",
    )


_SEED_COMMANDS = r"""
openssl ecparam -genkey -name P-256 -noout -out ca-private.key

cat > ca-cert.conf <<EOF
[req]
distinguished_name = req_distinguished_name
prompt = no

[req_distinguished_name]
commonName=My CA
organizationName=My Organization
organizationalUnitName=My Unit
emailAddress=myusername@example.com
countryName=NO
localityName=Oslo
stateOrProvinceName=Oslo
EOF

openssl req -new -x509 -key ca-private.key -out ca-cert.pem -config ca-cert.conf -days $((365*10))

openssl ecparam -genkey -name P-256 -noout -out server-private.key

MTLS_DOMAIN="my-server.com"

cat > server-cert.conf <<EOF
[req]
distinguished_name = req_distinguished_name
prompt = no

[req_distinguished_name]
commonName=$MTLS_DOMAIN
organizationName=My Organization
organizationalUnitName=My Unit
emailAddress=myusername@example.com
countryName=NO
localityName=Oslo
stateOrProvinceName=Oslo
EOF

openssl req -new -key server-private.key -out server-cert.req -config server-cert.conf

openssl x509 -req -CA ca-cert.pem -CAkey ca-private.key -CAcreateserial -in server-cert.req -out server-cert.pem -days $((365*2))

openssl ecparam -genkey -name P-256 -noout -out device-private.key

cat > device-cert.conf <<EOF
[req]
distinguished_name = req_distinguished_name
prompt = no

[req_distinguished_name]
commonName=my-device-hostname.com
organizationName=My Organization
organizationalUnitName=My Unit
emailAddress=myusername@example.com
countryName=NO
localityName=Oslo
stateOrProvinceName=Oslo
EOF

openssl req -new -key device-private.key -out device-cert.req -config device-cert.conf

openssl x509 -req -CA ca-cert.pem -CAkey ca-private.key -CAcreateserial -in device-cert.req -out device-cert.pem -days $((365*10))
"""  # noqa: E501
